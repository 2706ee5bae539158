"""The dataset format: a folder of shards, each complete or absent.

    root/index.json              what made it: maker, configuration, split, versions, licences, tracks
    root/card.md                 the same for a human reader
    root/shard-00000/header.json frames, size, clips with their captions
    root/shard-00000/video.npy   uint8 [frames, height, width, 3], memory-mapped; or video.mp4
    root/shard-00000/camera.npy  one float32 [frames, ...] array per track: camera, control, pose
    root/latents-NAME/           see latents.py

A clip is a run of frames without a cut; windows never cross clips. A shard is written under another name and
renamed when it is complete, so a reader never meets half a shard and a maker that was killed leaves the
finished ones good.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aapt_video.files import write_json

FORMAT = 1
"""Version of the format, in index.json and header.json."""

UNFINISHED = ".making-"
"""Beginning of the names of everything that an interrupted maker leaves behind."""

_NPY_HEADER = 128  # bytes: enough for the header of any video, fixed so that the shape can be filled in at the end


@dataclass(frozen=True)
class Caption:
    """A text for some frames of a clip."""

    start: int
    """First frame, counted within the clip."""
    stop: int
    """One past the last frame."""
    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    """What the text was made of; empty where the text came from elsewhere."""


@dataclass(frozen=True)
class Clip:
    """A run of frames without a cut."""

    start: int
    """First frame, counted within the shard."""
    stop: int
    """One past the last frame."""
    source: str
    """Map or file that the clip was taken from."""
    captions: tuple[Caption, ...] = ()

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class ShardHeader:
    """Contents of header.json."""

    frames: int
    width: int
    height: int
    video: str
    """Name of the video's file."""
    clips: tuple[Clip, ...]
    notes: tuple[str, ...] = ()
    """What went wrong on the way, such as unreadable source files."""

    @staticmethod
    def read(folder: Path) -> ShardHeader:
        """Reads the header of a finished shard."""
        raw = json.loads((folder / "header.json").read_text())
        if raw.pop("format") != FORMAT:
            raise ValueError(f"{folder}: made by another version of this program; make the data again")
        clips = []
        for clip in raw.pop("clips"):
            captions = tuple(Caption(**caption) for caption in clip.pop("captions"))
            clips.append(Clip(**clip, captions=captions))
        return ShardHeader(**{**raw, "notes": tuple(raw["notes"])}, clips=tuple(clips))


def shard_folder(root: Path, number: int) -> Path:
    """Folder of a finished shard."""
    return root / f"shard-{number:05d}"


def unfinished_folder(root: Path, number: int, process: int) -> Path:
    """Folder in which a process makes a shard."""
    return root / f"{UNFINISHED}{number:05d}-{process}"


def finished_shards(root: Path) -> list[int]:
    """Numbers of the complete shards under `root`, ascending."""
    return sorted(int(header.parent.name[6:]) for header in root.glob("shard-*/header.json"))


def remove_unfinished(root: Path) -> int:
    """Deletes what interrupted makers left behind; returns how many shards that were."""
    left = list(root.glob(f"{UNFINISHED}*"))
    for folder in left:
        shutil.rmtree(folder)
    return len(left)


class ShardWriter:
    """Writes one shard, clip by clip. A context manager: a clean exit makes the shard appear, an exception
    leaves nothing.

    Args:
        root: the dataset's folder; it must exist.
        number: the shard's number.
        size: width and height of the pictures, pixels.
        compress: H.264 (RGB, a key frame every 24 frames) in place of raw frames.
    """

    def __init__(self, root: Path, number: int, size: tuple[int, int], compress: bool = False) -> None:
        self._target = shard_folder(root, number)
        self._folder = unfinished_folder(root, number, os.getpid())
        self._size = size
        self._clips: list[Clip] = []
        self._tracks: dict[str, list[NDArray[np.float32]]] = {}
        self._notes: list[str] = []
        self._compress = compress

    @property
    def frames(self) -> int:
        """Frames written so far."""
        return self._clips[-1].stop if self._clips else 0

    def __enter__(self) -> ShardWriter:
        self._folder.mkdir()
        name = "video.mp4" if self._compress else "video.npy"
        self._video = (_Mp4Video if self._compress else _RawVideo)(self._folder / name, self._size)
        return self

    def note(self, text: str) -> None:
        """Records something that went wrong in the shard's header."""
        self._notes.append(text)

    def add_clip(
        self,
        video: NDArray[np.uint8],
        tracks: Mapping[str, NDArray[np.floating]],
        source: str,
        captions: tuple[Caption, ...] = (),
    ) -> None:
        """Appends one clip.

        Args:
            video: [frames, height, width, 3].
            tracks: per name, an array [frames, ...]; the same names and shapes for all clips of a dataset.
            source: map or file.
            captions: texts with frame numbers within the clip.
        Raises:
            ValueError: shapes that do not fit the shard.
        """
        width, height = self._size
        if video.dtype != np.uint8 or video.shape[1:] != (height, width, 3) or not len(video):
            raise ValueError(f"video is {video.dtype} {video.shape}: must be uint8 [frames, {height}, {width}, 3]")
        if self._clips and set(tracks) != set(self._tracks):
            raise ValueError(f"tracks {sorted(tracks)}: the first clip has {sorted(self._tracks)}")
        for name, track in tracks.items():
            if len(track) != len(video):
                raise ValueError(f"track {name!r} has {len(track)} rows for {len(video)} frames")
            self._tracks.setdefault(name, []).append(np.asarray(track, np.float32))
        self._video.append(video)
        self._clips.append(Clip(self.frames, self.frames + len(video), source, captions))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._video.close()
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self) -> None:
        for name, parts in self._tracks.items():
            np.save(self._folder / f"{name}.npy", np.concatenate(parts))
        header = ShardHeader(self.frames, *self._size, self._video.path.name, tuple(self._clips), tuple(self._notes))
        write_json(self._folder / "header.json", {"format": FORMAT, **asdict(header)})
        for path in self._folder.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        self._folder.rename(self._target)


class _RawVideo:
    """uint8 frames in NumPy's format; the number of frames is filled in at the end."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self.path, self._size, self._frames = path, size, 0
        self._file: BinaryIO = path.open("wb")
        self._file.write(b"\0" * _NPY_HEADER)

    def append(self, video: NDArray[np.uint8]) -> None:
        self._file.write(np.ascontiguousarray(video).data)
        self._frames += len(video)

    def close(self) -> None:
        shape = (self._frames, self._size[1], self._size[0], 3)
        text = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
        self._file.seek(0)
        length = _NPY_HEADER - 10
        self._file.write(b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n")
        self._file.close()


class _Mp4Video:
    """H.264 in RGB, frame number = presentation time."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        import av

        self.path = path
        self._container = av.open(str(path), "w")
        options = {"crf": "12", "preset": "veryfast", "bf": "0", "g": "24"}
        self._stream: Any = self._container.add_stream("libx264rgb", rate=24, options=options)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "rgb24"
        self._count = 0

    def append(self, video: NDArray[np.uint8]) -> None:
        import av

        for picture in video:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, self._count = self._count, self._count + 1
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self._count:
            self._container.mux(self._stream.encode())
        self._container.close()
