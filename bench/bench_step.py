"""One step of the shipped worlds on the CPU, window full: ours over pages, and the same model in torch.

`bench_transformer_step` times three things in turns in one process: ours, eager torch, and torch.compile of the
same. `bench_stream_step` is what a user waits for: transformer, decoder, pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from interleave import interleave
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

import aapt_ext
from aapt_ext import _C
from aapt_video.bench.rivals import RingStep
from aapt_video.codec import Codec
from aapt_video.codec import named_config as named_codec
from aapt_video.model import CachedTransformer, FramePlan, Transformer, named_config
from aapt_video.model.conditions import Camera
from aapt_video.stream import Generator, Limits

HEIGHT, WIDTH, FPS = 12, 16, 24  # latent pixels; pictures of 96x128
PROMPT = 60  # tokens
DTYPES = [torch.bfloat16, torch.float32]
FILLED = 40  # positions before the one that is timed: the window is full, the pinned position within its cap


def world(dtype: torch.dtype) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(named_config("world"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.to(dtype).eval().requires_grad_(False)


class Ours:
    """A stream over pages, without policy."""

    def __init__(self, model: Transformer, embedding: Tensor) -> None:
        weights = CachedTransformer(model)
        self.window = weights.config.window
        self.pool, text = weights.page_pool(self.window + 2, 48), weights.text_pool(1)
        self.prompt = text.allocate()[0]
        weights.write_text(embedding, text, self.prompt)
        self.forward = weights.open(1, HEIGHT, WIDTH, self.pool, text)
        self.free = self.pool.allocate(self.window + 2)
        self.first, self.past = self.free[0], []  # type: int, list[int]

    def step(self, number: int, inputs: tuple[Tensor, Tensor, Tensor], keep: bool) -> Tensor:
        page = self.free.pop(0)
        pinned = None if self.first in self.past or number == 1 else self.first
        self.forward.plan([FramePlan(number, page, tuple(self.past), pinned, self.prompt, PROMPT)])
        latent = self.forward.run(*inputs)
        if not keep:
            self.free.insert(0, page)
            return latent
        self.past.append(page)
        if len(self.past) > self.window:
            evicted = self.past.pop(0)
            self.free += [evicted] if evicted != self.first else []
        return latent


class Eager:
    """The ring, eager or compiled."""

    def __init__(self, step: RingStep, run: Callable[..., Tensor]) -> None:
        self.owner, self.run = step, run

    def step(self, number: int, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        start, tokens = self.owner.slot(number), self.owner.tokens
        place = torch.arange(start, start + tokens)
        seen = self.owner.prefix + min(number, self.owner.config.window + 2) * tokens
        return self.run(*inputs, *self.owner.rotation(number), place, seen)


@contextmanager
def operators_timed() -> Iterator[dict[str, float]]:
    """Seconds spent inside the C++ functions, by name."""
    spent = dict.fromkeys(("patch_embed", "modulate", "linear", "cache_write", "paged_attention", "denoise"), 0.0)
    originals = {name: getattr(_C, name) for name in spent}

    def timed(name: str) -> Callable[..., Any]:
        function = originals[name]

        def call(*arguments: Any, **keywords: Any) -> Any:
            begin = time.perf_counter()
            result = function(*arguments, **keywords)
            spent[name] += time.perf_counter() - begin
            return result

        return call

    try:
        for name in spent:
            setattr(_C, name, timed(name))
        yield spent
    finally:
        for name, function in originals.items():
            setattr(_C, name, function)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.inference_mode()
def bench_transformer_step(benchmark: BenchmarkFixture, dtype: torch.dtype) -> None:
    model = world(dtype)
    config = model.config
    embedding = torch.randn(PROMPT, config.text_width, dtype=dtype)
    ours = Ours(model, embedding)
    text = model.encode_text(embedding[None], [PROMPT])
    rings = [RingStep(model, HEIGHT, WIDTH, text) for _ in range(2)]
    eager, compiled = Eager(rings[0], rings[0]), Eager(rings[1], torch.compile(rings[1], fullgraph=True))
    shapes = (config.channels, config.condition_channels, config.channels)
    clip = [tuple(torch.randn(1, c, HEIGHT, WIDTH, dtype=dtype) for c in shapes) for _ in range(FILLED + 1)]
    for number, inputs in enumerate(clip[:FILLED], start=1):
        ours.step(number, inputs, keep=True)
        eager.step(number, inputs)
    rings[1].k.copy_(rings[0].k), rings[1].v.copy_(rings[0].v)
    number, inputs = FILLED + 1, clip[FILLED]
    latents = [ours.step(number, inputs, keep=False), eager.step(number, inputs), compiled.step(number, inputs)]
    tolerance = 0.15 if dtype == torch.bfloat16 else 1e-3
    for latent in latents[1:]:
        assert (latent - latents[0]).abs().max() < tolerance  # the same model

    seconds = interleave(
        {
            "ours": lambda: ours.step(number, inputs, keep=False),
            "eager": lambda: eager.step(number, inputs),
            "compile": lambda: compiled.step(number, inputs),
        },
        rounds=31,
    )
    with operators_timed() as spent:
        begin = time.perf_counter()
        for _ in range(100):
            ours.step(number, inputs, keep=False)
        total = time.perf_counter() - begin
    benchmark.extra_info |= {
        "dtype": str(dtype),
        "threads": torch.get_num_threads(),
        "backend": aapt_ext.implementation("linear", "cpu", dtype),
        "seconds": seconds["ours"],
        "eager seconds": seconds["eager"],
        "compile seconds": seconds["compile"],
        "times eager": seconds["eager"] / seconds["ours"],
        "times compile": seconds["compile"] / seconds["ours"],
        "python share": 1 - sum(spent.values()) / total,
        **{f"{name} seconds": value / 100 for name, value in spent.items()},
    }
    benchmark(ours.step, number, inputs, False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def bench_stream_step(benchmark: BenchmarkFixture, dtype: torch.dtype) -> None:
    generator = Generator(
        world(dtype), Codec(named_codec("world")), Camera(), height=96, width=128, limits=Limits(1, 0)
    )
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    with generator.open(torch.randn(PROMPT, generator.config.text_width), image) as stream:
        for _ in range(FILLED):
            stream.step()
        benchmark(stream.step)
        seconds = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "dtype": str(dtype),
        "threads": torch.get_num_threads(),
        "pictures per second": 4 / seconds,
        "real-time factor": 4 / FPS / seconds,
        "seconds for a 60 s clip": 60 * FPS / 4 * seconds,
    }
