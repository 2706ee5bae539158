"""Checkpoints that are whole or absent.

    checkpoints/step-00000200/weights.safetensors    what is trained
    checkpoints/step-00000200/....safetensors        EMA, optimiser, random states
    checkpoints/step-00000200/checkpoint.json        step, facts, size and checksum of each file

A checkpoint is written under another name, every file is forced to the disk, and one rename makes it appear. A process
that dies at any moment leaves the checkpoints before it as they were; a file that the disk lost half of is found by its
checksum, and the checkpoint before is taken.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

FACTS = "checkpoint.json"


class DamagedCheckpoint(Exception):
    """A file of a checkpoint is missing, short or changed."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved."""

    step: int
    """Updates that had been done."""
    tensors: dict[str, dict[str, Tensor]]
    """Per file name (without its ending), named tensors on the CPU."""
    facts: dict[str, Any]
    """Whatever else JSON can hold."""


def checkpoint_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return root / f"step-{step:08d}"


def finished_steps(root: Path) -> list[int]:
    """Steps of the checkpoints under `root`, ascending; that they are undamaged is not checked."""
    return sorted(int(facts.parent.name[5:]) for facts in root.glob(f"step-*/{FACTS}"))


def save_checkpoint(root: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Writes a checkpoint, then deletes all but the newest `keep`; returns its folder.

    Training is a function of the step, so an undamaged checkpoint of this step that is there already is left alone.
    """
    if keep < 1:
        raise ValueError(f"keep={keep} must be >= 1: training could not be resumed")
    root.mkdir(parents=True, exist_ok=True)
    target = checkpoint_folder(root, checkpoint.step)
    making = root / f".making-{target.name}"
    for leftover in root.glob(".*-step-*"):
        shutil.rmtree(leftover)
    if target.exists():
        try:
            load_checkpoint(target)
            return target
        except DamagedCheckpoint:
            shutil.rmtree(target)
    making.mkdir()
    files = {}
    for name, tensors in checkpoint.tensors.items():
        path = making / f"{name}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
        files[path.name] = {"bytes": path.stat().st_size, "crc32": _crc32(path)}
        _sync(path)
    facts = making / FACTS
    facts.write_text(json.dumps({"step": checkpoint.step, "files": files, "facts": checkpoint.facts}, indent=1) + "\n")
    _sync(facts)
    _sync(making)
    making.rename(target)
    _sync(root)
    for step in finished_steps(root)[:-keep]:
        _remove(root, step)
    return target


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads one checkpoint.

    Raises:
        DamagedCheckpoint: it is not what was written.
    """
    try:
        described = json.loads((folder / FACTS).read_text())
        tensors = {}
        for name, file in described["files"].items():
            path = folder / name
            if path.stat().st_size != file["bytes"] or _crc32(path) != file["crc32"]:
                raise DamagedCheckpoint(f"{path} is not what was written (size or checksum differs)")
            tensors[path.stem] = load_file(path)
        return Checkpoint(described["step"], tensors, described["facts"])
    except (OSError, ValueError, KeyError) as error:
        raise DamagedCheckpoint(f"{folder}: {error}") from error


def load_newest(root: Path) -> Checkpoint | None:
    """The newest undamaged checkpoint, or None; warns about each damaged one that it passes over."""
    for step in reversed(finished_steps(root)):
        try:
            return load_checkpoint(checkpoint_folder(root, step))
        except DamagedCheckpoint as damage:
            warnings.warn(f"checkpoint of step {step} is damaged, taking the one before: {damage}", stacklevel=2)
    return None


def flatten(states: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """{"a": {"b": tensor}} as {"a/b": tensor}."""
    return {f"{outer}/{inner}": tensor for outer, state in states.items() for inner, tensor in state.items()}


def unflatten(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The inverse of `flatten`."""
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        outer, inner = name.split("/", 1)
        states.setdefault(outer, {})[inner] = tensor
    return states


def _remove(root: Path, step: int) -> None:
    """Takes the name away first: a half-deleted checkpoint must not look like one."""
    folder = checkpoint_folder(root, step)
    hidden = root / f".deleting-{folder.name}"
    folder.rename(hidden)
    shutil.rmtree(hidden)


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


def _sync(path: Path) -> None:
    """Forces a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
