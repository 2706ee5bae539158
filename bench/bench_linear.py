"""The projections of a block on the rows of one latent frame, against torch's linear layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from compare import compare
from pytest_benchmark.fixture import BenchmarkFixture

from aapt_ext import linear, pack_weight

SHAPES = [  # rows, K, N
    (48, 192, 192),
    (48, 192, 576),
    (48, 192, 768),
    (48, 768, 192),
    (48, 768, 768),
    (48, 1536, 1536),
    (300, 384, 1152),
    (300, 1536, 1536),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def bench_linear(benchmark: BenchmarkFixture, dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    rows, inputs, outputs = shape
    torch.manual_seed(0)
    x = torch.randn(rows, inputs).to(dtype)
    weight = (torch.randn(outputs, inputs) / inputs**0.5).to(dtype)
    bias = torch.randn(outputs).to(dtype)
    packed, out = pack_weight(weight), torch.empty(rows, outputs, dtype=dtype)
    compare(
        benchmark,
        "linear",
        lambda: linear(x, packed, bias, out=out),
        {"torch": lambda: F.linear(x, weight, bias)},
        F.linear(x.double(), weight.double(), bias.double()),
        2 * rows * inputs * outputs,
    )
