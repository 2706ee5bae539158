"""What a call costs before it computes: a bound function with three tensors of 64 elements, against a torch function
with three (`torch.addcmul(..., out=)` reads two and writes one).
"""

from __future__ import annotations

import torch
from interleave import interleave
from pytest_benchmark.fixture import BenchmarkFixture

from aapt_ext import _C


def bench_bound_function(benchmark: BenchmarkFixture) -> None:
    x, weight = torch.randn(1, 1, 64), torch.randn(64)
    out = torch.empty_like(x)

    def ours() -> None:
        _C.modulate(x, None, None, None, None, weight, None, 1e-6, None, out)

    medians = interleave({"ours": ours, "torch": lambda: torch.addcmul(x, x, weight, out=out)})
    benchmark(ours)
    benchmark.extra_info |= {
        "ratio": medians["torch"] / medians["ours"],
        "microseconds": medians["ours"] * 1e6,
        "isa": _C.cpu_backend(),
        "torch": torch.__version__,
    }
