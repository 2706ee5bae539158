"""Makes a dataset: one process per shard, watched, several at a time; resumable at any moment."""

from __future__ import annotations

import fcntl
import json
import platform
import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from aapt_video.files import write_json
from aapt_video.worlds.card import write_card
from aapt_video.worlds.makers import Maker
from aapt_video.worlds.shards import (
    FORMAT,
    UNFINISHED,
    ShardHeader,
    finished_shards,
    remove_unfinished,
    shard_folder,
    unfinished_folder,
)
from aapt_video.worlds.watched import WatchedWorker


@dataclass(frozen=True)
class MakeOptions:
    """How to make, as opposed to what. None of it changes the data, except `compress`."""

    workers: int = 1
    """Shards made at a time."""
    compress: bool = False
    """Store H.264 in place of raw frames: on doom a quarter of the space at 42 dB, and much slower to read."""
    timeout: float = 60.0
    """Seconds without a sign of life after which a worker counts as hung."""
    attempts: int = 3
    """How often a shard is started whose worker hangs or crashes."""
    quiet: bool = False
    """No progress bar."""

    def __post_init__(self) -> None:
        for name in ("workers", "timeout", "attempts"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be positive")


class ShardsFailed(RuntimeError):
    """Some shards could not be made; the finished ones are good."""


def make_dataset(maker: Maker, root: Path, options: MakeOptions) -> int:
    """Makes whatever shards of a dataset are missing.

    Args:
        maker: what to make.
        root: the dataset's folder. A folder with finished shards of the same configuration is continued.
        options: how.
    Returns:
        The number of shards made now.
    Raises:
        ValueError: the folder holds something else.
        BlockingIOError: another process is making this dataset.
        ShardsFailed: see there. Running again tries the failed shards again.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _lock(root):
        index = _index(maker, options)
        _check_same(root, index)
        remove_unfinished(root)
        write_json(root / "index.json", index)
        done = finished_shards(root)
        missing = sorted(set(range(maker.shard_count())) - set(done))
        frames = sum(ShardHeader.read(shard_folder(root, number)).frames for number in done)
        bar = tqdm(total=maker.total_frames, initial=frames, unit="frame", desc=maker.name, disable=options.quiet)
        with bar:
            failures = _Crew(maker, root, options, bar).make(missing)
        write_card(root)
    if failures:
        listing = "\n".join(f"  shard {number}: {reason}" for number, reason in sorted(failures.items()))
        raise ShardsFailed(
            f"{len(failures)} of {maker.shard_count()} shards failed; run again to retry them\n{listing}"
        )
    return len(missing)


def _index(maker: Maker, options: MakeOptions) -> dict[str, Any]:
    described = maker.describe()
    described["versions"] = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        **described["versions"],
    }
    index = {
        "format": FORMAT,
        "maker": maker.name,
        "size": maker.size,
        "rate": 24,
        "compress": options.compress,
        "config": asdict(maker.config),
        **described,
    }
    return dict(json.loads(json.dumps(index)))


def _check_same(root: Path, index: dict[str, Any]) -> None:
    path = root / "index.json"
    if not path.exists():
        if any(not entry.name.startswith(".") for entry in root.iterdir()):
            raise ValueError(f"{root} is not empty and holds no dataset: choose another folder")
        return
    old = json.loads(path.read_text())
    keys = ("format", "maker", "compress", "config", "sources")
    if differing := [key for key in keys if old.get(key) != index.get(key)]:
        shown = "; ".join(f"{key}: {old.get(key)} there, {index.get(key)} now" for key in differing)
        raise ValueError(
            f"{root} holds another dataset ({shown}): choose another folder, or the same settings to continue"
        )


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"{root}: another process is making this dataset") from error
        yield


@dataclass
class _Crew:
    """Worker processes, each fed by a thread."""

    maker: Maker
    root: Path
    options: MakeOptions
    bar: tqdm
    _workers: set[WatchedWorker] = field(default_factory=set)
    _stopping: bool = False

    def make(self, numbers: list[int]) -> dict[int, str]:
        """Makes the shards; returns the reasons of those that failed."""
        jobs: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in numbers:
            jobs.put(number)
        failures: dict[int, str] = {}

        def work() -> None:
            with suppress(queue.Empty):
                while not self._stopping:
                    number = jobs.get_nowait()
                    try:
                        reason = self._make_one(number)
                    except OSError as error:  # such as no space left
                        reason = str(error)
                    if reason:
                        failures[number] = reason

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self.options.workers, len(numbers)))]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # returns to Python often, so that an interrupt is noticed
        finally:
            self._stopping = True
            for worker in list(self._workers):
                worker.end()
            for thread in threads:
                thread.join()
        return failures

    def _make_one(self, number: int) -> str:
        reason = ""
        for _ in range(self.options.attempts):
            # Inside the dataset's folder: what even a killed program leaves is removed by the next one.
            with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self.root) as litter:
                reason = self._attempt(litter, number)
            if not reason or self._stopping:
                break
        return reason

    def _attempt(self, litter: str, number: int) -> str:
        """Runs one worker to its end; returns why it failed, or nothing."""
        job: dict[str, Any] = {
            "maker": self.maker.name,
            "config": asdict(self.maker.config),
            "root": str(self.root.resolve()),
            "shard": number,
            "compress": self.options.compress,
            "litter": str(Path(litter).resolve()),
        }
        frames = 0

        def report(new: int) -> None:
            nonlocal frames
            frames += new
            self.bar.update(new)

        worker = WatchedWorker(job, self.options.timeout, report)
        self._workers.add(worker)
        try:
            reason = worker.run()
        finally:
            self._workers.discard(worker)
        if reason:
            self.bar.update(-frames)
            shutil.rmtree(unfinished_folder(self.root, number, worker.number), ignore_errors=True)
        return reason
