"""The folder maker: any directory of videos, cut into shots, without a camera."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from aapt_video.worlds.shards import Caption, ShardWriter

RATE = 24
"""Frames per second of every dataset."""

_SUFFIXES = {".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".y4m"}
_SHARD_BYTES = 64 * 2**20  # of source files per shard
_CUT, _OUTSTANDING = 0.10, 2.5  # see ShotCuts


@dataclass(frozen=True)
class FolderConfig:
    """What to read and how to bring it into form."""

    source: Annotated[str, tyro.conf.Positional]
    """The directory; it is searched with all its subdirectories. A text file beside a video (same name, .txt)
    is its caption."""
    width: int = 128
    """Pixels. Pictures are scaled to cover width x height and cut from the middle, never stretched."""
    height: int = 96
    """Pixels."""
    shortest: int = 25
    """Shots with fewer frames are dropped."""
    clip_frames: int = 481
    """Longer shots are divided into clips of this length."""

    def __post_init__(self) -> None:
        if not Path(self.source).is_dir():
            raise ValueError(f"source={self.source!r}: no such directory")
        if self.width % 2 or self.height % 2 or min(self.width, self.height) < 16:
            raise ValueError(f"width={self.width}, height={self.height}: must be even and at least 16")
        if not 1 <= self.shortest <= self.clip_frames:
            raise ValueError(f"shortest={self.shortest}: must lie between 1 and clip_frames={self.clip_frames}")


class FolderMaker:
    """Makes a shard of every 64 MiB of source files, in the order of their names."""

    name = "folder"
    total_frames: int | None = None

    def __init__(self, config: FolderConfig) -> None:
        # Absolute, because shards are made by processes that stand elsewhere.
        self.config = replace(config, source=str(Path(config.source).resolve()))
        if not self._files:
            raise ValueError(f"source={config.source!r}: no videos there ({', '.join(sorted(_SUFFIXES))})")

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> FolderMaker:
        """The maker that a configuration from JSON describes."""
        return FolderMaker(FolderConfig(**raw))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures."""
        return self.config.width, self.config.height

    def shard_count(self) -> int:
        """Number of shards."""
        return len(self._groups)

    def describe(self) -> dict[str, Any]:
        """The maker's part of index.json."""
        listing = "\n".join(f"{self._relative(path)} {path.stat().st_size}" for path in self._files)
        return {
            "split": "train",
            "tracks": {},
            "sources": {"files": len(self._files), "sha256": hashlib.sha256(listing.encode()).hexdigest()},
            "versions": {"av": av.__version__},
            "licences": {"pictures": "as the source files"},
            "notes": [
                "No camera: nothing is known about it.",
                f"Resampled to {RATE} frames per second; divided at shot cuts.",
            ],
        }

    def capture(self, shard: int, writer: ShardWriter, report: Callable[[int], None]) -> None:
        """Cuts the files of one shard into clips; notes what cannot be read, and keeps what came before it."""
        for path in self._groups[shard]:
            sidecar = path.with_suffix(".txt")
            text = " ".join(sidecar.read_text().split()) if sidecar.exists() else ""
            for clip in self._clips(path, writer, report):
                captions = (Caption(0, len(clip), text),) if text else ()
                writer.add_clip(np.stack(clip), {}, self._relative(path), captions)
                report(len(clip))

    def _clips(
        self, path: Path, writer: ShardWriter, report: Callable[[int], None]
    ) -> Iterator[list[NDArray[np.uint8]]]:
        from aapt_video.video import read_video  # imports torch, which the other makers do without

        config, cuts, clip = self.config, ShotCuts(), list[NDArray[np.uint8]]()
        try:
            for number, picture in enumerate(read_video(path, config.height, config.width, fps=RATE, chunk=1)):
                frame = picture[0].numpy()
                if cuts.starts_with(frame) or len(clip) == config.clip_frames:
                    if len(clip) >= config.shortest:
                        yield clip
                    clip = []
                clip.append(frame)
                if number % RATE == 0:
                    report(0)
        except (av.FFmpegError, ValueError) as error:
            writer.note(f"{self._relative(path)}: {error}")
        if len(clip) >= config.shortest:
            yield clip

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.config.source).as_posix()

    @cached_property
    def _files(self) -> list[Path]:
        found = (path for path in Path(self.config.source).rglob("*") if path.suffix.lower() in _SUFFIXES)
        return sorted(path for path in found if path.is_file())

    @cached_property
    def _groups(self) -> list[list[Path]]:
        groups: list[list[Path]] = [[]]
        size = 0
        for path in self._files:
            if groups[-1] and size + path.stat().st_size > _SHARD_BYTES:
                groups.append([])
                size = 0
            groups[-1].append(path)
            size += path.stat().st_size
        return groups


class ShotCuts:
    """Finds the first frame of each shot, frame by frame.

    A cut is a change of the picture (mean absolute difference of a 32 x 24 luminance) of at least 0.1 of the
    full range that is also 2.5 times the usual change of the last second: fast motion changes every frame, a cut
    only one.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float64] | None = None
        self._changes: deque[float] = deque(maxlen=RATE)

    def starts_with(self, frame: NDArray[np.uint8]) -> bool:
        """Whether a new shot starts with this frame (uint8 [height, width, 3])."""
        small = Image.fromarray(frame).convert("L").resize((32, 24), Image.Resampling.BOX)
        now, before = np.asarray(small, np.float64) / 255.0, self._last
        self._last = now
        if before is None:
            return False
        change = float(np.abs(now - before).mean())
        # The first change of a shot has nothing to be compared with: it tells what is usual there.
        if self._changes and change >= max(_CUT, _OUTSTANDING * float(np.median(self._changes))):
            self._changes.clear()
            return True
        self._changes.append(change)
        return False
