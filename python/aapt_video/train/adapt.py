"""Stage `adapt`: the bidirectional model becomes causal and recycles its frames (AAPT section 3.2).

Teacher forcing: position k sees x_t^k, the true clean latent k-1 through its channels, and the noisy positions before
it through block-causal attention under the window. All positions of a clip share their timestep, so one pass over T
positions leaks nothing: a latent's own clean value is an input of later positions only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aapt_video.worlds.dataset import VideoDataset

from .clips import ClipConfig, Clips, ConditionSource
from .codec import edge_energy
from .latent_stage import LatentStage, RecycledConfig, first_clips
from .losses import noised, shifted_grid, velocity_loss
from .optimiser import OptimiserConfig
from .parallel import Processes
from .places import Places
from .predictor import Predictor, load_predictor
from .sampling import euler, one_step, predicted, roll_out
from .stage import Loss, RunConfig


@dataclass(frozen=True)
class AdaptConfig:
    """The causal model's window, its data and its optimiser."""

    run: RunConfig
    window: int = 30
    """N, past latent frames that a position sees beside the pinned first one."""
    condition: ConditionSource = "camera"
    """As in the stage before."""
    clips: ClipConfig = field(default_factory=ClipConfig)
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(muon_lr=0.02))
    shift: float = 0.0
    """Timestep shift; 0: by the size of a clip, see `losses.shift_for`."""
    recycled: RecycledConfig = field(default_factory=RecycledConfig)
    """What stands for the clean latents that positions recycle."""
    sample_steps: int = 8
    """Euler steps of the samples that are measured and shown."""
    held_out_clips: int = 12
    """Clips that are measured."""


class AdaptStage(LatentStage):
    """Trains the causal model.

    Args:
        places: `data`, `codec`, `held_out`; `init` is a result of `diffusion`, or of `adapt` to go on from.
    """

    name: ClassVar[str] = "adapt"
    config: AdaptConfig

    def __init__(self, config: AdaptConfig, places: Places, processes: Processes, quiet: bool = False) -> None:
        super().__init__(
            config, config.run, config.clips, config.optimiser, config.condition, config.held_out_clips,
            places, processes, quiet,
        )  # fmt: skip

    def _build(self, data: VideoDataset, places: Places, condition: ConditionSource) -> Predictor:
        if places.init is None:
            raise ValueError("init is not given: name the folder of the diffusion stage's result (--init)")
        # The pinned position may seem as far away as training has shown it, and no farther.
        longest = max(self.config.window, self.config.clips.frames - 1)
        return load_predictor(places.init).recast(causal=True, window=self.config.window, pinned_cap=longest)

    def loss(self, step: int, batch: Clips, turn: str) -> Loss:
        clips = batch.to(self.device)
        t, noise = self.draw(clips, self.shift(self.config.shift))
        previous = self.recycled(clips, self.config.recycled)
        velocity = predicted(self.predictor, clips, previous, self.run.recompute)
        loss = velocity_loss(velocity(noised(clips.x0, noise, t), t), clips.x0, noise)
        return Loss(loss, {})

    def measure(self) -> dict[str, float]:
        """Errors by timestep, and PSNR of one step with the truth as its past, against copying."""
        clips, noise = self.held_out, self.held_out_noise()
        sharp = edge_energy(self.pictures(clips.x0, clips))
        once = one_step(self.predictor, clips, noise)
        return self.errors(clips.previous) | {
            "held_out/psnr_one_step": self.psnr(once, clips.x0),
            "held_out/psnr_of_copying": self.psnr(clips.previous, clips.x0),
            "held_out/edges_one_step": float(edge_energy(self.pictures(once, clips)) / sharp),
        }

    def teacher_forced(self, clips: Clips, noise: Tensor) -> Tensor:
        """Many-step samples [B, T, C, h, w] of all positions at once, each knowing the true latent before it."""
        grid = shifted_grid(self.config.sample_steps, self.shift(self.config.shift))
        return euler(predicted(self.predictor, clips, clips.previous), noise, grid)

    def show(self) -> Tensor:
        """Real frames over frames that the model generated one after the other from its own."""
        grid = shifted_grid(self.config.sample_steps, self.shift(self.config.shift))
        with torch.no_grad():
            return self.side_by_side(
                roll_out(self.predictor, first_clips(self.held_out, 1), self.held_out_noise()[:1], grid)
            )
