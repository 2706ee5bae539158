"""Streams that survive a kill: a snapshot every few seconds, and a journal of the controls since.

Snapshots are copied in the loop's thread, only pages that were not written before, and written by another thread; until
then the snapshot before and both journals lead to the same state. Open, rewind, prompt and branch cannot be replayed: a
stream rests after them until its snapshot is written, so nobody sees a picture that could be lost.

A server that finds such files replays the journals; the streams wait, paused, for the clients that know their sessions.
A step is a function of state and control, so what is replayed is what was shown, bit for bit where streams are stepped
one by one (`--exact`).
"""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from aapt_ext import CapacityError
from aapt_video.stream import Frames
from aapt_video.stream.snapshot import Snapshot, take

from .live import Live, LiveStream
from .protocol import Control
from .store import GONE, Store

log = logging.getLogger("aapt_video.serve")
EVERY = 5.0  # seconds between snapshots


class _Nobody:
    """Watches a stream that waits for its client."""

    def on_frames(self, frames: Frames, rewindable: int) -> None: ...

    def on_end(self, reason: str) -> None: ...


@dataclass
class _Kept:
    """A stream's files, as the loop's thread knows them."""

    store: Store
    number: int = -1
    """Of the newest snapshot that was taken."""
    known: frozenset[str] = frozenset()
    """Pages that are written, or will be before anything that is taken later."""
    journal: IO[str] | None = None
    """Of the steps after that snapshot; opened by the first."""
    time: float = 0.0
    """When that snapshot was taken, seconds."""
    written: Future[bool] = field(default_factory=Future)
    """Of that snapshot; False where it could not be."""
    complained: bool = False


class Keep:
    """Writes streams to a folder and reads them back. The folder's file names are secrets: only its owner may look.

    Each stream has a folder SESSION.STREAM.LIFE.stream (`store.py`), where no two streams ever have the same life.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        self._kept: dict[str, _Kept] = {}
        self._lives = itertools.count(1 + max((_life(path) for path in self._folders()), default=0))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="aapt-video keep")

    # -- called by the loop --

    def step(self, live: LiveStream, control: NDArray[np.float64] | None, sequence: int) -> None:
        """A step was done; nobody has seen it yet."""
        kept = self._kept[live.key]
        record = {
            "frame": live.stream.frame,
            "sequence": sequence,
            "pitch": live.rig.pitch,
            "control": None if control is None else control.tolist(),
        }
        try:
            if kept.journal is None:
                kept.journal = kept.store.journal_path(kept.number).open("w", encoding="utf-8")
            kept.journal.write(json.dumps(record) + "\n")
            kept.journal.flush()  # to the system, which outlives this process
        except OSError as error:
            self._complain(kept, error)
            kept.time = -EVERY  # a snapshot makes up for the gap
        if time.monotonic() - kept.time >= EVERY and kept.written.done():
            self._snapshot(live, kept, replayable=True)

    def changed(self, live: LiveStream) -> Future[bool]:
        """Takes a snapshot; the stream must not be stepped before the future is done."""
        if live.key not in self._kept:
            self._kept[live.key] = _Kept(Store(self.folder / f"{live.key}.{next(self._lives)}.stream"))
        return self._snapshot(live, self._kept[live.key], replayable=False)

    def ended(self, live: LiveStream) -> None:
        """The stream is over: its files go."""
        kept = self._kept.pop(live.key, None)
        if kept is not None:
            if kept.journal is not None:
                kept.journal.close()
            self._writer.submit(self._remove, live.key, _life(kept.store.folder))

    def close(self) -> None:
        """Waits until everything is written."""
        self._writer.shutdown()

    def _snapshot(self, live: LiveStream, kept: _Kept, *, replayable: bool) -> Future[bool]:
        """Copies what is not known yet and lets it be written; another journal begins.

        Args:
            replayable: the journals so far lead to the same state.
        """
        if kept.written.done() and not kept.written.result():
            kept.known = frozenset()
        snapshot = take(live.stream, kept.known)
        snapshot = replace(snapshot, facts=snapshot.facts | {"pitch": live.rig.pitch})
        if kept.journal is not None:
            kept.journal.close()
        kept.number, kept.known, kept.journal, kept.time = kept.number + 1, snapshot.names, None, time.monotonic()
        kept.written = self._writer.submit(self._write, live.key, kept, kept.number, snapshot, replayable)
        return kept.written

    # -- in the writer's thread --

    def _write(self, key: str, kept: _Kept, number: int, snapshot: Snapshot, replayable: bool) -> bool:
        store = kept.store
        try:
            store.folder.mkdir(mode=0o700, exist_ok=True)
            store.write(number, snapshot)
        except OSError as error:
            self._complain(kept, error)
            if not replayable:  # what is there leads elsewhere
                self._remove(key, _life(store.folder))
            return False
        kept.complained = False
        self._remove(key, _life(store.folder) - 1)
        return True

    def _remove(self, key: str, life: int) -> None:
        """Removes what is kept of a stream, up to that life."""
        for folder in self._folders():
            if _key(folder) == key and _life(folder) <= life:
                try:
                    Store(folder).remove()
                except OSError as error:
                    log.error("files of a stream that is over could not be removed: %s", error)

    def _complain(self, kept: _Kept, error: OSError) -> None:
        """Once, until a snapshot is written again."""
        if not kept.complained:
            log.error("a stream would not survive a restart of the server: %s", error)
        kept.complained = True

    def _folders(self) -> list[Path]:
        return list(self.folder.glob("*.*.*.stream"))

    # -- after a restart --

    def restore(self, loop: Live) -> dict[str, dict[int, LiveStream]]:
        """Opens what the folder holds, by session and number, each paused where it was; runs in the loop's thread.

        A stream that cannot go on (another model, no room) is left out with a warning, and its files are removed.
        """
        for path in self.folder.glob(f"*{GONE}"):  # the removal was cut off
            shutil.rmtree(path, ignore_errors=True)
        newest: dict[str, Path] = {}
        for folder in sorted(self._folders(), key=_life):
            if Store(folder).newest() is None:
                Store(folder).remove()  # nothing was shown of it
            else:
                newest[_key(folder)] = folder
        sessions: dict[str, dict[int, LiveStream]] = {}
        for key, folder in newest.items():
            try:
                live = self._restore(loop, key, Store(folder))
            except (ValueError, CapacityError, OSError) as error:
                log.warning("a stream of before cannot go on: %s", error)
                self._remove(key, _life(folder))
                continue
            session, _, stream = key.rpartition(".")
            sessions.setdefault(session, {})[int(stream)] = loop.add(live)
        return sessions

    def _restore(self, loop: Live, key: str, store: Store) -> LiveStream:
        snapshot, steps = store.read()
        stream = loop.generator.restore(snapshot, history=loop.settings.history)
        live = LiveStream(key, stream, _Nobody(), loop.speeds)
        try:
            live.rig.pitch = snapshot.facts["pitch"]
            for step in steps:
                stream.step(None if step["control"] is None else np.array(step["control"]), sequence=step["sequence"])
                live.rig.pitch = step["pitch"]
                if stream.frame != step["frame"]:
                    raise ValueError(f"the journal lacks steps before latent frame {step['frame']}")
        except BaseException:
            stream.close()
            raise
        live.control, live.paused = Control(sequence=stream.state.control), True
        return live


def _key(folder: Path) -> str:
    return folder.name.rsplit(".", 2)[0]


def _life(folder: Path) -> int:
    return int(folder.name.split(".")[-2])
