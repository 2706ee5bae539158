"""The record of one measurement: what ran, on what, by which command, and what came out."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import torch

from aapt_ext import _C
from aapt_video.files import write_json
from aapt_video.machine import commit, package_version, processor_name

SCHEMA = 1
PACKAGES = ("torch", "numpy", "pybind11", "triton", "flash-attn", "flashinfer-python", "cupy-cuda13x")


@dataclass(frozen=True)
class Record:
    """One figure, or several of one run, with everything that is needed to take it again."""

    benchmark: str
    """What is measured: the suite's name, e.g. `attention` or `step`."""
    workload: dict[str, Any]
    """Shapes, dtype, window, decoder: what two records must share to be compared."""
    method: str
    """Who does it: `ours`, or the name of the alternative."""
    metrics: dict[str, float]
    """Seconds, GFLOP/s, GB/s, bytes, ratios; the unit is part of the name."""
    status: Literal["measured", "failed"] = "measured"
    note: str = ""
    """What a reader must know; the reason where status is `failed`."""
    hardware: dict[str, Any] = field(default_factory=lambda: hardware())
    versions: dict[str, str] = field(default_factory=lambda: versions())
    command: str = field(default_factory=lambda: command())
    commit: str = field(default_factory=commit)
    clocks: dict[str, Any] = field(default_factory=dict)
    """Before and after the run, where the driver tells them."""
    time: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    schema: int = SCHEMA


def write(path: Path, records: list[Record]) -> None:
    """Writes records as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [asdict(record) for record in records])


def read(folder: Path) -> list[Record]:
    """All records of a folder, oldest file first.

    Raises:
        ValueError: a file is not a list of records of this schema; the message names it.
    """
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            found = [Record(**entry) for entry in json.loads(path.read_text())]
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a list of records ({error}); remove it, or write it again") from error
        if any(record.schema != SCHEMA for record in found):
            raise ValueError(f"{path} has records of schema {found[0].schema}; this program reads {SCHEMA}")
        records += found
    return records


def hardware() -> dict[str, Any]:
    """The processor and, where there is one, the GPU."""
    found: dict[str, Any] = {
        "cpu": processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction set": _C.cpu_backend(),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["gpu memory bytes"] = properties.total_memory
        found["multiprocessors"] = properties.multi_processor_count
        found["driver"] = _query_gpu("driver_version")
    return found


def clocks() -> dict[str, str]:
    """SM and memory clock, temperature and power limit as the driver reports them; empty without a GPU."""
    names = ("clocks.sm", "clocks.mem", "temperature.gpu", "power.limit")
    return {name: _query_gpu(name) for name in names} if torch.cuda.is_available() else {}


def versions() -> dict[str, str]:
    """Of what a figure depends on."""
    found = {"python": platform.python_version(), "aapt-video": package_version("aapt-video")}
    found |= {name: package_version(name) for name in PACKAGES}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return {name: value for name, value in found.items() if value}


def command() -> str:
    """The command line that started this process."""
    program = Path(sys.argv[0]).name
    usual = {"__main__.py": "python -m pytest", "cli.py": "aapt-video"}
    return " ".join([usual.get(program, program), *sys.argv[1:]])


def _query_gpu(name: str) -> str:
    query = ["nvidia-smi", f"--query-gpu={name}", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
