"""`docs/benchmarks.md`, made from the records alone. What has no record says "not measured"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .goals import PUBLISHED, Goal
from .record import Record, read
from .targets import GOALS

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Report:
    """Make the report of all benchmark records."""

    results: Path = Path("bench/results")
    """Folder of records."""
    out: Path = Path("docs/benchmarks.md")
    """The page to write."""


def run(arguments: Report) -> None:
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    records = read(arguments.results)
    arguments.out.write_text(make(records, GOALS))
    print(f"{len(records)} records -> {arguments.out}")


def make(records: Sequence[Record], goals: Sequence[Goal]) -> str:
    """The page as Markdown."""
    parts = [
        "# Benchmarks",
        "Made by `aapt-video bench report` from the records in `bench/results/`; every figure there carries its "
        "command, commit, hardware, clocks and versions. Ours and the alternatives take turns in one process; a ratio "
        "is the best alternative's median time divided by ours.",
        "## Goals",
        _table(("goal", "bound", "measured", "where", ""), [_goal_row(goal, records) for goal in goals]),
        "## Measurements",
        *_measurements(records),
        "## Published figures of others",
        "As they state them, on their machines; nothing here was measured by us.",
        _table(
            ("system", "output", "hardware", "figure", "source"),
            [(p.system, p.output, p.hardware, p.figure, p.source) for p in PUBLISHED],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _goal_row(goal: Goal, records: Sequence[Record]) -> tuple[str, ...]:
    bound = f"{'at least' if goal.sense == 'at_least' else 'at most'} {_number(goal.bound)}"
    found = [record for record in records if goal.matches(record) and record.status == "measured"]
    if not found:
        return goal.text, bound, NOT_MEASURED, "", ""
    latest = max(found, key=lambda record: record.time)
    value = latest.metrics[goal.metric]
    return goal.text, bound, _number(value), _place(latest), "reached" if goal.reached(value) else "**missed**"


def _measurements(records: Sequence[Record]) -> Iterable[str]:
    if not records:
        yield f"Nothing is recorded yet: {NOT_MEASURED}."
    for name in sorted({record.benchmark for record in records}):
        yield f"### {name}"
        latest: dict[str, Record] = {}
        for record in sorted((r for r in records if r.benchmark == name), key=lambda r: r.time):
            latest[f"{record.method} {record.workload} {_place(record)}"] = record
        rows = [(_case(r), r.method, _place(r), _milliseconds(r), _others(r)) for r in latest.values()]
        yield _table(("case", "method", "where", "median, ms", "also"), rows)
        commands = sorted({record.command for record in latest.values()})
        yield "\n".join(f"    {command}" for command in commands)


def _case(record: Record) -> str:
    case = str(record.workload.get("case", ""))
    return case or ", ".join(f"{key} {value}" for key, value in record.workload.items())


def _milliseconds(record: Record) -> str:
    if record.status == "failed":
        return f"failed: {record.note}"
    seconds = record.metrics.get("median_seconds")
    return "" if seconds is None else _number(seconds * 1e3)


def _others(record: Record) -> str:
    hidden = ("median_seconds", "rounds", "threads")
    return ", ".join(f"{key} {_number(value)}" for key, value in record.metrics.items() if key not in hidden)


def _place(record: Record) -> str:
    hardware = record.hardware
    cpu = f"{hardware.get('cpu', '?')}, {hardware.get('threads', '?')} threads, {hardware.get('instruction set', '?')}"
    return str(hardware.get("gpu", cpu))


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
