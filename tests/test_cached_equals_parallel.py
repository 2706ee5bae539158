"""The invariant that everything rests on: T positions of a clip at once == T steps over pages == a rollout.

One block function runs in all three; these tests say that the three attentions see the same keys.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from models import CONFIGS, HEIGHT, TINY, WIDTH, Clip, PagedStreams, random_model
from torch import Tensor

import aapt_ext
from aapt_video.model import CachedTransformer, Rollout, Transformer, TransformerConfig, attention

FRAMES = 11  # beyond the window, and beyond every cap
EXACT = 1e-10


def parallel(model: Transformer, clip: Clip, change: int | None = None, recompute: bool = False) -> Tensor:
    """Clean latents [B, T, C, H, W]; from position `change` on the second prompt is in force."""
    texts = clip.texts(model)
    text = None
    if texts:
        text = texts[0] if change is None else [(1, texts[0]), (change, texts[1])]
    return clip.noise - model(clip.noise, clip.previous, 1.0, clip.condition, text, recompute=recompute)


def largest(a: Tensor, b: Tensor) -> float:
    return (a.double() - b.double()).abs().max().item()


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", CONFIGS)
def test_cached_steps_equal_the_parallel_forward(name: str, backend: str) -> None:
    model = random_model(CONFIGS[name])
    clip = Clip.random(model.config, batch=2, frames=FRAMES)
    expected = parallel(model, clip)
    with aapt_ext.backend(backend):
        streams = PagedStreams(model, clip)
        for i in range(FRAMES):
            assert largest(streams.step(), expected[:, i]) < EXACT, f"position {i + 1}"


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_rollout_equals_the_parallel_forward(name: str, recompute: bool) -> None:
    model = random_model(CONFIGS[name])
    clip = Clip.random(model.config, batch=2, frames=FRAMES)
    expected = parallel(model, clip)
    text = (clip.texts(model) or [None])[0]
    rollout = Rollout()
    for i in range(FRAMES):
        noise, condition, previous = clip.frame(i)
        latent, rollout = model.roll(rollout, noise, previous, condition, text, recompute=recompute)
        assert largest(latent, expected[:, i]) < EXACT, f"position {i + 1}"


@pytest.mark.parametrize("recompute", [False, True])
def test_rollout_has_the_gradient_of_the_parallel_forward(recompute: bool) -> None:
    model = random_model(TINY)
    clip = Clip.random(TINY, batch=1, frames=8)
    weights = torch.randn(8, dtype=torch.float64)
    names = ["patch.weight", "blocks.0.qkv.weight", "blocks.1.text.kv.weight", "text_in.weight", "time_in.weight"]
    parameters = [model.get_parameter(name) for name in names]

    total = (parallel(model, clip).square().mean((0, 2, 3, 4)) * weights).sum()
    expected = torch.autograd.grad(total, parameters)

    text, rollout, total = clip.texts(model)[0], Rollout(), torch.zeros((), dtype=torch.float64)
    for i in range(8):
        noise, condition, previous = clip.frame(i)
        latent, rollout = model.roll(rollout, noise, previous, condition, text, recompute=recompute)
        total = total + latent.square().mean() * weights[i]
    for name, ours, theirs in zip(names, torch.autograd.grad(total, parameters), expected, strict=True):
        assert largest(ours, theirs) < EXACT * (1 + theirs.abs().max().item()), name


@pytest.mark.parametrize(("recompute", "change"), [(False, None), (True, 6)])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_clip_that_goes_over_pages_as_on_a_gpu_is_the_same(
    name: str, recompute: bool, change: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latents, and the gradient of every weight."""
    config = CONFIGS[name]
    results = []
    for over_pages in (False, True):
        forced = partial(aapt_ext.training_attention, over_pages=over_pages)
        monkeypatch.setattr(attention, "training_attention", forced)
        model = random_model(config)
        latents = parallel(model, Clip.random(config, batch=2, frames=FRAMES), change, recompute)
        latents.square().mean().backward()
        results.append({"latents": latents, **{n: p.grad for n, p in model.named_parameters() if p.grad is not None}})
    assert results[0].keys() == results[1].keys()
    for what, expected in results[0].items():
        assert largest(results[1][what], expected) < EXACT * (1 + expected.abs().max().item()), what


@pytest.mark.parametrize("name", [name for name in CONFIGS if CONFIGS[name].text != "none"])
def test_a_prompt_change_is_seen_from_that_frame_on(name: str) -> None:
    model = random_model(CONFIGS[name])
    clip = Clip.random(model.config, batch=2, frames=FRAMES)
    expected = parallel(model, clip, change=6)
    streams = PagedStreams(model, clip)
    for i in range(FRAMES):
        assert largest(streams.step(prompt=int(i + 1 >= 6)), expected[:, i]) < EXACT
    assert largest(expected[:, 5], parallel(model, clip)[:, 5]) > 1e-3


def test_a_fork_and_a_rewind_continue_as_if_nothing_else_had_happened() -> None:
    model = random_model(TINY)
    clip = Clip.random(TINY, batch=2, frames=FRAMES)
    expected, other = parallel(model, clip), parallel(model, clip, change=7)
    streams = PagedStreams(model, clip)
    for _ in range(6):
        streams.step()
    kept = [list(pages) for pages in streams.own]
    for i in range(6, FRAMES):  # one branch, on another prompt
        assert largest(streams.step(prompt=1), other[:, i]) < EXACT
    streams.own = [list(pages) for pages in kept]  # the other branch: shares the pages, back at position 6
    for i in range(6, FRAMES):
        assert largest(streams.step(), expected[:, i]) < EXACT


def test_a_batch_may_hold_streams_of_different_age() -> None:
    model = random_model(TINY)
    clip = Clip.random(TINY, batch=2, frames=FRAMES)
    expected = parallel(model, clip)
    old = PagedStreams(model, clip)
    for _ in range(8):
        old.step()
    young = PagedStreams(model, clip)
    old.forward.plan([old.plan(0), replace(young.plan(1), page=old.pool.allocate()[0], text=old.text_pages[0][1])])
    inputs = [
        None if a is None or b is None else torch.cat((a, b))
        for a, b in zip(clip.frame(8, slice(0, 1)), clip.frame(0, slice(1, 2)), strict=True)
    ]
    noise, condition, previous = inputs
    assert noise is not None and previous is not None
    out = old.forward.run(noise, condition, previous)
    assert largest(out[0], expected[0, 8]) < EXACT
    assert largest(out[1], expected[1, 0]) < EXACT


def test_evicted_frames_are_never_read() -> None:
    model = random_model(TINY)
    clip = Clip.random(TINY, batch=1, frames=FRAMES)
    expected = parallel(model, clip)
    streams = PagedStreams(model, clip)
    for i in range(FRAMES):
        for page in streams.own[0][1 : max(1, i - TINY.window)]:
            streams.pool.k_pages[:, page] = streams.pool.v_pages[:, page] = float("nan")
        assert largest(streams.step(), expected[:, i]) < EXACT


def test_no_frame_sees_the_future() -> None:
    model = random_model(TINY)
    clip = Clip.random(TINY, batch=1, frames=FRAMES)
    before = parallel(model, clip)
    clip.noise[:, 7] += 1
    after = parallel(model, clip)
    assert torch.equal(before[:, :7], after[:, :7])
    assert largest(before[:, 8], after[:, 8]) > 1e-3


def test_the_pinned_position_is_seen_when_it_has_left_the_window() -> None:
    """Position 9 sees 1 and 5 to 9; in one block nothing else reaches it."""
    config = replace(TINY, blocks=1)
    model = random_model(config)
    clip = Clip.random(config, batch=1, frames=9)
    before = parallel(model, clip)[:, 8]
    for position, seen in [(1, True), (2, False), (4, False), (5, True), (8, True)]:
        changed = Clip.random(config, batch=1, frames=9)
        changed.noise[:, position - 1] += 1
        assert (largest(before, parallel(model, changed)[:, 8]) > 1e-6) == seen, f"position {position}"


def test_cap_equals_keep_up_to_the_cap_and_not_beyond() -> None:
    capped = random_model(TINY)
    kept = Transformer(replace(TINY, pinned="keep")).double()
    kept.load_state_dict(capped.state_dict())
    clip = Clip.random(TINY, batch=1, frames=FRAMES)
    a, b = parallel(capped, clip), parallel(kept, clip)
    last = 1 + TINY.pinned_cap
    assert torch.equal(a[:, :last], b[:, :last])
    assert largest(a[:, last], b[:, last]) > 1e-4


def test_positions_do_not_run_out() -> None:
    """At position a million a stream gives what it gives at the cap, for equal inputs."""
    config = replace(TINY, text="none", pinned_cap=4, window=4)
    model = random_model(config)
    clip = Clip.random(config, batch=1, frames=1)
    outputs = []
    for start in (6, 1_000_001):
        weights = CachedTransformer(model)
        pool = weights.page_pool(8, config.tokens(HEIGHT, WIDTH))
        forward = weights.open(1, HEIGHT, WIDTH, pool, None)
        streams = PagedStreams(model, clip)
        streams.forward, streams.pool = forward, pool
        first = streams.plan(0)
        forward.plan([first])
        forward.run(*clip.frame(0))
        window: tuple[int, ...] = ()
        for number in range(start, start + 5):
            page = pool.allocate()[0]
            forward.plan([replace(first, number=number, page=page, window=window, pinned=first.page)])
            latent = forward.run(*clip.frame(0))
            window = (*window, page)[-4:]
        outputs.append(latent.clone())
    assert largest(outputs[0], outputs[1]) < 1e-8


@pytest.mark.parametrize("name", ["joint, cap", "cross, Wan", "no text, odd sizes"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_steps_obey_the_error_rule(name: str, dtype: torch.dtype) -> None:
    """Error <= 2 x the error of the parallel forward in torch at the same precision, + 1e-5."""
    config = replace(CONFIGS[name], width=32, heads=2)
    model = random_model(config, dtype=dtype)
    clip = Clip.random(config, batch=2, frames=FRAMES, dtype=dtype)
    exact_model = Transformer(config).double()
    exact_model.load_state_dict(model.state_dict())
    expected = parallel(exact_model, clip.to("cpu", torch.float64))
    composed = (parallel(model, clip).double() - expected).abs()
    streams = PagedStreams(model, clip)
    ours = (torch.stack([streams.step() for _ in range(FRAMES)], 1).double() - expected).abs()
    assert ours.max() <= 2 * composed.max() + 1e-5
    assert ours.mean() <= 2 * composed.mean() + 1e-5


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_bfloat16_clip_over_pages_obeys_the_error_rule(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents and gradients, against the same clip frame by frame in torch's attention."""
    config = replace(TINY, width=128, heads=2)
    half = random_model(config, dtype=torch.bfloat16).to(device)
    exact = Transformer(config).double().to(device)
    exact.load_state_dict(half.state_dict())
    clip = Clip.random(config, batch=2, frames=FRAMES, dtype=torch.bfloat16)

    def errors_of(over_pages: bool) -> list[Tensor]:
        forced = partial(aapt_ext.training_attention, over_pages=over_pages)
        monkeypatch.setattr(attention, "training_attention", forced)
        return [(a.double() - b).abs() for a, b in zip(results(half), expected, strict=True)]

    def results(model: Transformer) -> list[Tensor]:
        latents = parallel(model, clip.to(device, model.head.weight.dtype))
        gradients = torch.autograd.grad(latents.square().mean(), list(model.parameters()), allow_unused=True)
        return [latents, torch.cat([g.flatten() for g in gradients if g is not None])]

    expected = results(exact)
    for ours, composed in zip(errors_of(over_pages=True), errors_of(over_pages=False), strict=True):
        assert ours.max() <= 2 * composed.max() + 1e-5
        assert ours.mean() <= 2 * composed.mean() + 1e-5


def test_a_bidirectional_model_sees_everything_and_opens_no_stream() -> None:
    config: TransformerConfig = replace(TINY, causal=False)
    model = random_model(config)
    clip = Clip.random(config, batch=1, frames=4)
    before = parallel(model, clip)
    clip.noise[:, 3] += 1
    assert largest(before[:, 0], parallel(model, clip)[:, 0]) > 1e-4
    with pytest.raises(ValueError, match="causal"):
        CachedTransformer(model)
