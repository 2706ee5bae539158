"""Stage `distill`: consistency distillation, from many steps to one (AAPT section 3.3; iCT for the target).

f(x_t, t) = x_t - t v_theta(x_t, t) shall be the same along a trajectory of the teacher's flow. The teacher is the
frozen causal model of the stage before, without guidance; a bidirectional one would teach the mean of futures that the
student cannot know.
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
from .losses import consistency_loss, noised, shifted_grid
from .optimiser import OptimiserConfig
from .parallel import Processes
from .places import Places
from .predictor import Predictor, load_causal, load_predictor
from .sampling import euler, one_step, predicted, roll_out
from .stage import Loss, Noise, RunConfig


@dataclass(frozen=True)
class DistillConfig:
    """The grid, the data and the optimiser."""

    run: RunConfig
    grid: int = 32
    """Steps of the fixed grid of timesteps; a short run of a small model learns more from 6 to 8."""
    condition: ConditionSource = "camera"
    """As in the stage before."""
    clips: ClipConfig = field(default_factory=ClipConfig)
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(lr=6e-5))
    """A low learning rate: the target moves with the student."""
    shift: float = 0.0
    """Timestep shift of the grid; 0: by the size of a clip, see `losses.shift_for`."""
    at_noise: float = 0.2
    """Share of clips at t = 1, the only timestep that is used in the end; the others are uniform over the grid."""
    recycled: RecycledConfig = field(default_factory=RecycledConfig)
    """What stands for the clean latents that positions recycle."""
    held_out_clips: int = 12
    """Clips that are measured."""

    def __post_init__(self) -> None:
        if self.grid < 2:
            raise ValueError(f"grid={self.grid} must be >= 2")
        if not 0 <= self.at_noise <= 1:
            raise ValueError(f"at_noise={self.at_noise} must be a share, 0 to 1")


class DistillStage(LatentStage):
    """Trains the one-step model.

    Args:
        places: `data`, `codec`, `held_out`; `init` is the result of `adapt`: teacher and first student.
    """

    name: ClassVar[str] = "distill"
    config: DistillConfig

    def __init__(self, config: DistillConfig, places: Places, processes: Processes, quiet: bool = False) -> None:
        super().__init__(
            config, config.run, config.clips, config.optimiser, config.condition, config.held_out_clips,
            places, processes, quiet,
        )  # fmt: skip
        self.grid = shifted_grid(config.grid, self.shift(config.shift)).to(self.device)
        self.teacher = load_predictor(places.init, self.device) if places.init else self.predictor
        self.teacher.eval().requires_grad_(False)

    def _build(self, data: VideoDataset, places: Places, condition: ConditionSource) -> Predictor:
        return load_causal(places.init, "adapt")

    def loss(self, step: int, batch: Clips, turn: str) -> Loss:
        clips, config = batch.to(self.device), self.config
        noise = Noise(self.run.seed, clips.numbers, self.device, purpose=2)
        luck, pick = noise.uniform(2).unbind(1)
        n = 1 + (pick * config.grid).long().clamp(max=config.grid - 1)
        n = torch.where(luck < config.at_noise, config.grid, n)
        t, r = self.grid[n].float(), self.grid[n - 1].float()
        x_t = noised(clips.x0, noise.normal(*clips.x0.shape[1:]), t)
        previous = self.recycled(clips, config.recycled)
        student = predicted(self.predictor, clips, previous, self.run.recompute)
        teacher = predicted(self.teacher, clips, previous)
        return Loss(consistency_loss(student, teacher, x_t, t, r), {})

    def measure(self) -> dict[str, float]:
        """One step of student and teacher against the teacher's own many-step samples from the same noise.

        Distance to the truth would reward the blurred mean, which one step of the teacher already is.
        """
        clips, noise = self.held_out, self.held_out_noise()
        samples = euler(predicted(self.teacher, clips, clips.previous), noise, self.grid)
        once, mean = one_step(self.predictor, clips, noise), one_step(self.teacher, clips, noise)
        sharp = edge_energy(self.pictures(samples, clips))
        return {
            "held_out/psnr_student": self.psnr(once, samples),
            "held_out/psnr_teacher": self.psnr(mean, samples),
            "held_out/latent_error": float((once - samples).square().mean() / (mean - samples).square().mean()),
            "held_out/edges_student": float(edge_energy(self.pictures(once, clips)) / sharp),
            "held_out/edges_teacher": float(edge_energy(self.pictures(mean, clips)) / sharp),
        }

    def show(self) -> Tensor:
        """Real frames over frames that the student generated from its own, in one step each."""
        with torch.no_grad():
            return self.side_by_side(roll_out(self.predictor, first_clips(self.held_out, 1), self.held_out_noise()[:1]))
