"""The formulas of the recipe, as the papers write them.

Rectified flow: x_t = (1 - t) x0 + t eps, so dx/dt = v = eps - x0; t = 0 is data, t = 1 is noise. One t per clip.
Latents are [B, T, C, h, w]; timesteps [B].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x_t [B, ...], t [B]) -> v [B, ...]."""

PAPER_SHIFT, PAPER_TOKENS = 24.0, 30 * 46 * 26  # AAPT appendix B: 5 s of 736x416


def shift(t: Tensor, s: float) -> Tensor:
    """s t / (1 + (s - 1) t): moves timesteps towards noise for s > 1 (AAPT appendix B)."""
    return s * t / (1 + (s - 1) * t)


def shift_for(tokens: int) -> float:
    """The shift for clips of so many tokens: the paper's 24 at its 35,880 tokens, times the square root of the ratio.

    Neighbouring latents tell the same story, so a clip of n tokens that is averaged down keeps n times the signal's
    variance against the noise's: to hide as much, t must have its noise-to-signal ratio t / (1 - t) grow as sqrt(n).
    `shift` multiplies just this ratio, by s.
    """
    if tokens < 1:
        raise ValueError(f"tokens={tokens} must be >= 1")
    return max(1.0, PAPER_SHIFT * math.sqrt(tokens / PAPER_TOKENS))


def shifted_grid(steps: int, s: float) -> Tensor:
    """t_0 = 0 < ... < t_steps = 1, uniform, then shifted: [steps + 1], float64."""
    if steps < 1:
        raise ValueError(f"steps={steps} must be >= 1")
    return shift(torch.linspace(0, 1, steps + 1, dtype=torch.float64), s)


def noised(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t."""
    t = like(t, x0)
    return (1 - t) * x0 + t * noise


def clean(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """x_t - t v: the estimate of x0, and the consistency function f(x_t, t) where v is its net's output."""
    return x_t - like(t, x_t) * v


def velocity_loss(v: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """|| v - (eps - x0) ||^2, the mean over elements (AAPT section 3.2; rectified flow)."""
    return (v.float() - (noise - x0).float()).square().mean()


def consistency_loss(student: Velocity, teacher: Velocity, x_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """|| f(x_t, t) - stopgrad f(x_r, r) ||^2, where x_r is one Euler step of the teacher from t down to r < t.

    The target is the student's own present weights, without EMA (iCT); at r = 0 it is x_r, for f(x, 0) = x.
    """
    prediction = clean(x_t, student(x_t, t).float(), t)
    with torch.no_grad():
        x_r = x_t - like(t - r, x_t) * teacher(x_t, t).float()
        target = clean(x_r, student(x_r, r).float(), r)
    return (prediction - target).square().mean()


def relativistic_loss(winner: Tensor, loser: Tensor) -> Tensor:
    """softplus(loser - winner), the mean over logits: small where `winner` looks more real than `loser` (R3GAN).

    The discriminator's loss has the real clip as winner, the generator's the generated one. AAPT equation 1 writes the
    same as log-likelihoods to be maximised.
    """
    return F.softplus(loser - winner).mean()


def approximate_penalty(logits: Tensor, perturbed: Tensor) -> Tensor:
    """(D(x) - D(x + sigma n))^2, the mean over logits: sigma^2 |grad D|^2 in a random direction (APT section 3.3).

    Of real clips it is R1, of generated ones R2; no second derivative is needed.
    """
    return (logits - perturbed).square().mean()


def reconstruction_loss(video: Tensor, truth: Tensor, gradient: float = 0.0) -> Tensor:
    """L1 + MSE + gradient · L1 of the differences between neighbouring pixels, [B, 3, n, H, W]."""
    error = video.float() - truth.float()
    loss = error.abs().mean() + error.square().mean()
    if gradient > 0:
        loss = loss + gradient * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
    return loss


def psnr(a: Tensor, b: Tensor, peak: float = 2.0) -> Tensor:
    """Peak signal-to-noise ratio in dB over all elements; `peak` is the range of values."""
    return 10 * torch.log10(peak**2 / (a.float() - b.float()).square().mean().clamp_min(1e-12))


def like(t: Tensor, x: Tensor) -> Tensor:
    """t [B] in the dtype of x and with its dimensions: [B, 1, ...]."""
    return t.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
