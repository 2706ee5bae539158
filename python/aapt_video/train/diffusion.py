"""Stage `diffusion`: the offline model, bidirectional over frames and many steps; what adaptation converts.

A rectified-flow image-to-video model: it knows latent 0 (in the first position's recycled slot; the other positions
have zeros there), the conditions and the prompt, and generates all positions at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from aapt_video.model import NAMED, TransformerConfig
from aapt_video.worlds.dataset import VideoDataset

from .clips import ClipConfig, Clips, ConditionSource
from .latent_stage import LatentStage, first_clips, fresh_predictor
from .losses import noised, shifted_grid, velocity_loss
from .optimiser import OptimiserConfig
from .parallel import Processes
from .places import Places
from .predictor import Predictor, load_predictor
from .sampling import euler, guided, only_first, predicted
from .stage import Loss, RunConfig


@dataclass(frozen=True)
class DiffusionConfig:
    """The model, its data and its optimiser."""

    run: RunConfig
    transformer: TransformerConfig = NAMED["world"]
    """`causal` is set to false here, and to true by adaptation."""
    text_layers: int = 2
    """Layers of the byte encoder, where the transformer knows text."""
    condition: ConditionSource = "camera"
    """The track that steers: what the camera did, what it was told to do (a wall may have been in the way), or the
    body's pose."""
    clips: ClipConfig = field(default_factory=lambda: ClipConfig(drop_condition=0.1))
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(muon_lr=0.02))
    shift: float = 0.0
    """Timestep shift; 0: by the size of a clip, see `losses.shift_for`."""
    sample_steps: int = 24
    """Euler steps of a sample."""
    guidance: float = 1.5
    """Classifier-free guidance of a sample; 1: none."""
    held_out_clips: int = 12
    """Clips that are measured."""


class DiffusionStage(LatentStage):
    """Trains the bidirectional model.

    Args:
        places: `data`, `codec`, `held_out`; `init` continues from another result of this stage.
    """

    name: ClassVar[str] = "diffusion"
    config: DiffusionConfig

    def __init__(self, config: DiffusionConfig, places: Places, processes: Processes, quiet: bool = False) -> None:
        super().__init__(
            config, config.run, config.clips, config.optimiser, config.condition, config.held_out_clips,
            places, processes, quiet,
        )  # fmt: skip

    def _build(self, data: VideoDataset, places: Places, condition: ConditionSource) -> Predictor:
        if places.init is not None:
            return load_predictor(places.init).recast(causal=False)
        transformer = replace(self.config.transformer, causal=False)
        return fresh_predictor(data, transformer, self.config.text_layers, condition)

    def loss(self, step: int, batch: Clips, turn: str) -> Loss:
        clips = batch.to(self.device)
        t, noise = self.draw(clips, self.shift(self.config.shift))
        velocity = predicted(self.predictor, clips, only_first(clips.previous), self.run.recompute)
        loss = velocity_loss(velocity(noised(clips.x0, noise, t), t), clips.x0, noise)
        return Loss(loss, {})

    def measure(self) -> dict[str, float]:
        return self.errors(only_first(self.held_out.previous))

    def sample(self, clips: Clips, noise: Tensor) -> Tensor:
        """Generates all positions [B, T, C, h, w] by `sample_steps` guided Euler steps."""
        grid = shifted_grid(self.config.sample_steps, self.shift(self.config.shift))
        return euler(guided(self.predictor, clips, only_first(clips.previous), self.config.guidance), noise, grid)

    def show(self) -> Tensor:
        """Real frames over a sample."""
        with torch.no_grad():
            return self.side_by_side(self.sample(first_clips(self.held_out, 1), self.held_out_noise()[:1]))
