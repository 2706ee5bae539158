"""modulate on the CPU: gated residual, LayerNorm, scale and shift, against eager torch and torch.compile.

`ratio` is the best alternative's median over ours, all timed in turns in one process.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from interleave import interleave
from pytest_benchmark.fixture import BenchmarkFixture

from aapt_ext import _C

EPS = 1e-6


def as_its_authors_write_it(
    x: torch.Tensor, y: torch.Tensor, gate: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    x = x + gate[:, None] * y
    return x, F.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale[:, None]) + shift[:, None]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("rows, width", [(300, 384), (1196, 1536)])
def bench_modulate(benchmark: BenchmarkFixture, rows: int, width: int, dtype: torch.dtype) -> None:
    x, y = (torch.randn(1, rows, width).to(dtype) for _ in range(2))
    gate, scale, shift = (torch.randn(1, width).to(dtype) for _ in range(3))
    residual, out = torch.empty_like(x), torch.empty_like(x)

    def ours() -> None:
        _C.modulate(x, y, gate, scale, shift, None, None, EPS, residual, out)

    compiled = torch.compile(as_its_authors_write_it)
    with torch.no_grad():
        medians = interleave(
            {
                "ours": ours,
                "eager torch": lambda: as_its_authors_write_it(x, y, gate, scale, shift),
                "torch.compile": lambda: compiled(x, y, gate, scale, shift),
            }
        )
    benchmark(ours)
    benchmark.extra_info |= {
        "ratio": min(medians["eager torch"], medians["torch.compile"]) / medians["ours"],
        "eager torch / ours": medians["eager torch"] / medians["ours"],
        "torch.compile / ours": medians["torch.compile"] / medians["ours"],
        "GB/s": (x.nbytes + y.nbytes + residual.nbytes + out.nbytes) / medians["ours"] / 1e9,
        "isa": _C.cpu_backend(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
