"""record.json: what a result was made of, with what, where and when."""

from __future__ import annotations

import json
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from aapt_video.files import write_json
from aapt_video.machine import commit, package_version, processor_name

RECORD = "record.json"


def environment(device: torch.device, processes: int) -> dict[str, Any]:
    """Versions, commit and machine of this process."""
    return {
        "versions": {
            "aapt-video": package_version("aapt-video"),
            "python": platform.python_version(),
            **{name: package_version(name) for name in ("torch", "numpy", "safetensors")},
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
    return f"{processor_name()}, {os.cpu_count()} cores"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes record.json whole or not at all."""
    write_json(folder / RECORD, record)


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a result, or None where there is none."""
    path = folder / RECORD
    return dict(json.loads(path.read_text())) if path.is_file() else None
