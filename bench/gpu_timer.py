"""Times several GPU calls against each other, in turns, by events of the stream.

Before every timed call a buffer larger than L2 is written, so that each finds the cache as a neighbouring layer would
leave it; `hot` leaves that out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch

FLUSH_BYTES = 256 << 20


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median, and the 10th and 90th percentile."""

    median: float
    p10: float
    p90: float


def time_in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int = 40, hot: bool = False) -> dict[str, Timing]:
    """Each round times every call once, starting with another one each time. The first five rounds warm up."""
    flush = torch.zeros(FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")
    names, warm_up = list(calls), 5
    events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name in names}
    for turn in range(warm_up + rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            if not hot:
                flush.add_(1)
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            calls[name]()
            end.record()
            if turn >= warm_up:
                events[name].append((start, end))
    torch.cuda.synchronize()
    seconds = {name: [start.elapsed_time(end) / 1e3 for start, end in pairs] for name, pairs in events.items()}
    return {name: _timing(samples) for name, samples in seconds.items()}


def _timing(samples: list[float]) -> Timing:
    tenths = quantiles(samples, n=10)
    return Timing(median(samples), tenths[0], tenths[-1])
