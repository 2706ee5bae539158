"""What training and the discriminator ask of the transformer, beside the forwards that agree."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from models import CONFIGS, TINY, Clip, random_model

from aapt_video.model import Transformer, TransformerConfig
from aapt_video.model.text import HuggingFaceEncoder


def run(model: Transformer, clip: Clip, **options: object) -> torch.Tensor:
    text = (clip.texts(model) or [None])[0]
    return model(clip.noise, clip.previous, 0.7, clip.condition, text, **options)


def test_a_fresh_model_predicts_no_velocity_and_still_learns() -> None:
    """adaLN-zero: every block starts as the identity, and the gradient reaches what opens it."""
    torch.manual_seed(0)
    model = Transformer(TINY).double()
    clip = Clip.random(TINY, batch=1, frames=3)
    velocity = run(model, clip)
    assert (velocity == 0).all()
    (velocity - clip.noise).square().mean().backward()
    assert model.head.weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["joint, cap", "cross, Wan", "no text, odd sizes"])
def test_every_weight_gets_a_gradient_and_recomputing_does_not_change_it(name: str) -> None:
    gradients = []
    for recompute in (False, True):
        model = random_model(CONFIGS[name])
        run(model, Clip.random(model.config, batch=2, frames=6), recompute=recompute).square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for parameter, gradient in gradients[0].items():
        assert gradient is not None and gradient.abs().max() > 0, parameter
        assert torch.allclose(gradient, gradients[1][parameter], rtol=1e-9, atol=1e-12), parameter


def test_features_are_the_tokens_that_the_velocity_is_made_of() -> None:
    model = random_model(replace(TINY, blocks=3))
    clip = Clip.random(model.config, batch=2, frames=5)
    text = model.encode_text(clip.embeddings[0], clip.lengths[0], 0.7)
    arguments = (clip.noise, clip.previous, 0.7, clip.condition, text)
    first, last = model.features(*arguments, blocks=[1, 3])
    assert first.shape == last.shape == (2, 5, 6, TINY.width)
    embedding = model.time_embedding(torch.full((2,), 0.7, dtype=torch.float64))
    assert torch.equal(model._velocity(last.flatten(1, 2), embedding, clip.noise), model(*arguments))
    assert torch.equal(first, model.features(*arguments, blocks=[1])[0])
    # A discriminator's sequence starts at frame 0: only differences of time matter where there is no joint text.
    with pytest.raises(ValueError, match="1 to 3"):
        model.features(*arguments, blocks=[4])


def test_without_joint_text_only_differences_of_time_matter() -> None:
    config = replace(TINY, text="none")
    model, clip = random_model(config), Clip.random(config, batch=1, frames=9)
    assert torch.allclose(run(model, clip, first=1), run(model, clip, first=500), atol=1e-10)


def test_text_sees_only_text_and_padding_is_not_seen() -> None:
    model, clip = random_model(TINY), Clip.random(TINY, batch=2, frames=3)
    longer = torch.cat((clip.embeddings[0], torch.full((2, 3, TINY.text_width), 1e3, dtype=torch.float64)), 1)
    keys, padded = (model.encode_text(e, clip.lengths[0], 0.7) for e in (clip.embeddings[0], longer))
    a, b = (model(clip.noise, clip.previous, 0.7, clip.condition, text) for text in (keys, padded))
    assert torch.allclose(a, b, atol=1e-10)


def test_each_clip_of_a_batch_has_its_own_timestep() -> None:
    config = replace(TINY, text="none")
    model, clip = random_model(config), Clip.random(config, batch=2, frames=3)
    both = model(clip.noise, clip.previous, torch.tensor([0.2, 0.9], dtype=torch.float64), clip.condition)
    for b, timestep in enumerate((0.2, 0.9)):
        assert clip.condition is not None
        alone = model(clip.noise[b : b + 1], clip.previous[b : b + 1], timestep, clip.condition[b : b + 1])
        assert torch.allclose(both[b], alone[0], atol=1e-10)


def test_mixed_precision_runs_and_stays_near() -> None:
    model = random_model(TINY).float()
    clip = Clip.random(TINY, batch=1, frames=5, dtype=torch.float32)
    exact = run(model, clip)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = run(model, clip)
    assert (mixed.float() - exact).abs().mean() < 0.05 * exact.abs().mean()
    mixed.float().sum().backward()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"condition": None}, "condition has 0 channels"),
        ({"text": None}, "needs text"),
        ({"noisy": torch.zeros(1, 3, 4, 5, 6, dtype=torch.float64)}, "noisy has shape"),
        ({"embedding": torch.zeros(1, 5, 3, dtype=torch.float64)}, "embedding has shape"),
        ({"lengths": [0]}, "lengths is"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict, match: str) -> None:
    model, clip = random_model(TINY), Clip.random(TINY, batch=1, frames=3)
    with pytest.raises(ValueError, match=match):
        text = model.encode_text(change.get("embedding", clip.embeddings[0]), change.get("lengths", clip.lengths[0]))
        condition = change.get("condition", clip.condition)
        model(change.get("noisy", clip.noise), clip.previous, 1.0, condition, change.get("text", text))


def test_odd_latents_are_refused_by_name() -> None:
    config: TransformerConfig = replace(TINY, text="none", condition_channels=0)
    noisy = torch.zeros(1, 2, 4, 5, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match="height is 5 latent pixels"):
        random_model(config)(noisy, noisy, 1.0)


def test_an_encoder_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match="pip install transformers"):
        HuggingFaceEncoder("google/umt5-xxl", 512)
