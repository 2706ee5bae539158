"""Sampling and rollouts of a random model, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aapt_video.model import NAMED
from aapt_video.model.conditions import Camera
from aapt_video.train.clips import Clips
from aapt_video.train.losses import shifted_grid
from aapt_video.train.predictor import Predictor, PredictorConfig, load_predictor, save_predictor
from aapt_video.train.sampling import euler, guided, one_step, only_first, predicted, roll_out

POSITIONS = 6  # more than the window, so that frames leave it and the pinned position is far away


@pytest.fixture
def model(seed) -> Predictor:
    predictor = Predictor(PredictorConfig(replace(NAMED["tiny"], window=2, pinned_cap=3), 1, Camera()))
    for parameter in predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return predictor.double()


@pytest.fixture
def clips(seed) -> Clips:
    latents = torch.randn(2, 1 + POSITIONS, 4, 4, 6, dtype=torch.float64)
    condition = torch.randn(2, POSITIONS, 24, 4, 6, dtype=torch.float64)
    return Clips(range(2), latents, condition, ("a red room", ""))


def behind(clips: Clips, latents: torch.Tensor) -> torch.Tensor:
    return torch.cat([clips.latents[:, :1], latents[:, :-1]], 1)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_rollout_frame_by_frame_equals_all_frames_at_once_behind_its_own_result(model, clips, steps):
    noise, grid = torch.randn_like(clips.x0), shifted_grid(steps, 2.0)
    with torch.no_grad():
        rolled = roll_out(model, clips, noise, grid)
        # Everything in between is float64 but for the velocity, which both round to float32.
        at_once = euler(predicted(model, clips, behind(clips, rolled)), noise, grid)
    torch.testing.assert_close(at_once, rolled.to(at_once.dtype), rtol=1e-4, atol=1e-4)
    assert rolled[0].std() > 0.1 and not torch.allclose(rolled[:, 0], rolled[:, 1])


def test_one_step_is_a_rollouts_step_where_its_past_is_true(model, clips):
    noise = torch.randn_like(clips.x0)
    with torch.no_grad():
        first = roll_out(model, clips, noise)[:, 0]
        torch.testing.assert_close(one_step(model, clips, noise)[:, 0], first.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("detach", [True, False])
def test_gradients_flow_through_the_cache_and_through_the_recycled_frame_only_if_asked(model, clips, detach):
    noise = torch.randn_like(clips.x0).requires_grad_()
    rolled = roll_out(model, clips, noise, detach=detach)
    (gradient,) = torch.autograd.grad(rolled[:, 4].sum(), noise)
    assert gradient[:, 3].abs().max() > 0  # through keys and values
    assert gradient[:, 5].abs().max() == 0  # nothing comes from the future
    same = roll_out(model, clips, noise.detach(), detach=not detach)
    torch.testing.assert_close(same, rolled.detach(), rtol=0, atol=0)


def test_recomputation_changes_no_gradient(model, clips):
    gradients = []
    for recompute in (False, True):
        model.zero_grad()
        t = torch.tensor([0.3, 0.8], dtype=torch.float64)
        predicted(model, clips, clips.previous, recompute)(clips.x0, t).square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value)


def test_guidance_extrapolates_from_the_model_that_is_told_nothing(model, clips):
    x, t = torch.randn_like(clips.x0), torch.full((2,), 0.7, dtype=torch.float64)
    with torch.no_grad():
        plain, nothing, double = (guided(model, clips, clips.previous, scale)(x, t) for scale in (1, 0, 2))
        silent = Clips(clips.numbers, clips.latents, torch.zeros_like(clips.condition), ("", ""))
        torch.testing.assert_close(nothing, predicted(model, silent, clips.previous)(x, t))
    torch.testing.assert_close(double, 2 * plain - nothing)
    assert not torch.allclose(plain, nothing)


def test_a_bidirectional_model_knows_latent_0_alone(model, clips):
    known = only_first(clips.previous)
    assert torch.equal(known[:, 0], clips.latents[:, 0]) and known[:, 1:].abs().max() == 0


def test_a_causal_model_has_the_weights_of_the_bidirectional_one_and_sees_only_the_past(model, clips):
    offline = model.recast(causal=False).double()
    causal = offline.recast(causal=True, window=3, pinned_cap=5).double()
    x, t = torch.randn_like(clips.x0), torch.full((2,), 0.7, dtype=torch.float64)
    other = x.clone()
    other[:, -1] += 1
    with torch.no_grad():
        seen, blind = (
            [predicted(m, clips, clips.previous)(value, t)[:, 0] for value in (x, other)] for m in (offline, causal)
        )
    assert not torch.allclose(*seen) and torch.equal(*blind)
    assert torch.equal(offline.transformer.head.weight, causal.transformer.head.weight)


def test_a_saved_predictor_is_loaded_and_a_wrong_one_is_refused(model, tmp_path):
    save_predictor(tmp_path, model.config, model.state_dict())
    loaded = load_predictor(tmp_path)
    assert loaded.config == model.config
    torch.testing.assert_close(loaded.transformer.head.weight, model.transformer.head.weight.float())
    with pytest.raises(FileNotFoundError, match=r"no model\.json"):
        load_predictor(tmp_path / "nowhere")
    save_predictor(tmp_path, replace(model.config, text_layers=2), model.state_dict())
    with pytest.raises(ValueError, match="does not fit"):
        load_predictor(tmp_path)


def test_a_condition_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="condition_channels=0; the condition 'camera' has 24"):
        Predictor(PredictorConfig(replace(NAMED["tiny"], condition_channels=0), 1, Camera()))
