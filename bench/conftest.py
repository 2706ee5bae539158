"""Turns the results of a pytest-benchmark run into records: `pytest bench --benchmark-only --record NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aapt_video.bench import record
from aapt_video.machine import commit

RESULTS = Path(__file__).parent / "results"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", metavar="NAME", help="write records to bench/results/NAME.json")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CLOCKS] = record.clocks() if config.getoption("--record", None) else {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Reads what pytest-benchmark measured; a benchmark's numbers in `extra_info` are metrics, the rest is workload."""
    name = session.config.getoption("--record", None)
    benchmarks = getattr(session.config, "_benchmarksession", None)
    if not name or benchmarks is None:
        return
    clocks = {"before": session.config.stash[_CLOCKS], "after": record.clocks()}
    shared = {"hardware": record.hardware(), "versions": record.versions(), "commit": commit()}
    records = [_to_record(result, clocks, shared) for result in benchmarks.benchmarks if result.stats.rounds]
    record.write(RESULTS / f"{name}.json", records)


def _to_record(result: Any, clocks: dict[str, Any], shared: dict[str, Any]) -> record.Record:
    extra = dict(result.extra_info)
    numbers = {key: float(value) for key, value in extra.items() if isinstance(value, (int, float))}
    words = {key: value for key, value in extra.items() if key not in numbers}
    parameters = dict(result.params or {})
    method = str(parameters.pop("method", "ours"))
    case = result.name.replace(method, "").replace("-]", "]")
    return record.Record(
        benchmark=Path(result.fullname.split("::")[0]).stem.removeprefix("bench_"),
        workload={"case": case, **{key: _plain(value) for key, value in {**parameters, **words}.items()}},
        method=method,
        metrics={"median_seconds": result.stats.median, "rounds": float(result.stats.rounds), **numbers},
        clocks=clocks,
        **shared,
    )


def _plain(value: Any) -> Any:
    """What JSON can hold as it is, and everything else in words."""
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


_CLOCKS: pytest.StashKey[dict[str, str]] = pytest.StashKey()
