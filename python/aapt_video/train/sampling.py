"""From noise to latents: many steps over a whole clip, and frame by frame as a stream does it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from aapt_video.model import Rollout, TextKeys

from .clips import Clips
from .losses import Velocity, clean
from .predictor import Predictor


def euler(velocity: Velocity, noise: Tensor, grid: Tensor) -> Tensor:
    """Integrates dx/dt = v from t = 1 to 0 along `grid` [steps + 1], ascending from 0 to 1; noise [B, ...]."""
    x = noise
    for t, r in pairwise(grid.flip(0).tolist()):
        x = x - (t - r) * velocity(x, torch.full((len(x),), t, device=x.device)).float()
    return x


def only_first(previous: Tensor) -> Tensor:
    """What a bidirectional model knows of the past: latent 0 at the first position, zeros elsewhere."""
    return torch.cat([previous[:, :1], torch.zeros_like(previous[:, 1:])], 1)


def predicted(model: Predictor, clips: Clips, previous: Tensor, recompute: bool = False) -> Velocity:
    """The model's velocity of these clips as a function of (x_t, t)."""

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        out: Tensor = model(x_t, previous, t, clips.condition, clips.prompts, recompute)
        return out

    return velocity


def guided(model: Predictor, clips: Clips, previous: Tensor, scale: float) -> Velocity:
    """v0 + scale (v - v0), where v0 knows neither prompt nor condition; scale 1: plain v, one pass."""
    with_all = predicted(model, clips, previous)
    if scale == 1:
        return with_all
    nothing = None if clips.condition is None else torch.zeros_like(clips.condition)
    without = predicted(model, Clips(clips.numbers, clips.latents, nothing, ("",) * len(clips.prompts)), previous)

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        v0 = without(x_t, t)
        return v0 + scale * (with_all(x_t, t) - v0)

    return velocity


def one_step(model: Predictor, clips: Clips, noise: Tensor) -> Tensor:
    """noise - v at t = 1 for every position at once, each knowing the true latent before it: [B, T, C, h, w]."""
    t = torch.ones(len(noise), device=noise.device)
    return clean(noise, predicted(model, clips, clips.previous)(noise, t).float(), t)


class Roller:
    """Generates position after position from latent 0, each recycling the one before; call it for the next ones.

    With one step (the default grid) this is what a stream does, by functional caches that gradients flow through.
    With more, each timestep has a cache of its own, since all positions of a clip share their timestep.

    Args:
        latent: [B, C, h, w], latent 0.
        prompts: B texts.
        grid: [steps + 1], ascending from 0 to 1.
        detach: the recycled latent carries no gradient (student forcing).
    """

    def __init__(
        self,
        model: Predictor,
        latent: Tensor,
        prompts: Sequence[str],
        grid: Sequence[float] | Tensor = (0.0, 1.0),
        recompute: bool = False,
        detach: bool = True,
    ) -> None:
        self._model, self._prompts, self._previous = model, prompts, latent
        self._recompute, self._detach = recompute, detach
        self._times = [float(t) for t in grid][::-1]
        self._caches = [Rollout() for _ in self._times[:-1]]
        self._texts = self._read()

    def _read(self) -> list[TextKeys | None]:
        return [self._model.text_keys(self._prompts, t) for t in self._times[:-1]]

    def __call__(self, noise: Tensor, condition: Tensor | None) -> Tensor:
        """The next T latents [B, T, C, h, w]; noise of this shape, condition [B, T, channels, h, w] or None."""
        latents = []
        for k in range(noise.shape[1]):
            x, now = noise[:, k], None if condition is None else condition[:, k]
            for i, (t, r) in enumerate(pairwise(self._times)):
                x0, self._caches[i] = self._model.roll(
                    self._caches[i], x, self._previous, t, now, self._texts[i], self._recompute
                )
                x0 = x0.float()
                x = x0 if r == 0 else x - (t - r) * (x - x0) / t
            latents.append(x)
            self._previous = x.detach() if self._detach else x
        return torch.stack(latents, 1)

    def cut(self) -> None:
        """Lets the gradients of the past go: what comes now is a segment with a backward pass of its own."""
        self._caches = [cache.detached() for cache in self._caches]
        self._previous = self._previous.detach()
        self._texts = self._read()


def roll_out(
    model: Predictor,
    clips: Clips,
    noise: Tensor,
    grid: Sequence[float] | Tensor = (0.0, 1.0),
    recompute: bool = False,
    detach: bool = True,
) -> Tensor:
    """All positions of some clips, generated one after the other: [B, T, C, h, w]; see `Roller`."""
    return Roller(model, clips.latents[:, 0], clips.prompts, grid, recompute, detach)(noise, clips.condition)
