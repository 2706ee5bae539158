"""One small call of every kernel of the operators, on a GPU: with tensor cores and without, aligned and not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from operators.rule import cast, check
from operators.test_cache_write import Frame
from operators.test_denoise import random_arguments
from operators.test_paged_attention import Case

import aapt_ext
from aapt_ext import reference


@dataclass
class Launch:
    """An operator of torch.ops.aapt or a function of its signature, its formula, and float64 arguments on the GPU."""

    operator: Callable[..., Any]
    formula: Callable[..., Any]
    arguments: tuple[Any, ...]
    dtype: torch.dtype

    def inputs(self) -> tuple[Any, ...]:
        return cast(self.arguments, self.dtype)

    def run(self) -> Any:
        return self.operator(*self.inputs())

    def hold_against_reference(self) -> None:
        check(self.operator, self.formula, self.arguments, self.dtype)


def modulate(width: int, dtype: torch.dtype) -> Launch:
    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.float64, device="cuda") * 3 + 1

    x, y = randn(2, 75, width), randn(2, 75, width)
    vectors = randn(2, width), randn(2, width), randn(2, width), randn(width), randn(width)
    return Launch(torch.ops.aapt.residual_modulate, reference.residual_modulate, (x, y, *vectors, 1e-6), dtype)


def quantise(width: int, activation: str, dtype: torch.dtype) -> Launch:
    """Held by what its rows stand for. No activation in float32, which is bit for bit what torch computes."""

    def operator(x: torch.Tensor, activation: str) -> torch.Tensor:
        return reference.dequantise(*torch.ops.aapt.quantise(x, activation))

    def formula(x: torch.Tensor, activation: str) -> torch.Tensor:
        return reference.dequantise(*reference.quantise(x, activation))

    x = torch.randn(150, width, dtype=torch.float64, device="cuda") * 3
    return Launch(operator, formula, (x, activation), dtype)


def modulate_quantised(width: int, dtype: torch.dtype) -> Launch:
    def standing_for(call: Callable[..., Any], *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        residual, values, scale = call(*arguments)
        return residual, reference.dequantise(values, scale)

    return Launch(
        partial(standing_for, torch.ops.aapt.residual_modulate_quantised),
        partial(standing_for, reference.residual_modulate_quantised),
        modulate(width, dtype).arguments,
        dtype,
    )


def patch_embed(channels: list[int], outputs: int, dtype: torch.dtype) -> Launch:
    with torch.device("cuda"):
        sources = [torch.randn(2, c, 22, 30, dtype=torch.float64) for c in channels]
        weight = torch.randn(outputs, sum(channels), 2, 2, dtype=torch.float64) / (4 * sum(channels)) ** 0.5
        bias = torch.randn(outputs, dtype=torch.float64)
    return Launch(torch.ops.aapt.patch_embed, reference.patch_embed, (sources, weight, bias, outputs), dtype)


def denoise(channels: int, width: int, dtype: torch.dtype) -> Launch:
    with torch.device("cuda"):
        arguments = (*random_arguments(2, channels, 22, 30, width, 0.7), 1e-6)
    return Launch(torch.ops.aapt.denoise, reference.denoise, arguments, dtype)


def write_and_read(head_dim: int, *inputs: Any) -> tuple[torch.Tensor | None, ...]:
    """cache_write into fresh pages; q, k, v and q_pinned as `reference.norm_and_rotate` returns them."""
    qkv, q_weight, k_weight, eps, time, space, pinned = inputs
    time, space, pinned = (x.to(torch.float32) for x in (time, space, pinned))
    batch, rows, _, heads, _ = qkv.shape
    k_pages, v_pages = torch.full((2, batch + 1, heads, rows, head_dim), torch.nan, dtype=qkv.dtype, device="cuda")
    page = torch.arange(batch, 0, -1, dtype=torch.int32, device="cuda")
    q, q_pinned = aapt_ext.cache_write(
        qkv, q_weight, k_weight, time, space, page, k_pages, v_pages, pinned_rotation=pinned, eps=eps
    )
    assert k_pages[0].isnan().all() and v_pages[0].isnan().all(), "a page was written that nobody named"
    k, v = (pages[page.long()].transpose(1, 2) for pages in (k_pages, v_pages))
    return q, k, v, q_pinned


def cache_write(heads: int, head_dim: int, norm: str, dtype: torch.dtype) -> Launch:
    with torch.device("cuda"):
        frame = Frame(2, 75, heads, head_dim, norm)
    # Rotations that float32 holds exactly, so that rounding them changes nothing.
    rotations = tuple(x.float().double() for x in (frame.time, frame.space, frame.pinned))
    arguments = (frame.qkv, frame.q_weight, frame.k_weight, 1e-6, *rotations)
    return Launch(partial(write_and_read, head_dim), reference.norm_and_rotate, arguments, dtype)


def attention(head_dim: int, dtype: torch.dtype) -> Launch:
    segments = [(64, [1, 1], [9, 64], 0), (75, [1, 0], [75, 1], 1), (75, [3, 1], [75, 5], 0)]
    case = Case(2, 75, 2, head_dim, segments, torch.float64, "plain")
    arguments = torch.utils._pytree.tree_map(lambda x: x.cuda() if torch.is_tensor(x) else x, case.formula_arguments())
    return Launch(torch.ops.aapt.paged_attention, reference.paged_attention, arguments, dtype)


BF16, FLOAT = torch.bfloat16, torch.float32
LAUNCHES: dict[str, Callable[[], Launch]] = {
    "modulate": partial(modulate, 1536, BF16),
    "modulate float32": partial(modulate, 1536, FLOAT),
    "modulate narrow": partial(modulate, 1027, BF16),
    "modulate to fp8": partial(modulate_quantised, 1536, BF16),
    "modulate to fp8 narrow": partial(modulate_quantised, 1027, BF16),
    "quantise": partial(quantise, 1536, "none", BF16),
    "quantise after gelu": partial(quantise, 6144, "gelu_tanh", BF16),
    "quantise narrow": partial(quantise, 1027, "gelu_tanh", BF16),
    "quantise float32": partial(quantise, 1536, "none", FLOAT),
    "cache_write": partial(cache_write, 12, 128, "all", BF16),
    "cache_write per head": partial(cache_write, 6, 80, "head", BF16),
    "cache_write float32": partial(cache_write, 12, 64, "all", FLOAT),
    "cache_write narrow": partial(cache_write, 5, 18, "head", BF16),
    "patch_embed": partial(patch_embed, [16, 20, 4], 1536, BF16),
    "patch_embed float32": partial(patch_embed, [16, 4], 64, FLOAT),
    "patch_embed narrow": partial(patch_embed, [3], 13, BF16),
    "denoise": partial(denoise, 16, 1536, BF16),
    "denoise many channels": partial(denoise, 48, 3072, BF16),
    "denoise float32": partial(denoise, 16, 384, FLOAT),
    "denoise narrow": partial(denoise, 3, 130, BF16),
    "attention d 256": partial(attention, 256, BF16),
    "attention d 80": partial(attention, 80, BF16),
    "attention d 18": partial(attention, 18, BF16),
    "attention float32": partial(attention, 64, FLOAT),
}
