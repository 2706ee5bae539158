"""`docs/benchmarks.md`, made from the records alone. What has no record says "not measured"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import step_report
from .goals import PUBLISHED, Goal
from .ratios import with_ratios
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
    records = with_ratios(read(arguments.results))
    pictures = step_report.draw(_latest(filter(step_report.is_step, records)), arguments.out.parent)
    arguments.out.write_text(make(records, GOALS, [(caption, path.name) for caption, path in pictures]))
    print(f"{len(records)} records -> {arguments.out}")


def make(records: Sequence[Record], goals: Sequence[Goal], pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The page as Markdown; `pictures` are captions and file names beside it."""
    parts = [
        "# Benchmarks",
        "Made by `aapt-video bench report` from the records in `bench/results/`; every figure there carries its "
        "command, commit, hardware, clocks and versions. Ours and the alternatives take turns in one process; a ratio "
        "is the best alternative's median time divided by ours.",
        "## Goals",
        _table(("goal", "bound", "measured", "where", ""), [_goal_row(goal, records) for goal in goals]),
        "## Measurements",
        *_measurements(records),
        *(f"![{caption}]({name})" for caption, name in pictures),
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
        latest = _latest(record for record in records if record.benchmark == name)
        steps = [record for record in latest if step_report.is_step(record)]
        rest = [record for record in latest if not step_report.is_step(record)]
        if steps:
            yield _table(step_report.HEAD, step_report.rows(steps))
        if rest:
            rows = [(_case(r), r.method, _place(r), _milliseconds(r), _others(r)) for r in rest]
            yield _table(("case", "method", "where", "median, ms", "also"), rows)
        commands = sorted({record.command for record in latest})
        yield "\n".join(f"    {command}" for command in commands)


def _latest(records: Iterable[Record]) -> list[Record]:
    """The newest of those with one method, workload and machine."""
    latest: dict[str, Record] = {}
    for record in sorted(records, key=lambda r: r.time):
        latest[f"{record.method} {record.workload} {_place(record)}"] = record
    return list(latest.values())


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
