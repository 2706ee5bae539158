"""What is compared: models that make a video from a start frame, and the real video itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aapt_video.codec import Codec, from_uint8, load_codec, to_uint8
from aapt_video.model.conditions import Camera, Plain, Pose
from aapt_video.model.text import ByteEncoder
from aapt_video.stream import Generator, Limits, load
from aapt_video.stream.noise import gaussian
from aapt_video.train.clips import Clips
from aapt_video.train.export import to_generator
from aapt_video.train.losses import shift_for, shifted_grid
from aapt_video.train.predictor import CONFIG, WEIGHTS, Predictor, PredictorConfig, load_predictor
from aapt_video.train.record import read_record
from aapt_video.train.sampling import roll_out
from aapt_video.worlds.dataset import VideoDataset

Condition = Camera | Pose | Plain
Controls = NDArray[np.float64]
Progress = Callable[[int], Any]


class Player(Protocol):
    """Makes video."""

    name: str
    fingerprint: str
    """Tells players apart by what they would make."""
    grid: Tensor
    """[passes + 1], ascending from 0 to 1: the timesteps of each latent frame's passes."""
    knows_text: bool
    condition: Condition
    predictor: Predictor | None
    """For figures that need single predictions; None where they cannot be had."""
    codec: Codec

    def play(self, start: NDArray[np.uint8], prompt: str, controls: Controls, seed: int, tick: Progress) -> Tensor:
        """uint8 [1 + 4 T, H, W, 3], the start frame [H, W, 3] first.

        Args:
            controls: [T, 4, 4, 4], as `train.clips.controls` gives them; ignored by a model without condition.
            tick: is told the number of latent frames that were made.
        """


class StreamPlayer:
    """A generator, by the streams that users hold: one pass per latent frame."""

    def __init__(self, name: str, generator: Generator) -> None:
        self.name, self.generator, self.codec = name, generator, generator.codec
        encoder = generator.encoder if isinstance(generator.encoder, ByteEncoder) else None
        self.fingerprint = _digest(generator.describe(), generator.weights.model, generator.codec, encoder)
        self.knows_text = generator.config.text != "none"
        self.condition = generator.condition
        self.predictor = _predictor_of(generator)
        self.grid = torch.tensor([0.0, 1.0], device=generator.weights.device)

    def play(self, start: NDArray[np.uint8], prompt: str, controls: Controls, seed: int, tick: Progress) -> Tensor:
        height, width = start.shape[:2]
        words = self._cut(prompt) if self.knows_text else None
        frames = [torch.from_numpy(start)[None]]
        with self.generator.open(words, start, seed, height=height, width=width) as stream:
            for control in controls:
                given = control if isinstance(self.condition, Camera) else None
                frames.append(torch.as_tensor(np.asarray(stream.step(given))))
                tick(1)
        return torch.cat(frames)

    def _cut(self, prompt: str) -> str:
        """A caption that is too long for bytes loses its end, as in training."""
        if not isinstance(self.generator.encoder, ByteEncoder):
            return prompt
        return prompt.encode()[: self.generator.config.text_tokens - 1].decode(errors="ignore")


class StepsPlayer:
    """A causal model that takes several steps for each latent frame; each timestep has a cache of its own.

    Args:
        steps: of the grid, which is shifted as `shift` says.
    """

    def __init__(self, name: str, predictor: Predictor, codec: Codec, steps: int, shift: float) -> None:
        self.name, self.codec = name, codec
        self.predictor: Predictor | None = predictor
        self._model = predictor
        self.grid = shifted_grid(steps, shift).to(predictor.transformer.head.weight.device)
        self.knows_text = predictor.config.transformer.text != "none"
        self.condition = predictor.config.condition
        self.fingerprint = _digest({**predictor.config.to_dict(), "steps": steps, "shift": shift}, predictor, codec)

    @torch.no_grad()
    def play(self, start: NDArray[np.uint8], prompt: str, controls: Controls, seed: int, tick: Progress) -> Tensor:
        device = self.grid.device
        codec, height, width = self.codec, start.shape[0], start.shape[1]
        first = codec.encode(from_uint8(torch.from_numpy(start)[None])[None].to(device))  # [1, C, 1, h, w]
        shape = (first.shape[1], *first.shape[-2:])
        count = len(controls)
        noise = torch.stack([torch.from_numpy(gaussian(seed, k, shape)) for k in range(1, count + 1)])[None]
        condition = None
        if isinstance(self.condition, Camera):
            condition = torch.from_numpy(self.condition.pack(controls, *shape[1:]))[None].to(device)
        clips = Clips(range(1), first.transpose(1, 2).float(), condition, (prompt,))
        latents = roll_out(self._model, clips, noise.to(device), self.grid)
        state = codec.open_decoder(1, height, width)
        codec.decode_step(first[:, :, 0], state)
        frames = [torch.from_numpy(start)[None]]
        for latent in latents[0]:
            pictures = codec.decode_step(latent[None].to(codec.dtype), state)
            frames.append(to_uint8(pictures)[0].cpu())
            tick(1)
        return torch.cat(frames)


def open_player(
    name: str, folder: Path, codec: Path | None, held_out: VideoDataset, steps: int, device: torch.device
) -> Player:
    """The player in a folder: a model folder, or a latent stage's result together with its codec.

    A result of the stage `adapt` takes `steps` passes per latent frame, every other causal one a single pass.

    Args:
        held_out: gives the size of the pictures.

    Raises:
        FileNotFoundError: the folder holds neither.
        ValueError: the model is bidirectional, is steered by poses, or its codec is not given.
    """
    width, height = held_out.size
    if not (folder / CONFIG).is_file():
        generator = load(folder, device, limits=Limits(streams=1, history=0))
        _check_condition(name, generator.condition)
        if (generator.width, generator.height) != held_out.size:
            raise ValueError(
                f"{folder} makes pictures of {generator.width}x{generator.height}, and held_out has {width}x{height}: "
                "make held-out data of the model's size"
            )
        return StreamPlayer(name, generator)
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}: that stage is not finished")
    if codec is None:
        raise ValueError(f"{folder} is a stage's result and holds no codec: name the codec's folder (--codec)")
    predictor = load_predictor(folder, device).eval().requires_grad_(False)
    if not predictor.config.transformer.causal:
        raise ValueError(f"{folder} holds a bidirectional model, which cannot go on frame by frame: adapt it first")
    _check_condition(name, predictor.config.condition)
    record = read_record(folder) or {}
    if record.get("stage") != "adapt":
        return StreamPlayer(name, to_generator(predictor, codec, held_out, 0, name))
    own = load_codec(codec, device).eval().requires_grad_(False)
    transformer, space, settings = predictor.config.transformer, own.config.space, record.get("config", {})
    positions = settings.get("clips", {}).get("frames", 8)
    shift = settings.get("shift") or shift_for(positions * transformer.tokens(height // space, width // space))
    return StepsPlayer(name, predictor, own, steps, shift)


def _check_condition(name: str, condition: Condition) -> None:
    if isinstance(condition, Pose):
        raise ValueError(f"{name} is steered by poses; only models with a camera or without controls can be evaluated")


def _digest(facts: dict[str, Any], *modules: nn.Module | None) -> str:
    """Tells players apart: a hash of their configuration and of every weight."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for module in modules:
        for value in module.state_dict().values() if module is not None else ():
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _predictor_of(generator: Generator) -> Predictor | None:
    """The same weights as a training module; None where the text encoder is another project's."""
    encoder = generator.encoder
    if generator.config.text != "none" and not isinstance(encoder, ByteEncoder):
        return None
    layers = len(encoder.layers) if isinstance(encoder, ByteEncoder) else 0
    with torch.device("meta"):
        predictor = Predictor(PredictorConfig(generator.config, layers, generator.condition))
    predictor.transformer = generator.weights.model
    if isinstance(encoder, ByteEncoder):
        predictor.text = encoder
    return predictor.eval()
