"""Streams that survive a kill: a snapshot every few seconds, and a journal of the controls since.

    SESSION.STREAM.N.snapshot    written whole or not at all
    SESSION.STREAM.N.journal     one line of JSON per step after it, written before its pictures are shown

A server that finds such files replays the journals; the streams wait, paused, for the clients that know their sessions.
A step is a function of state and control, so what is replayed is what was shown, bit for bit where streams are stepped
one by one (`--exact`). Rewind, prompt and branch write a snapshot at once.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from aapt_ext import CapacityError
from aapt_video.stream import Frames

from .live import Live, LiveStream
from .protocol import Control

log = logging.getLogger("aapt_video.serve")
EVERY = 5.0  # seconds between snapshots


class _Nobody:
    """Watches a stream that waits for its client."""

    def on_frames(self, frames: Frames, rewindable: int) -> None: ...

    def on_end(self, reason: str) -> None: ...


@dataclass
class _Kept:
    """The files of one stream."""

    number: int
    journal: IO[str]
    time: float


class Keep:
    """Writes streams to a folder and reads them back. The folder's file names are secrets: only its owner may look."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        self._kept: dict[str, _Kept] = {}

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
        kept.journal.write(json.dumps(record) + "\n")
        kept.journal.flush()  # to the system, which outlives this process
        if time.monotonic() - kept.time >= EVERY:
            self.changed(live)

    def changed(self, live: LiveStream) -> None:
        """Writes a snapshot and begins a journal after it."""
        before = self._kept.get(live.key)
        number = 0 if before is None else before.number + 1
        live.stream.save(self._path(live.key, number, "snapshot"))
        journal = self._path(live.key, number, "journal").open("w", encoding="utf-8")
        self._kept[live.key] = _Kept(number, journal, time.monotonic())
        if before is not None:
            self._drop(live.key, before)

    def ended(self, live: LiveStream) -> None:
        """The stream is over: its files go."""
        kept = self._kept.pop(live.key, None)
        if kept is not None:
            self._drop(live.key, kept)

    # -- after a restart --

    def restore(self, loop: Live) -> dict[str, dict[int, LiveStream]]:
        """Opens what the folder holds, by session and number, each paused where it was; runs in the loop's thread.

        A stream that cannot go on (another model, no room) is left out with a warning, and its files are removed.
        """
        newest: dict[str, int] = {}
        for path in self.folder.glob("*.snapshot"):
            if not path.name.startswith("."):
                key, written, _ = path.name.rsplit(".", 2)
                newest[key] = max(newest.get(key, 0), int(written))
        sessions: dict[str, dict[int, LiveStream]] = {}
        for key, number in sorted(newest.items()):
            try:
                live = self._restore(loop, key, number)
            except (ValueError, CapacityError, OSError) as error:
                log.warning("a stream of before cannot go on: %s", error)
                self._remove(key)
                continue
            session, _, stream = key.rpartition(".")
            sessions.setdefault(session, {})[int(stream)] = live
        return sessions

    def _restore(self, loop: Live, key: str, number: int) -> LiveStream:
        stream = loop.generator.restore(self._path(key, number, "snapshot"), history=loop.settings.history)
        live = LiveStream(key, stream, _Nobody(), loop.settings.speeds)
        try:
            for record in self._read_journal(key, number):
                control = None if record["control"] is None else np.array(record["control"])
                stream.step(control, sequence=record["sequence"])
                live.rig.pitch = record["pitch"]
        except BaseException:
            stream.close()
            raise
        live.control, live.paused = Control(sequence=stream.state.control), True
        journal = self._path(key, number, "journal").open("a", encoding="utf-8")
        self._kept[key] = _Kept(number, journal, time.monotonic())
        return loop.add(live)

    def _read_journal(self, key: str, number: int) -> list[dict]:  # type: ignore[type-arg]
        """Whole lines; the last may have been cut off by the kill, and then nobody saw its pictures."""
        path = self._path(key, number, "journal")
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]

    # -- files --

    def _path(self, key: str, number: int, kind: str) -> Path:
        return self.folder / f"{key}.{number}.{kind}"

    def _drop(self, key: str, kept: _Kept) -> None:
        kept.journal.close()
        for kind in ("snapshot", "journal"):
            self._path(key, kept.number, kind).unlink(missing_ok=True)

    def _remove(self, key: str) -> None:
        for path in self.folder.glob("*"):
            if path.name.rsplit(".", 2)[0] == key:
                path.unlink(missing_ok=True)
