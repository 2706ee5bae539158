"""The attention of a training clip on a CPU, forward and backward, against torch's: one latent frame over its past."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from compare import compare
from pytest_benchmark.fixture import BenchmarkFixture

from aapt_ext import reference

SHAPES = [  # B, h, L, keys, d: the doom world's third and ninth latent frame, with 128 tokens of text
    (6, 3, 48, 272, 64),
    (6, 3, 48, 560, 64),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def bench_attention_gradient(
    benchmark: BenchmarkFixture, dtype: torch.dtype, shape: tuple[int, int, int, int, int]
) -> None:
    batch, heads, rows, keys, d = shape
    torch.manual_seed(0)
    q, upstream = torch.randn(2, batch, heads, rows, d).to(dtype)
    k, v = torch.randn(2, batch, heads, keys, d).to(dtype)

    def gradient(attention: Callable[..., torch.Tensor], dtype: torch.dtype = dtype) -> torch.Tensor:
        inputs = [x.to(dtype).requires_grad_() for x in (q.detach(), k.detach(), v.detach())]
        return torch.autograd.grad(attention(*inputs), inputs, upstream.to(dtype))[0]

    compare(
        benchmark,
        "attention_gradient",
        lambda: gradient(reference.attention),
        {"torch": lambda: gradient(F.scaled_dot_product_attention)},
        gradient(reference.attention, torch.float64),
        14 * batch * heads * rows * keys * d,
    )
