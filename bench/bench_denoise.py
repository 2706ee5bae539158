"""The last operator of a step against LayerNorm, scale and shift, a linear layer, unpatchify and a subtraction."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from compare import compare
from pytest_benchmark.fixture import BenchmarkFixture

from aapt_ext import denoise, pack_weight
from aapt_ext.reference import unpatchify

CHANNELS, EPS, TIMESTEP = 16, 1e-6, 1.0
SHAPES = {"300 x 384": (30, 40, 384), "1196 x 1536": (46, 104, 1536)}  # H, W of the latent, D


def composed(
    x: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    noisy: torch.Tensor,
) -> torch.Tensor:
    normed = F.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale[:, None]) + shift[:, None]
    return noisy - TIMESTEP * unpatchify(F.linear(normed, weight, bias), *noisy.shape[2:])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def bench_denoise(benchmark: BenchmarkFixture, dtype: torch.dtype, shape: str) -> None:
    height, width, d = SHAPES[shape]
    torch.manual_seed(0)
    x, scale, shift = (torch.randn(*size).to(dtype) for size in ((1, height * width // 4, d), (1, d), (1, d)))
    weight = (torch.randn(4 * CHANNELS, d) / d**0.5).to(dtype)
    bias = torch.randn(4 * CHANNELS).to(dtype)
    noisy = torch.randn(1, CHANNELS, height, width).to(dtype)
    packed, out = pack_weight(weight), torch.empty_like(noisy)
    inputs = (x, scale, shift, weight, bias, noisy)
    compiled = torch.compile(composed)
    compare(
        benchmark,
        "denoise",
        lambda: denoise(x, scale, shift, packed, bias, noisy, TIMESTEP, eps=EPS, out=out),
        {"torch": lambda: composed(*inputs), "torch.compile": lambda: compiled(*inputs)},
        composed(*(tensor.double() for tensor in inputs)),
        2 * x.numel() * 4 * CHANNELS,
    )
