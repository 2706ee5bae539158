"""Patch embedding of three channel groups against their concatenation, a patchify and a linear layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from compare import compare
from pytest_benchmark.fixture import BenchmarkFixture

from aapt_ext import pack_weight, patch_embed
from aapt_ext.reference import patchify

CHANNELS = (16, 12, 16)  # noise, condition, previous clean latent
SHAPES = {"300 x 384": (30, 40, 384), "1196 x 1536": (46, 104, 1536)}  # H, W of the latent, D


def composed(sources: list[torch.Tensor], weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.linear(patchify(torch.cat(sources, 1)), weight, bias)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def bench_patch_embed(benchmark: BenchmarkFixture, dtype: torch.dtype, shape: str) -> None:
    height, width, outputs = SHAPES[shape]
    torch.manual_seed(0)
    sources = [torch.randn(1, channels, height, width).to(dtype) for channels in CHANNELS]
    weight = (torch.randn(outputs, sum(CHANNELS), 2, 2) * 0.1).to(dtype)
    bias = torch.randn(outputs).to(dtype)
    packed, matrix = pack_weight(weight), weight.flatten(1)
    out = torch.empty(1, height * width // 4, outputs, dtype=dtype)
    compiled = torch.compile(composed)
    compare(
        benchmark,
        "patch_embed",
        lambda: patch_embed(sources, packed, bias, out=out),
        {
            "torch": lambda: composed(sources, matrix, bias),
            "torch.compile": lambda: compiled(sources, matrix, bias),
        },
        composed([source.double() for source in sources], matrix.double(), bias.double()),
        2 * out.numel() * 4 * sum(CHANNELS),
    )
