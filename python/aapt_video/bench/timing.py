"""Seconds of calls that take turns in one process, so that a neighbour, a clock or a warm cache touches all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Call = Callable[[], Any]


@dataclass
class Samples:
    """Seconds of every call that ended, in the order of the rounds; what failed says why."""

    seconds: dict[str, list[float]]
    failed: dict[str, str] = field(default_factory=dict)

    def quantile(self, name: str, share: float) -> float:
        return float(np.quantile(self.seconds[name], share))

    def median(self, name: str) -> float:
        return self.quantile(name, 0.5)


def in_turns(calls: Mapping[str, Call], device: torch.device, rounds: int, warm_up: int) -> Samples:
    """Times every call once per round, starting with another one each time.

    A call that raises is left out from then on; the others go on.

    Args:
        warm_up: rounds that are not counted.
    """
    samples = Samples({name: [] for name in calls})
    names = list(calls)
    for turn in range(warm_up + rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            if name in samples.failed:
                continue
            try:
                seconds = once(calls[name], device)
            except Exception as error:  # whatever a rival raises is its result, not ours
                samples.failed[name] = reason(error)
                continue
            if turn >= warm_up:
                samples.seconds[name].append(seconds)
    return samples


def once(call: Call, device: torch.device) -> float:
    """Seconds of one call, from an idle device to an idle device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def reason(error: BaseException) -> str:
    """An exception in one line of at most 300 characters."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:300]
