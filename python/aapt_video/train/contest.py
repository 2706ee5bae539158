"""The contest of a segment: what each player loses by the logits of real and generated latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .losses import approximate_penalty, relativistic_loss
from .stage import Loss, Noise


@dataclass(frozen=True)
class Segment:
    """The same latents of some clips, real and generated, with all that the discriminator is told of them."""

    real: Tensor
    """[B, 1 + T, C, h, w]"""
    fake: Tensor
    """[B, 1 + T, C, h, w]"""
    condition: Tensor | None
    """[B, 1 + T, channels, h, w], of latent k at k."""
    prompts: tuple[str, ...]
    t: Tensor
    """[B], the timestep that the discriminator's blocks are told."""

    def cropped(self, rows: int, columns: int) -> Segment:
        """Without so many latent rows at the top and at the bottom, and columns at the left and at the right."""
        height, width = self.real.shape[-2:]
        seen = (..., slice(rows, height - rows), slice(columns, width - columns))
        condition = None if self.condition is None else self.condition[seen]
        return replace(self, real=self.real[seen], fake=self.fake[seen], condition=condition)


def generator_loss(discriminator: nn.Module, segment: Segment, recompute: bool = False) -> Tensor:
    """Small where the generated latents look more real than the real ones. Gradients reach them alone."""
    with _frozen(discriminator):
        with torch.no_grad():
            on_real = discriminator(segment.real, segment.condition, segment.prompts, segment.t)
        on_fake = discriminator(segment.fake, segment.condition, segment.prompts, segment.t, recompute)
    return relativistic_loss(on_fake, on_real)


def discriminator_loss(discriminator: nn.Module, segment: Segment, recompute: bool = False) -> Loss:
    """Small where the real latents look more real, without penalties."""
    return _contest(segment, *_logits(discriminator, (segment.real, segment.fake), segment, recompute))


def penalised_loss(
    discriminator: nn.Module, segment: Segment, noise: Noise, sigma: float, weight: float, recompute: bool = False
) -> Loss:
    """`discriminator_loss`, and `weight` times the approximated R1 and R2 at `sigma`."""
    near = [x + sigma * noise.normal(*x.shape[1:]) for x in (segment.real, segment.fake)]
    versions = (segment.real, segment.fake, *near)
    on_real, on_fake, near_real, near_fake = _logits(discriminator, versions, segment, recompute)
    r1, r2 = approximate_penalty(on_real, near_real), approximate_penalty(on_fake, near_fake)
    contest = _contest(segment, on_real, on_fake)
    return Loss(contest.total + weight * (r1 + r2), {**contest.scalars, "r1": r1, "r2": r2})


def motion(latents: Tensor) -> Tensor:
    """Mean |x_k - x_(k-1)| of [B, T, ...]: the earliest sign of a video that stands still."""
    return latents.diff(dim=1).abs().mean()


def _contest(segment: Segment, on_real: Tensor, on_fake: Tensor) -> Loss:
    """The loss, and what to watch."""
    contest = relativistic_loss(on_real, on_fake)
    scalars = {"contest": contest, "gap": (on_real - on_fake).mean(), "logit": torch.cat([on_real, on_fake]).mean()}
    return Loss(contest, {**scalars, "motion": motion(segment.fake) / motion(segment.real)})


def _logits(
    discriminator: nn.Module, versions: Sequence[Tensor], segment: Segment, recompute: bool
) -> tuple[Tensor, ...]:
    """Of several versions of the segment's latents, in one pass."""
    count = len(versions)
    conditions = None if segment.condition is None else segment.condition.repeat(count, 1, 1, 1, 1)
    prompts, t = segment.prompts * count, segment.t.repeat(count)
    return tuple(discriminator(torch.cat(list(versions)), conditions, prompts, t, recompute).chunk(count))


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Gradients pass through the module and leave none in it."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
