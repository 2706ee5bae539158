"""Ratios of records that were taken side by side, where the benchmark did not write them itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .record import Record


def with_ratios(records: Sequence[Record]) -> list[Record]:
    """The records; ours gain `ratio`, the best alternative's median GPU time divided by ours.

    An alternative counts where it did the same work in the same run. One whose name ends with "no text" did less;
    "ours, ..." is another form of ours.
    """
    return [_with_ratio(record, records) for record in records]


def _with_ratio(ours: Record, records: Sequence[Record]) -> Record:
    if ours.method != "ours" or "ratio" in ours.metrics or "gpu_seconds" not in ours.metrics:
        return ours
    others = [
        other.metrics["gpu_seconds"]
        for other in records
        if _run(other) == _run(ours) and not other.method.startswith("ours") and not other.method.endswith("no text")
        if "gpu_seconds" in other.metrics
    ]
    if not others:
        return ours
    return replace(ours, metrics={**ours.metrics, "ratio": min(others) / ours.metrics["gpu_seconds"]})


def _run(record: Record) -> tuple[object, ...]:
    return record.benchmark, record.workload, record.hardware, record.command, record.commit, record.clocks
