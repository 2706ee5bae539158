"""modulate, quantise, cache_write, denoise and patch_embed on a GPU, against torch.compile, with hot and with cold L2.

`share of copy` is the operator's bytes (each array once) per second over the bandwidth of a copy that is timed right
after; at least 0.85 is the goal of all but patch_embed with cold L2. Inputs are random.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gpu_timer import time_in_turns
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils import _pytree as pytree

from aapt_ext import _C, reference

pytestmark = pytest.mark.gpu

EPS = 1e-6
SHAPES = {"AAPT 736x416": (46, 26, 24), "Wan 1.3B 832x480": (52, 30, 12)}
"""Tokens across and down, heads of 128."""
Case = tuple[Callable[[], Any], Callable[..., Any], tuple[Any, ...], int]
"""Our call, torch's formula, its arguments, and the bytes that must move."""


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


def bytes_of(*tree: Any) -> int:
    return sum(leaf.nbytes for leaf in pytree.tree_leaves(tree) if torch.is_tensor(leaf))


def stream() -> int:
    return int(torch.cuda.current_stream().cuda_stream)


def modulate(across: int, down: int, heads: int) -> Case:
    width = 128 * heads
    x, y = randn(1, across * down, width), randn(1, across * down, width)
    gate, scale, shift = randn(1, width), randn(1, width), randn(1, width)
    outputs = torch.empty_like(x), torch.empty_like(x)

    def ours() -> None:
        _C.modulate(x, y, gate, scale, shift, None, None, EPS, *outputs, stream=stream())

    arguments = x, y, gate, scale, shift, None, None, EPS
    return ours, reference.residual_modulate, arguments, bytes_of(arguments, outputs)


def modulate_quantised(across: int, down: int, heads: int) -> Case:
    _, _, arguments, _ = modulate(across, down, heads)
    x, y, gate, scale, shift, *_ = arguments
    residual, out, row_scale = torch.empty_like(x), *empty_quantised(x)

    def ours() -> None:
        _C.modulate(
            x, y, gate, scale, shift, None, None, EPS, residual, out.view(torch.uint8), row_scale, stream=stream()
        )

    return ours, reference.residual_modulate_quantised, arguments, bytes_of(arguments, residual, out, row_scale)


def quantise(across: int, down: int, heads: int) -> Case:
    """What the feed-forward's second linear reads."""
    x = randn(across * down, 4 * 128 * heads)
    out, row_scale = empty_quantised(x)

    def ours() -> None:
        _C.quantise(x, "gelu_tanh", out.view(torch.uint8), row_scale, stream=stream())

    return ours, reference.quantise, (x, "gelu_tanh"), bytes_of(x, out, row_scale)


def empty_quantised(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(like, dtype=torch.float8_e4m3fn), like.new_empty(like.shape[:-1], dtype=torch.float32)


def cache_write(across: int, down: int, heads: int) -> Case:
    tokens = across * down
    qkv, q_weight, k_weight = randn(1, tokens, 3, heads, 128), randn(128 * heads), randn(128 * heads)
    time, space = torch.randn(1, 22, 2, device="cuda"), torch.randn(tokens, 42, 2, device="cuda")
    k_pages, v_pages = torch.empty(2, 4, heads, tokens, 128, device="cuda", dtype=torch.bfloat16)
    q, q_pinned = randn(1, tokens, heads, 128), randn(1, tokens, heads, 128)
    page = torch.tensor([2], dtype=torch.int32, device="cuda")

    def ours() -> None:
        _C.cache_write(
            qkv, q_weight, k_weight, EPS, time, space, time, page, k_pages, v_pages, q, q_pinned, stream=stream()
        )

    def formula(*arguments: Any) -> Any:
        turned, k, v, pinned = reference.norm_and_rotate(*arguments)
        k_pages[2] = k[0].transpose(0, 1)
        v_pages[2] = v[0].transpose(0, 1)
        return turned, pinned

    arguments = qkv, q_weight, k_weight, EPS, time, space, time
    return ours, formula, arguments, bytes_of(arguments, q, q_pinned, k_pages[2], v_pages[2])


def denoise(across: int, down: int, heads: int) -> Case:
    width = 128 * heads
    x, scale, shift, weight = randn(1, across * down, width), randn(1, width), randn(1, width), randn(64, width)
    bias, noisy = randn(64), randn(1, 16, 2 * down, 2 * across)
    out = torch.empty_like(noisy)

    def ours() -> None:
        _C.denoise(x, scale, shift, weight, bias, noisy, 1.0, EPS, out, stream=stream())

    arguments = x, scale, shift, weight, bias, noisy, 1.0, EPS
    return ours, reference.denoise, arguments, bytes_of(arguments, out)


def patch_embed(across: int, down: int, heads: int) -> Case:
    sources = [randn(1, channels, 2 * down, 2 * across) for channels in (16, 20, 16)]
    weight, bias = randn(128 * heads, 52, 2, 2), randn(128 * heads)
    out = randn(1, across * down, 128 * heads)

    def ours() -> None:
        _C.patch_embed(sources, weight, bias, out, stream=stream())

    arguments = sources, weight, bias, 128 * heads
    return ours, reference.patch_embed, arguments, bytes_of(arguments, out)


@pytest.mark.parametrize("cache", ["cold", "hot"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "make",
    [modulate, modulate_quantised, quantise, cache_write, denoise, patch_embed],
    ids=lambda make: make.__name__,
)
def bench_operator(benchmark: BenchmarkFixture, make: Callable[..., Case], shape: str, cache: str) -> None:
    ours, formula, arguments, moved = make(*SHAPES[shape])
    compiled = torch.compile(formula)
    source = torch.randn(256 << 20, device="cuda")
    target = torch.empty_like(source)

    def run() -> None:
        ours()
        torch.cuda.synchronize()

    with torch.no_grad():
        calls = {"ours": ours, "torch.compile": lambda: compiled(*arguments)}
        timings = time_in_turns(calls, hot=cache == "hot")
        copy_seconds = time_in_turns({"copy": lambda: target.copy_(source)})["copy"].median
    benchmark.pedantic(run, rounds=5, warmup_rounds=2)
    copy = 2 * source.nbytes / copy_seconds
    benchmark.extra_info |= {
        "seconds": timings["ours"].median,
        "p90 seconds": timings["ours"].p90,
        "GB/s": moved / timings["ours"].median / 1e9,
        "share of copy": moved / timings["ours"].median / copy,
        "torch.compile seconds": timings["torch.compile"].median,
        "torch.compile / ours": timings["torch.compile"].median / timings["ours"].median,
        "device": torch.cuda.get_device_name(),
    }
