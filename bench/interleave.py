"""Times several callables against each other in one process, in turns, so that a neighbour on the machine, a clock that
changes or a warm cache touches all of them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def interleave(calls: Mapping[str, Callable[[], Any]], rounds: int = 15, seconds: float = 0.02) -> dict[str, float]:
    """Median seconds of one call, for each name.

    Args:
        calls: what to time, by name.
        rounds: each round times every callable once, starting with another one each time.
        seconds: a callable's share of a round; short calls are repeated to fill it.
    """
    repeats = {name: max(1, int(seconds / _once(call))) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            samples[name].append(_seconds(calls[name], repeats[name]))
    return {name: statistics.median(times) for name, times in samples.items()}


def _once(call: Callable[[], Any]) -> float:
    """A first estimate, after warming up (torch.compile compiles in its first calls)."""
    for _ in range(3):
        call()
    return max(_seconds(call, 3), 1e-8)


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
