"""One benchmark of an operator: ours and the alternatives timed in turns, and what is needed to judge the figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from interleave import interleave
from pytest_benchmark.fixture import BenchmarkFixture

import aapt_ext


def compare(
    benchmark: BenchmarkFixture,
    operator: str,
    ours: Callable[[], torch.Tensor],
    alternatives: Mapping[str, Callable[[], torch.Tensor]],
    exact: torch.Tensor,
    flops: float,
    rounds: int = 15,
    peak: tuple[Callable[[], Any], float] | None = None,
) -> None:
    """Fills `benchmark.extra_info`.

    Args:
        operator: its name in the dispatch table.
        ours, alternatives: each computes the same result from the same inputs.
        exact: that result from float64.
        flops: of one call, without padding.
        rounds: of `interleave`.
        peak: a call that runs at the machine's peak, and its FLOPs (`peak.vdpbf16_peak`); timed in turns with the rest.
    """
    calls = {"ours": ours, **alternatives}
    results = {name: call().clone() for name, call in calls.items()}
    seconds = interleave({**calls, "peak": peak[0]} if peak else calls, rounds)
    best = min(alternatives, key=lambda name: seconds[name])
    benchmark.pedantic(ours, rounds=5, warmup_rounds=1)
    errors = {name: (result.double() - exact).abs().max().item() for name, result in results.items()}
    benchmark.extra_info |= {
        "ratio": seconds[best] / seconds["ours"],
        "best alternative": best,
        "GFLOP/s": flops / seconds["ours"] / 1e9,
        "isa": aapt_ext.implementation(operator, "cpu", results["ours"].dtype),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **({"share of peak": flops / seconds["ours"] / (peak[1] / seconds["peak"])} if peak else {}),
        **{f"{name}: ms": 1e3 * value for name, value in seconds.items()},
        **{f"{name}: largest error": value for name, value in errors.items()},
    }
