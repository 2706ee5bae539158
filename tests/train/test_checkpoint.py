"""Whatever happens while a checkpoint is written, the last good one loads."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from aapt_video.train.checkpoint import (
    FACTS,
    Checkpoint,
    DamagedCheckpoint,
    checkpoint_folder,
    finished_steps,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)


def checkpoint(step: int) -> Checkpoint:
    weights = {"a": torch.full((64, 3), float(step)), "b": torch.arange(step + 1)}
    return Checkpoint(step, {"weights": weights, "ema": {"a": torch.zeros(2)}}, {"step again": step})


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return (a.step, a.facts) == (b.step, b.facts) and all(
        torch.equal(a.tensors[file][name], b.tensors[file][name]) for file in b.tensors for name in b.tensors[file]
    )


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path, checkpoint(7))
    assert same(load_newest(tmp_path), checkpoint(7))


def test_no_checkpoint_is_none(tmp_path):
    assert load_newest(tmp_path) is None


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert finished_steps(tmp_path) == [3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def _save_and_die(root: Path, call: str, number: int) -> None:
    """Saves step 2 and kills itself at the `number`-th call of an os function."""
    real, calls = getattr(os, call), 0

    def fatal(*arguments, **names):
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **names)

    setattr(os, call, fatal)
    save_checkpoint(root, checkpoint(2), keep=1)


@pytest.mark.parametrize("call,number", [("fsync", n) for n in range(1, 6)] + [("mkdir", 1), ("rename", 1)])
def test_killed_while_saving_the_last_good_one_loads(tmp_path, call, number):
    save_checkpoint(tmp_path, checkpoint(1))
    process = multiprocessing.get_context("fork").Process(target=_save_and_die, args=(tmp_path, call, number))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    found = load_newest(tmp_path)
    assert same(found, checkpoint(found.step)) and found.step in (1, 2)
    # Whatever was left behind is cleared, and saving works again.
    save_checkpoint(tmp_path, checkpoint(3), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


@pytest.mark.parametrize("file", ["weights.safetensors", "ema.safetensors", FACTS])
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, file, damage):
    save_checkpoint(tmp_path, checkpoint(1))
    save_checkpoint(tmp_path, checkpoint(2))
    path = checkpoint_folder(tmp_path, 2) / file
    contents = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(contents[: len(contents) // 2])
    elif damage == "changed":
        path.write_bytes(contents[:-9] + bytes([contents[-9] ^ 255]) + contents[-8:])
    else:
        path.unlink()
    if (file, damage) == (FACTS, "missing"):
        assert load_newest(tmp_path).step == 1
        return
    with pytest.raises(DamagedCheckpoint):
        load_checkpoint(checkpoint_folder(tmp_path, 2))
    with pytest.warns(UserWarning, match="step 2 is damaged"):
        assert same(load_newest(tmp_path), checkpoint(1))
    # Training arrives at that step again, and replaces it.
    save_checkpoint(tmp_path, checkpoint(2))
    assert same(load_newest(tmp_path), checkpoint(2))


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep=0"):
        save_checkpoint(tmp_path, checkpoint(1), keep=0)
