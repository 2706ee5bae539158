"""record.json: what a result was made of, with what, where and when."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RECORD = "record.json"


def environment(device: torch.device, processes: int) -> dict[str, Any]:
    """Versions, commit and machine of this process."""
    return {
        "versions": {
            "aapt-video": _version("aapt-video"),
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "numpy", "safetensors")},
        },
        "commit": commit(),
        "device": device_name(device),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def device_name(device: torch.device) -> str:
    """The exact GPU, or the processor and its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores"


def commit() -> str | None:
    """The commit of the sources, "+changes" behind it where files differ; None outside a repository."""

    def git(*words: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes record.json whole or not at all."""
    partial = folder / f".{RECORD}.partial"
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(folder / RECORD)


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a result, or None where there is none."""
    path = folder / RECORD
    return dict(json.loads(path.read_text())) if path.is_file() else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
