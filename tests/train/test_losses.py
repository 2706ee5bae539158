"""The formulas against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from aapt_video.train.losses import (
    PAPER_TOKENS,
    clean,
    consistency_loss,
    noised,
    psnr,
    reconstruction_loss,
    shift,
    shift_for,
    shifted_grid,
    velocity_loss,
)
from aapt_video.train.sampling import euler

STD = 0.5  # of the toy's data, N(0, STD^2)


def gaussian_velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """E[eps - x0 | x_t] for x0 ~ N(0, STD^2): the true marginal velocity of the toy's flow."""
    t = t.view(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    variance = (1 - t) ** 2 * STD**2 + t**2
    return (t - (1 - t) * STD**2) / variance * x


def along_flow(x1: torch.Tensor, t: float) -> torch.Tensor:
    """Where the toy's flow is at t, coming from noise x1: it only scales."""
    return x1 * math.sqrt((1 - t) ** 2 * STD**2 + t**2)


def consistent_velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """v of the perfect consistency function f(x_t, t) = x_t STD / std(x_t)."""
    view = t.view(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    scale = STD / torch.sqrt((1 - view) ** 2 * STD**2 + view**2)
    return torch.where(view > 0, x * (1 - scale) / view.clamp_min(1e-12), 0.0)


def test_velocity_loss_of_a_constant_net_is_the_variance_plus_the_squared_offset(seed):
    x0, noise = STD * torch.randn(4000, 4), torch.randn(4000, 4)
    loss = velocity_loss(torch.full_like(x0, 0.7), x0, noise)
    assert float(loss) == pytest.approx(1 + STD**2 + 0.49, rel=0.05)


def test_no_net_beats_the_marginal_velocity(seed):
    t = torch.rand(4000)
    x0, noise = STD * torch.randn(4000, 4), torch.randn(4000, 4)
    x_t = noised(x0, noise, t)
    best = gaussian_velocity(x_t, t)
    others = [best * 0.8, best * 1.2, best + 0.1]
    assert all(velocity_loss(best, x0, noise) < velocity_loss(other, x0, noise) for other in others)


def test_clean_inverts_noised_where_the_velocity_is_true(seed):
    x0, noise, t = torch.randn(3, 2, 4, dtype=torch.float64), torch.randn(3, 2, 4, dtype=torch.float64), torch.rand(3)
    torch.testing.assert_close(clean(noised(x0, noise, t), noise - x0, t), x0, rtol=0, atol=1e-6)


def test_consistency_loss_vanishes_for_a_perfect_function_and_small_steps(seed):
    x1 = torch.randn(256, 8, dtype=torch.float64)
    losses = []
    for gap in (0.1, 0.01):
        t = torch.full((256,), 0.6, dtype=torch.float64)
        loss = consistency_loss(consistent_velocity, gaussian_velocity, along_flow(x1, 0.6), t, t - gap)
        losses.append(float(loss))
    assert losses[1] < 1e-6
    # One Euler step errs by O(gap^2), its square by O(gap^4).
    assert losses[0] / losses[1] == pytest.approx(1e4, rel=0.8)


def test_consistency_loss_sees_a_wrong_function_and_its_last_jump_ends_at_the_data(seed):
    x1 = torch.randn(256, 8, dtype=torch.float64)
    t, r = torch.full((256,), 0.3, dtype=torch.float64), torch.zeros(256, dtype=torch.float64)
    x_t = along_flow(x1, 0.3)
    wrong = consistency_loss(lambda x, t: 0 * x, gaussian_velocity, x_t, t, r)
    # At r = 0 the target is x_r itself, whatever the student says there.
    assert float(wrong) == pytest.approx(float((0.3 * gaussian_velocity(x_t, t)).square().mean()), rel=1e-6)


def test_the_consistency_target_gives_no_gradient(seed):
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    x_t, t, r = torch.randn(8, 4, dtype=torch.float64), torch.full((8,), 0.6), torch.full((8,), 0.4)
    consistency_loss(lambda x, t: weight * x, gaussian_velocity, x_t, t, r).backward()
    target = x_t - 0.2 * gaussian_velocity(x_t, t)
    target = target - 0.4 * 0.5 * target
    expected = (2 * (x_t - 0.6 * 0.5 * x_t - target) * (-0.6 * x_t)).mean()
    assert float(weight.grad) == pytest.approx(float(expected), rel=1e-6)


def test_shift_keeps_the_ends_and_multiplies_the_ratio_of_noise_to_data():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    shifted = shift(t, 24.0)
    assert shifted[0] == 0 and shifted[-1] == 1 and (shifted.diff() > 0).all()
    inside = slice(1, -1)
    ratio = (shifted / (1 - shifted))[inside] / (t / (1 - t))[inside]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 24.0))


def test_the_papers_grid():
    grid = shifted_grid(32, 24.0)
    for i, value in {0: 0.0, 1: 0.436, 2: 0.615, 8: 0.889, 16: 0.960, 32: 1.0}.items():
        assert float(grid[i]) == pytest.approx(value, abs=5e-4)


def test_the_shift_is_the_papers_at_its_size_and_three_at_the_size_of_a_small_world():
    assert shift_for(PAPER_TOKENS) == 24
    assert shift_for(12 * 48) == pytest.approx(3.0, abs=0.1)
    assert shift_for(1) == 1


def test_euler_follows_the_flow_to_its_end(seed):
    x1 = torch.randn(64, 8, dtype=torch.float64)
    ends = [euler(gaussian_velocity, x1, shifted_grid(steps, 1.0)) for steps in (64, 512)]
    errors = [float((end - along_flow(x1, 0.0)).abs().max()) for end in ends]
    assert errors[1] < 2e-2
    assert errors[1] < errors[0] / 4


def test_reconstruction_loss_sums_its_parts():
    truth = torch.zeros(1, 3, 2, 4, 4)
    video = truth.clone()
    video[..., ::2] = 0.5  # stripes: half the pixels are wrong, all horizontal neighbours differ
    assert float(reconstruction_loss(video, truth)) == pytest.approx(0.25 + 0.125)
    assert float(reconstruction_loss(video, truth, gradient=2.0)) == pytest.approx(0.25 + 0.125 + 2 * 0.5)


def test_psnr_of_a_known_error():
    assert float(psnr(torch.full((2, 3), 0.2), torch.zeros(2, 3))) == pytest.approx(20.0, abs=1e-4)
