"""The files of one stream that is kept: snapshots that share the files of their pages, and journals of the steps since.

    N.snapshot               the state that the N-th snapshot found, whole or not at all; it names its pages
    page-12.page, text-0.page    one page each, written once, before the first snapshot that names it
    N.journal                one line of JSON for each step after the N-th snapshot and before the next

A process that is killed anywhere leaves a newest whole snapshot, all its pages, and every journal from there on. Files
that no such restart needs are removed after each snapshot, so a folder holds a window of pages, however long it runs.
The system holds what was written when the process dies; nothing is promised for a machine that loses its power.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from aapt_video.stream.snapshot import Snapshot, read_snapshot, write_snapshot

SNAPSHOT, PAGE, JOURNAL = ".snapshot", ".page", ".journal"
GONE = ".gone"
"""A folder whose name ends so is being removed."""


class Store:
    """One folder. All but `journal_path` belongs to one thread: the one that may wait for a disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def journal_path(self, number: int) -> Path:
        return self.folder / f"{number}{JOURNAL}"

    def write(self, number: int, snapshot: Snapshot) -> None:
        """Writes the pages that the snapshot holds, then the rest of it, then removes what is not needed any more.

        Raises:
            OSError: the disk is full, or pages that the snapshot takes as known are not there.
        """
        for name, page in snapshot.pages.items():
            write_snapshot(self.folder / f"{name}{PAGE}", Snapshot({}, {}, {name: page}))
        needed = {f"{name}{PAGE}" for name in snapshot.names}
        present = {path.name for path in self.folder.iterdir()}
        if not needed <= present:
            raise FileNotFoundError(f"the snapshot needs {sorted(needed - present)}, whose writing failed")
        write_snapshot(self.folder / f"{number}{SNAPSHOT}", Snapshot(snapshot.facts, snapshot.tensors, {}))
        for path in self.folder.iterdir():
            old = path.suffix in (SNAPSHOT, JOURNAL) and _number(path) < number
            if old or (path.suffix == PAGE and path.name not in needed):
                path.unlink()

    def newest(self) -> int | None:
        """Number of the newest snapshot; None where there is none."""
        return max(map(_number, self.folder.glob(f"*{SNAPSHOT}")), default=None)

    def read(self) -> tuple[Snapshot, list[dict[str, Any]]]:
        """The newest snapshot and the steps after it.

        Raises:
            OSError, ValueError: a file is missing or damaged.
        """
        number = self.newest()
        if number is None:
            raise FileNotFoundError("there is no snapshot")
        bare = read_snapshot(self.folder / f"{number}{SNAPSHOT}")
        pages = {name: read_snapshot(self.folder / f"{name}{PAGE}").pages[name] for name in bare.names}
        journals = sorted(self.folder.glob(f"*{JOURNAL}"), key=_number)
        steps = [step for path in journals if _number(path) >= number for step in _read_journal(path)]
        return Snapshot(bare.facts, bare.tensors, pages), steps

    def remove(self) -> None:
        """Removes the folder; once this has begun, nobody finds a stream in it."""
        if self.folder.is_dir():
            gone = self.folder.with_name(f"{self.folder.name}{GONE}")
            os.rename(self.folder, gone)
            shutil.rmtree(gone)


def _number(path: Path) -> int:
    return int(path.stem)


def _read_journal(path: Path) -> list[dict[str, Any]]:
    """Whole lines; the last may have been cut off by the kill, and then nobody saw its pictures."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
