"""What the stages over latents share: data, the predictor, held-out clips, and pictures of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aapt_video.codec import Codec, to_uint8
from aapt_video.worlds.dataset import VideoDataset

from .clips import ClipConfig, Clips, ConditionSource, LatentClips, fit_condition, latents_of
from .losses import clean, noised, psnr, shift, shift_for
from .optimiser import OptimiserConfig
from .parallel import Processes
from .places import Places
from .predictor import Predictor, PredictorConfig, save_predictor
from .sampling import one_step
from .stage import Noise, RunConfig, Stage

MEASURED_TIMESTEPS = (1.0, 0.75, 0.5, 0.25)
_SHOWN_CLIP = 0


@dataclass(frozen=True)
class RecycledConfig:
    """What stands for the clean latents that positions after the first recycle. The default is the paper's, the truth;
    the rest makes a rollout's own errors known beforehand."""

    own: float = 0.0
    """Share of clips that recycle the model's own one-step estimates of the truth."""
    noise: float = 0.0
    """Largest standard deviation of noise on them; of each it is uniform up to that."""

    def __post_init__(self) -> None:
        if not 0 <= self.own <= 1 or self.noise < 0:
            raise ValueError(f"own={self.own} must be a share, 0 to 1, and noise={self.noise} not negative")


class LatentStage(Stage[Clips]):
    """A stage that trains one predictor on clips of latents.

    Subclasses give `predictor` in `_build` and define the loss. `held_out` are clips that are never trained on where
    `places.held_out` is given.
    """

    predictor: Predictor
    codec: Codec

    def __init__(
        self,
        config: Any,
        run: RunConfig,
        clips: ClipConfig,
        optimiser: OptimiserConfig,
        condition: ConditionSource,
        held_out_clips: int,
        places: Places,
        processes: Processes,
        quiet: bool,
    ) -> None:
        if places.codec is None:
            raise ValueError("codec is not given: name the folder of the codec stage's result (--codec)")
        self.config, self.run, self.device = config, run, processes.device
        data = VideoDataset(places.data)
        held_out = VideoDataset(places.held_out) if places.held_out else data
        if processes.rank > 0:
            processes.wait()  # the first process encodes the data, the others then find the latents
        latents, self.codec = latents_of(data, places.codec, clips.phases, self.device, run.precision, quiet)
        held_latents, _ = latents_of(held_out, places.codec, clips.phases, self.device, run.precision, quiet)
        if processes.rank == 0:
            processes.wait()
        torch.manual_seed(run.seed)
        self.predictor = self._build(data, places, condition).to(self.device)
        fitted = self.predictor.config.condition
        self._clips = LatentClips(latents, fitted, condition, clips, run.seed)
        held = LatentClips(held_latents, fitted, condition, clips, run.seed + 1)
        self.held_out = held.without_dropout(held_out_clips).to(self.device)
        self.modules: dict[str, nn.Module] = {"model": self.predictor}
        self.optimisers = {"model": optimiser}
        self.sources = places.describe(data)
        frames, (height, width) = self.held_out.x0.shape[1], self.held_out.x0.shape[-2:]
        self.tokens = frames * self.predictor.config.transformer.tokens(height, width)

    def _build(self, data: VideoDataset, places: Places, condition: ConditionSource) -> Predictor:
        raise NotImplementedError

    def load(self, clips: range) -> Clips:
        return self._clips(clips)

    def shift(self, asked: float) -> float:
        """The timestep shift: as asked, or, for 0, by the size of a clip (`shift_for`)."""
        return asked or shift_for(self.tokens)

    def draw(self, clips: Clips, s: float) -> tuple[Tensor, Tensor]:
        """t [B], uniform and then shifted by s, and noise [B, T, C, h, w]."""
        noise = Noise(self.run.seed, clips.numbers, self.device, purpose=2)
        return shift(noise.uniform(), s), noise.normal(*clips.x0.shape[1:])

    def recycled(self, clips: Clips, config: RecycledConfig) -> Tensor:
        """The latent before each position [B, T, C, h, w]: clean, or as a rollout of one's own would have it."""
        previous = clips.previous
        if config == RecycledConfig():
            return previous
        noise = Noise(self.run.seed, clips.numbers, self.device, purpose=6)
        own = noise.uniform() < config.own
        if own.any():
            with torch.no_grad():
                estimate = one_step(self.predictor, clips, noise.normal(*previous.shape[1:]))
            estimate = torch.cat([previous[:, :1], estimate[:, :-1]], 1)
            previous = torch.where(own.view(-1, 1, 1, 1, 1), estimate, previous)
        strength = config.noise * noise.uniform(previous.shape[1], 1, 1, 1)
        strength[:, 0] = 0
        return previous + strength * noise.normal(*previous.shape[1:])

    def held_out_noise(self) -> Tensor:
        """[n, T, C, h, w], always the same."""
        noise = Noise(self.run.seed + 1, self.held_out.numbers, self.device, purpose=3)
        return noise.normal(*self.held_out.x0.shape[1:])

    def errors(self, previous: Tensor) -> dict[str, float]:
        """Squared error of the estimate of x0 at some timesteps, against that of copying the latent before.

        `error_of_the_mean` is the same for the mean latent: what a model that has learnt nothing can reach at t = 1.
        """
        clips, noise = self.held_out, self.held_out_noise()
        copying = (clips.previous - clips.x0).square().mean()
        mean = clips.x0.mean((0, 1, 3, 4), keepdim=True)
        values = {"held_out/error_of_the_mean": float((mean - clips.x0).square().mean() / copying)}
        for timestep in MEASURED_TIMESTEPS:
            t = torch.full((len(noise),), timestep, device=self.device)
            x_t = noised(clips.x0, noise, t)
            v = self.predictor(x_t, previous, t, clips.condition, clips.prompts).float()
            values[f"held_out/error@{timestep:g}"] = float((clean(x_t, v, t) - clips.x0).square().mean() / copying)
        return values

    def pictures(self, latents: Tensor, clips: Clips) -> Tensor:
        """Decodes [B, T, C, h, w] behind each clip's latent 0: [B, 3, 4 T, H, W] in [-1, 1]."""
        whole = torch.cat([clips.latents[:, :1], latents.to(clips.latents.dtype)], 1).transpose(1, 2)
        return self.codec.decode(whole)[:, :, 1:].float().clamp(-1, 1)

    def psnr(self, a: Tensor, b: Tensor) -> float:
        """Of the pictures of latents [B, T, C, h, w] of the held-out clips, in dB."""
        return float(psnr(self.pictures(a, self.held_out), self.pictures(b, self.held_out)))

    def side_by_side(self, latents: Tensor) -> Tensor:
        """The first held-out clip, real over generated latents [>= 1, T, C, h, w]: uint8 [4 T, 2 H, W, 3]."""
        clips = first_clips(self.held_out, 1)
        both = [self.pictures(x[:1], clips)[0] for x in (clips.x0, latents)]
        return torch.cat([to_uint8(pictures) for pictures in both], 1).cpu()

    def save(self, out: Path, weights: dict[str, dict[str, Tensor]]) -> None:
        """`model.safetensors` and `model.json`."""
        save_predictor(out, self.predictor.config, weights["model"])

    def shards(self, name: str) -> tuple[Sequence[Sequence[nn.Module]], Sequence[str]]:
        return self.predictor.shards()


def first_clips(clips: Clips, count: int) -> Clips:
    """The first `count` of some clips."""
    condition = None if clips.condition is None else clips.condition[:count]
    return Clips(clips.numbers[:count], clips.latents[:count], condition, clips.prompts[:count])


def fresh_predictor(data: VideoDataset, transformer: Any, text_layers: int, condition: ConditionSource) -> Predictor:
    """Random weights; the condition is fitted to the data."""
    fitted = fit_condition(data, condition)
    return Predictor(PredictorConfig(transformer, text_layers, fitted))
