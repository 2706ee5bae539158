"""Paged attention of one latent frame on a GPU, beside contiguous and paged attention of others, in turns.

`TFLOP/s` counts the two products without padding; calls that leave the text out are counted without it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from attention_baselines import METHODS, SHAPES, Shape, baselines
from gpu_timer import Timing, time_in_turns
from pytest_benchmark.fixture import BenchmarkFixture

import aapt_ext
from aapt_ext import Segment

pytestmark = pytest.mark.gpu


OURS, ONE_PAGE = "ours", "ours, all frames in one page"


def our_call(shape: Shape, one_page: bool = False) -> Callable[[], Any]:
    """Text, pinned position and window; with `one_page` the window's frames are one contiguous page."""

    def segment(rows: int, pages: int, query: int) -> Segment:
        k, v = torch.randn(2, pages + 3, shape.heads, rows, shape.head_dim, device="cuda", dtype=torch.bfloat16)
        table = torch.randperm(pages + 3, device="cuda")[None, :pages].int()
        count, last = (torch.tensor([n], dtype=torch.int32, device="cuda") for n in (pages, rows))
        return Segment(k, v, rows, table, count, last, query)

    queries = list(torch.randn(2, 1, shape.tokens, shape.heads, shape.head_dim, device="cuda", dtype=torch.bfloat16))
    window = shape.pages - 1
    frames = segment(shape.tokens * window, 1, 0) if one_page else segment(shape.tokens, window, 0)
    segments = [segment(shape.text, 1, 0), segment(shape.tokens, 1, 1), frames]
    out = torch.empty_like(queries[0])
    lse = torch.empty(1, shape.heads, shape.tokens, device="cuda")
    return lambda: aapt_ext.paged_attention(queries, segments, out=out, lse=lse)


@functools.cache
def calls(name: str) -> dict[str, Callable[[], Any]]:
    shape = SHAPES[name]
    return {OURS: our_call(shape), ONE_PAGE: our_call(shape, one_page=True), **baselines(shape)}


@functools.cache
def timings(name: str) -> dict[str, Timing]:
    return time_in_turns(calls(name))


@pytest.mark.parametrize("method", [OURS, ONE_PAGE, *METHODS])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.timeout(600)
def bench_attention(benchmark: BenchmarkFixture, name: str, method: str) -> None:
    if method not in calls(name):
        pytest.skip("not on this machine, or it refuses this shape")

    def run() -> None:
        calls(name)[method]()
        torch.cuda.synchronize()

    benchmark.pedantic(run, rounds=5, warmup_rounds=2)
    shape, timing = SHAPES[name], timings(name)[method]
    if method.endswith("no text"):
        shape = replace(shape, text=0)
    benchmark.extra_info |= {
        "gpu_seconds": timing.median,
        "gpu_seconds_p10": timing.p10,
        "gpu_seconds_p90": timing.p90,
        "TFLOP/s": shape.flops / timing.median / 1e12,
    }
    if method == OURS:
        benchmark.extra_info["paged ratio"] = timings(name)[ONE_PAGE].median / timing.median
