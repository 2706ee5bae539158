"""Stage `adversarial`: the one-step model learns from its own past (AAPT sections 3.4 and 3.5).

Student forcing: from the given latent 0 the generator makes every latent from its own, through its cache, as at
inference; gradients flow through the cached keys, not through the recycled frame. The discriminator then judges the
whole clip in one parallel pass. Long video: segments that overlap, each judged alone, with the cache cut between them
and a backward pass after each, so memory stays that of one segment. Real segments after the first are windows from the
middle of the same longer clips, of the same length and overlap, under the same conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from aapt_video.worlds.dataset import VideoDataset

from .clips import ClipConfig, Clips, ConditionSource
from .codec import edge_energy
from .collapse import Health, Limits
from .contest import Segment, discriminator_loss, generator_loss, motion, penalised_loss
from .discriminator import DiscriminatorConfig, load_discriminator, save_discriminator
from .latent_stage import LatentStage, first_clips
from .losses import approximate_penalty
from .optimiser import OptimiserConfig
from .parallel import Processes
from .places import Places
from .predictor import Predictor, load_causal, save_predictor
from .sampling import Roller, roll_out
from .stage import Loss, Noise, RunConfig

GENERATOR, DISCRIMINATOR = "generator", "discriminator"

CROPPED_AT_LEAST = 4
"""Latent rows and columns of which a crop leaves some."""


def rmsprop(lr: float) -> OptimiserConfig:
    """Adam with betas (0, 0.9) is RMSProp with alpha 0.9."""
    return OptimiserConfig(lr=lr, betas=(0.0, 0.9), schedule="constant")


@dataclass(frozen=True)
class AdversarialConfig:
    """Segments, losses, and the two players."""

    run: RunConfig
    condition: ConditionSource = "camera"
    """As in the stages before."""
    clips: ClipConfig = field(default_factory=ClipConfig)
    """`frames` is T of a segment: the discriminator judges 1 + T latents at a time."""
    segments: int = 1
    """Segments of a generated video."""
    overlap: int = 3
    """Latents of a segment, after the first, that were the end of the segment before."""
    unjudged: int = 0
    """Most segments that a video goes through, unjudged and without gradients, before the first that is judged; every
    update draws how many, few more often than many. Late latents then cost little more than early ones. All but the
    last of them come before the clip begins, steered by its controls over and over: they need no real video."""
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    crop: bool = False
    """Every update draws whether the discriminator sees one latent row less at the top and at the bottom, and whether
    one column less at both sides: seams between the generator's patches then lie inside its own."""
    sigma: float = 0.1
    """Standard deviation of the noise in the approximated R1 and R2, against latents of unit scale. It fits where
    `held_out/linear` is near 1: there the penalty is a squared gradient."""
    penalty: float = 30.0
    """Weight of both; times sigma^2 it is the weight of a squared gradient."""
    penalty_every: int = 1
    """Updates of the discriminator per penalty, which then weighs as many times more: half the work is the penalty's
    (StyleGAN2 calls it lazy regularisation). The paper has 1."""
    warmup: int = 40
    """Updates at the start that train the discriminator alone: its head is new."""
    generator_every: int = 1
    """Updates of the discriminator per update of the generator."""
    regression: float = 0.0
    """Weight of the generator's squared distance to the real clip, in the first segment. The paper has none; a small
    model whose rollouts leave the scene at once learns from it what the discriminator's few bits cannot say."""
    regressed: int = 2
    """Latents at the beginning of that segment whose distance counts. The past and the camera say little of later ones,
    and of what nobody can know the least squares are a blur that stands still."""
    generator_optimiser: OptimiserConfig = field(default_factory=lambda: rmsprop(1e-5))
    discriminator_optimiser: OptimiserConfig = field(default_factory=lambda: rmsprop(3e-5))
    limits: Limits = field(default_factory=Limits)
    """What counts as collapse."""
    held_out_clips: int = 12
    """Clips that are measured."""

    def __post_init__(self) -> None:
        if min(self.segments, self.generator_every, self.penalty_every, self.regressed) < 1:
            raise ValueError("segments, generator_every, penalty_every and regressed must be >= 1")
        if not 1 <= self.overlap <= self.clips.frames:
            raise ValueError(f"overlap={self.overlap} must be 1 to clips.frames={self.clips.frames}")
        if self.sigma <= 0 or min(self.penalty, self.warmup, self.regression, self.unjudged) < 0:
            raise ValueError("sigma must be positive; penalty, warmup, regression and unjudged must not be negative")

    @property
    def step(self) -> int:
        """Latents that each segment after the first adds."""
        return 1 + self.clips.frames - self.overlap

    @property
    def clip_positions(self) -> int:
        """Latents of a real clip after latent 0: the judged segments, and one before them where some go unjudged."""
        return self.clips.frames + (min(1, self.unjudged) + self.segments - 1) * self.step

    @property
    def positions(self) -> int:
        """Latents that are generated at most."""
        return self.clips.frames + (self.unjudged + self.segments - 1) * self.step


class AdversarialStage(LatentStage):
    """Trains generator and discriminator.

    Args:
        places: `data`, `codec`, `held_out`; `init` is the result of `distill`, or of an earlier phase; `discriminator`
            that of `adapt`, or of an earlier phase.
    """

    name: ClassVar[str] = "adversarial"
    config: AdversarialConfig

    def __init__(self, config: AdversarialConfig, places: Places, processes: Processes, quiet: bool = False) -> None:
        if places.discriminator is None:
            raise ValueError("discriminator is not given: name the folder of the adapt stage's result")
        whole = replace(config.clips, frames=config.clip_positions)
        super().__init__(
            config, config.run, whole, config.generator_optimiser, config.condition, config.held_out_clips,
            places, processes, quiet,
        )  # fmt: skip
        height, width = self.held_out.x0.shape[-2:]
        if config.crop and min(height, width) < CROPPED_AT_LEAST:
            raise ValueError(f"crop: latents of {height} x {width} are too small; set crop = false")
        if config.unjudged:
            self.tokens -= self.tokens * config.step // config.clip_positions
        window = 1 + config.clips.frames
        self.discriminator = load_discriminator(places.discriminator, config.discriminator, window).to(self.device)
        self.health = Health(config.limits)
        self._begun_in, self._begun = -1, dict[range, tuple[Roller, Tensor]]()
        self.kept = {"health": self.health.averages}
        self.modules = {GENERATOR: self.predictor, DISCRIMINATOR: self.discriminator}
        self.optimisers = {GENERATOR: config.generator_optimiser, DISCRIMINATOR: config.discriminator_optimiser}

    def _build(self, data: VideoDataset, places: Places, condition: ConditionSource) -> Predictor:
        return load_causal(places.init, "distill")

    # -- training --

    def turns(self, step: int) -> Sequence[str]:
        config = self.config
        if step < config.warmup or (step - config.warmup + 1) % config.generator_every:
            return (DISCRIMINATOR,)
        return (DISCRIMINATOR, GENERATOR)

    def loss(self, step: int, batch: Clips, turn: str) -> Loss:
        (loss,) = self.losses(step, batch, turn)
        return loss

    def losses(self, step: int, batch: Clips, turn: str) -> Iterator[Loss]:
        clips = batch.to(self.device)
        noise = Noise(self.run.seed, clips.numbers, self.device, purpose=4 if turn == DISCRIMINATOR else 5)
        epsilon = noise.normal(*clips.x0.shape[1:])
        times = noise.uniform(self.config.segments)
        skipped = self._skipped(step)
        with torch.set_grad_enabled(turn == GENERATOR):
            roller, fake = self._begin(step, clips, skipped)
        for k in range(self.config.segments):
            begin, end = self._span(min(1, skipped) + k)
            given = fake[:, -(self.config.overlap if begin else 1) :].detach()
            new = slice(begin + given.shape[1] - 1, end - 1)  # position k, from 1 on, has index k - 1
            with torch.set_grad_enabled(turn == GENERATOR):
                if begin:
                    roller.cut()
                fake = torch.cat([given, roller(epsilon[:, new], _again(clips.condition, new.start, new.stop))], 1)
            span = slice(begin, end)
            condition = self._condition(clips, span)
            segment = Segment(clips.latents[:, span], fake, condition, clips.prompts, times[:, k])
            if turn == GENERATOR:
                loss = self._generator_loss(step, segment, self.config.regression if begin == 0 else 0.0)
            else:
                loss = self._discriminator_loss(step, segment, noise)
            scalars = {name: value / self.config.segments for name, value in loss.scalars.items()}
            yield Loss(loss.total / self.config.segments, scalars)

    def _begin(self, step: int, clips: Clips, skipped: int) -> tuple[Roller, Tensor]:
        """Where the first judged segment begins: a roller, and the latents that the clips' first segment has by then,
        latent 0 alone where nothing goes unjudged. Both players of an update begin in the same place."""
        if skipped == 0:
            return self._roller(clips), clips.latents[:, :1]
        if self._begun_in != step:
            self._begun_in, self._begun = step, {}
        if clips.numbers not in self._begun:
            self._begun[clips.numbers] = self._go_unjudged(clips, (skipped - 1) * self.config.step)
        roller, latents = self._begun[clips.numbers]
        return copy(roller), latents

    @torch.no_grad()
    def _go_unjudged(self, clips: Clips, before: int) -> tuple[Roller, Tensor]:
        """Through `before` latents that come before the clip begins, and its first segment."""
        count = before + self.config.clips.frames
        epsilon = Noise(self.run.seed, clips.numbers, self.device, purpose=8).normal(count, *clips.x0.shape[2:])
        roller = self._roller(clips)
        made = roller(epsilon, _again(clips.condition, -before, self.config.clips.frames))
        whole = torch.cat([clips.latents[:, :1], made], 1)
        return roller, whole[:, before:]

    def _roller(self, clips: Clips) -> Roller:
        return Roller(self.predictor, clips.latents[:, 0], clips.prompts, recompute=self.run.recompute)

    def _skipped(self, step: int) -> int:
        """How many segments go by unjudged: the same for all clips, parts and processes of an update."""
        luck = float(Noise(self.run.seed, range(step, step + 1), torch.device("cpu"), purpose=7).uniform())
        return int(luck**2 * (self.config.unjudged + 1))

    def _span(self, segment: int) -> tuple[int, int]:
        """The latents of a segment, from and up to."""
        begin = segment * self.config.step
        return begin, begin + 1 + self.config.clips.frames

    def _condition(self, clips: Clips, span: slice) -> Tensor | None:
        """Of latent k at k; nothing led to latent 0."""
        if clips.condition is None:
            return None
        height, width = clips.latents.shape[-2:]
        fitted = self.predictor.config.condition
        still = torch.from_numpy(fitted.pack(fitted.still()[None], height, width)).to(clips.condition)
        whole = torch.cat([still[None].expand(len(clips.condition), -1, -1, -1, -1), clips.condition], 1)
        return whole[:, span]

    def _generator_loss(self, step: int, segment: Segment, regression: float) -> Loss:
        contest = generator_loss(self.discriminator, segment.cropped(*self._crop(step)), self.run.recompute)
        distance = (segment.fake - segment.real)[:, 1 : 1 + self.config.regressed].square().mean()
        return Loss(contest + regression * distance, {"contest": contest, "distance": distance})

    def _discriminator_loss(self, step: int, segment: Segment, noise: Noise) -> Loss:
        config, seen = self.config, segment.cropped(*self._crop(step))
        if step % config.penalty_every:
            return discriminator_loss(self.discriminator, seen, self.run.recompute)
        weight = config.penalty * config.penalty_every
        return penalised_loss(self.discriminator, seen, noise, config.sigma, weight, self.run.recompute)

    def _crop(self, step: int) -> tuple[int, int]:
        """Latent rows and columns that go unseen at either edge: the same for both players of an update."""
        if not self.config.crop:
            return 0, 0
        luck = Noise(self.run.seed, range(step, step + 1), torch.device("cpu"), purpose=9).uniform(2)
        rows, columns = (luck[0] < 0.5).int().tolist()
        return rows, columns

    def check(self, values: Mapping[str, float]) -> None:
        self.health.check(values)

    # -- looking --

    def measure(self) -> dict[str, float]:
        """Of rollouts on held-out clips: motion, edges and PSNR, at the beginning and at the end; motion and edges of
        the longest videos that are trained; the spread over noise; by how much the discriminator prefers the real
        clips; and `linear`, R1 with half of sigma, times four, over R1: above 1 the logits' rounding is punished, below
        1 the discriminator bends within sigma."""
        clips, noise = self.held_out, self.held_out_noise()
        rolled, other = (roll_out(self.predictor, clips, x) for x in (noise, noise.roll(1, 0)))
        frames = 1 + self.config.clips.frames
        span, t = slice(0, frames), torch.full((len(noise),), 0.5, device=self.device)
        condition = self._condition(clips, span)
        whole = torch.cat([clips.latents[:, :1], rolled], 1)
        real, fake = (x[:, span] for x in (clips.latents, whole))
        away = self.config.sigma * torch.randn(real.shape, generator=torch.Generator().manual_seed(0)).to(real)
        on_real, on_fake, near, nearer = (
            self.discriminator(x, condition, clips.prompts, t) for x in (real, fake, real + away, real + away / 2)
        )
        values = {
            "held_out/gap": float((on_real - on_fake).mean()),
            "held_out/linear": _share(4 * approximate_penalty(on_real, nearer), approximate_penalty(on_real, near)),
            "held_out/motion": float(motion(rolled) / motion(clips.x0)),
            "held_out/spread": float((rolled - other)[:, -1].std() / 2**0.5),
        }
        truth, made = self.pictures(clips.x0, clips), self.pictures(rolled, clips)
        for name, part in (("first", slice(0, 8)), ("last", slice(-8, None))):
            error = (truth[:, :, part] - made[:, :, part]).square().mean()
            values[f"held_out/psnr_{name}"] = float(10 * torch.log10(4 / error))
            values[f"held_out/edges_{name}"] = float(edge_energy(made[:, :, part]) / edge_energy(truth[:, :, part]))
        if self.config.unjudged:
            late = self._late(frames)
            pictures = self.codec.decode(late.transpose(1, 2))[:, :, -8:].float().clamp(-1, 1)
            values["held_out/motion_late"] = float(motion(late) / motion(clips.x0))
            values["held_out/edges_late"] = float(edge_energy(pictures) / edge_energy(truth))
        return values

    def _late(self, frames: int) -> Tensor:
        """The last latents of the longest videos that are trained, from the held-out clips: [n, frames, C, h, w]."""
        clips, count = self.held_out, self.config.positions
        noise = Noise(self.run.seed + 1, clips.numbers, self.device, purpose=3).normal(count, *clips.x0.shape[2:])
        return self._roller(clips)(noise, _again(clips.condition, 0, count))[:, -frames:]

    def show(self) -> Tensor:
        """Real frames over frames that the generator made from its own."""
        with torch.no_grad():
            return self.side_by_side(roll_out(self.predictor, first_clips(self.held_out, 1), self.held_out_noise()[:1]))

    def save(self, out: Path, weights: dict[str, dict[str, Tensor]]) -> None:
        """The generator as `model.*`, and the discriminator for a later phase."""
        save_predictor(out, self.predictor.config, weights[GENERATOR])
        save_discriminator(out, self.discriminator, weights[DISCRIMINATOR])

    def shards(self, name: str) -> tuple[Sequence[Sequence[nn.Module]], Sequence[str]]:
        return self.predictor.shards() if name == GENERATOR else self.discriminator.shards()


def _again(condition: Tensor | None, begin: int, end: int) -> Tensor | None:
    """Positions [begin, end) of [B, T, ...], which goes on over and over in both directions."""
    if condition is None:
        return None
    return condition[:, torch.arange(begin, end, device=condition.device) % condition.shape[1]]


def _share(part: Tensor, whole: Tensor) -> float:
    """part / whole; 0 of nothing."""
    return float(part / whole.clamp_min(1e-30))
