"""How well the next latent is predicted when the true past is given: nothing can have drifted yet."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from aapt_video.codec import from_uint8
from aapt_video.model.conditions import Camera
from aapt_video.train.clips import Clips, ConditionSource, controls
from aapt_video.train.sampling import euler, predicted
from aapt_video.train.stage import Noise
from aapt_video.worlds.dataset import VideoDataset

from .players import Player

POSITIONS = 8
"""Latent frames of a clip that are predicted, all at once."""

_CLIPS = 12  # more made an evaluation of a small model take longer than its training


@dataclass(frozen=True)
class NextLatent:
    """PSNR against the real pictures, dB, over all clips together."""

    model: list[float]
    """Of the prediction, for each seed."""
    codec: float
    """Of real pictures that were encoded and decoded: the ceiling."""
    copying: float
    """Of repeating the true latent before: what a model must beat."""


@torch.no_grad()
def next_latent(player: Player, held_out: VideoDataset, source: ConditionSource, seeds: list[int]) -> NextLatent | None:
    """Predicts held-out latents from the true ones before them; None where the model gives no single predictions."""
    if player.predictor is None:
        return None
    model = copy.deepcopy(player.predictor).float().eval()
    grid = player.grid.to(next(model.parameters()).device)
    errors: dict[str, list[float]] = {name: [] for name in ("codec", "copying", *map(str, seeds))}
    for clips, real in _clips(player, held_out, source):
        first = clips.latents[:, :1]

        def error(latents: Tensor, first: Tensor = first, real: Tensor = real) -> float:
            whole = torch.cat([first, latents], 1).transpose(1, 2).to(player.codec.dtype)
            pictures = player.codec.decode(whole)[:, :, 1:].float().clamp(-1, 1)
            return float((pictures - real).square().mean())

        errors["codec"].append(error(clips.x0))
        errors["copying"].append(error(clips.previous))
        for seed in seeds:
            noise = Noise(seed, clips.numbers, grid.device, purpose=4).normal(*clips.x0.shape[1:])
            errors[str(seed)].append(error(euler(predicted(model, clips, clips.previous), noise, grid)))
    decibels = {name: 10 * math.log10(4 / max(sum(values) / len(values), 1e-12)) for name, values in errors.items()}
    return NextLatent([decibels[str(seed)] for seed in seeds], decibels["codec"], decibels["copying"])


def _clips(player: Player, held_out: VideoDataset, source: ConditionSource) -> Iterator[tuple[Clips, Tensor]]:
    """Held-out clips one by one, as latents, with their real pictures [1, 3, 4 T, H, W]."""
    device = player.grid.device
    for number in range(_CLIPS):
        window = held_out.sample(1 + 4 * POSITIONS, 0, number)
        video = from_uint8(torch.from_numpy(window.video))[None].to(device)
        latents = player.codec.encode(video.to(player.codec.dtype)).float().transpose(1, 2)
        condition = None
        if isinstance(player.condition, Camera):
            transforms = controls(held_out, window.clip, window.start, POSITIONS, source)
            condition = torch.from_numpy(player.condition.pack(transforms, *latents.shape[-2:]))[None].to(device)
        yield Clips(range(number, number + 1), latents, condition, (window.caption,)), video[:, :, 1:]
