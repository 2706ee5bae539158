"""Reads a dataset: clips, and random windows of them that depend only on a seed and a step number."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aapt_video.worlds.camera import MOTION_UNIT, relative_motion
from aapt_video.worlds.shards import FORMAT, Caption, Clip, ShardHeader, finished_shards, shard_folder

_OPEN_VIDEOS = 64  # memory maps kept open at a time


@dataclass(frozen=True)
class Window:
    """T consecutive frames of one clip."""

    video: NDArray[np.uint8]
    """[T, height, width, 3]."""
    tracks: dict[str, NDArray[np.float32]]
    """Per name, [T, ...], as recorded: `camera`, `control`, `pose`, whichever the dataset has."""
    motion: NDArray[np.float32] | None
    """[T, 5]: camera motion relative to the previous frame in units of MOTION_UNIT; row 0 is zero. None
    without a camera."""
    caption: str
    """The text that covers most of the window, "" where there is none."""
    clip: int
    """Number of the clip in the dataset."""
    start: int
    """First frame, counted within the clip."""


class WindowSampler:
    """Draws windows of clips, each possible window equally likely, as a pure function of (seed, step).

    Args:
        lengths: length of each clip.
    """

    def __init__(self, lengths: NDArray[np.int64]) -> None:
        self._lengths = lengths

    def count(self, length: int) -> int:
        """Number of different windows of a length."""
        return int(self._starts(length).sum())

    def draw(self, length: int, seed: int, step: int) -> tuple[int, int]:
        """Clip and first frame of a window. Raises ValueError when no clip is long enough."""
        ends = np.cumsum(self._starts(length))
        if not len(ends) or not ends[-1]:
            longest = int(self._lengths.max(initial=0))
            raise ValueError(
                f"length={length}: the longest clip has {longest}; ask for shorter windows or longer clips"
            )
        rng = np.random.Generator(np.random.Philox(key=[seed, step]))
        pick = int(rng.integers(ends[-1]))
        clip = int(np.searchsorted(ends, pick, side="right"))
        return clip, pick - int(ends[clip - 1] if clip else 0)

    def _starts(self, length: int) -> NDArray[np.int64]:
        return np.maximum(self._lengths - length + 1, 0)


class VideoDataset:
    """A dataset that a maker wrote. Frames are read when they are asked for; only headers are kept in memory.

    Args:
        root: the dataset's folder.
    Raises:
        FileNotFoundError: no dataset there.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not (self.root / "index.json").exists():
            raise FileNotFoundError(
                f"{self.root}: no dataset (index.json is missing); make one with `aapt-video data make`"
            )
        self.index: dict[str, Any] = json.loads((self.root / "index.json").read_text())
        if self.index["format"] != FORMAT:
            raise ValueError(f"{self.root}: made by another version of this program; make the data again")
        self._shards = {
            number: ShardHeader.read(shard_folder(self.root, number)) for number in finished_shards(self.root)
        }
        self._places = [(number, clip) for number, shard in self._shards.items() for clip in shard.clips]
        self._sampler = WindowSampler(np.array([len(clip) for _, clip in self._places], np.int64))
        self._open = lru_cache(_OPEN_VIDEOS)(self._map)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, pixels."""
        width, height = self.index["size"]
        return int(width), int(height)

    @property
    def clips(self) -> list[Clip]:
        """All clips, in the order in which `clip` numbers count them."""
        return [clip for _, clip in self._places]

    @property
    def shards(self) -> dict[int, ShardHeader]:
        """Headers of the finished shards by number."""
        return self._shards

    @property
    def frames(self) -> int:
        """Frames in all clips."""
        return sum(shard.frames for shard in self._shards.values())

    def shard_of(self, clip: int) -> int:
        """Number of the shard that holds a clip."""
        return self._places[clip][0]

    def count(self, length: int) -> int:
        """Number of different windows of `length` frames."""
        return self._sampler.count(length)

    def sample(self, length: int, seed: int, step: int) -> Window:
        """The window number `step` of the endless random sequence `seed`; the same on every machine."""
        return self.window(*self._sampler.draw(length, seed, step), length)

    def window(self, clip: int, start: int, length: int) -> Window:
        """Frames `start` to `start + length` of a clip. Raises ValueError when the clip does not have
        them."""
        number, place = self._places[clip]
        if start < 0 or length < 1 or start + length > len(place):
            raise ValueError(f"clip {clip} has {len(place)} frames: no window of {length} from {start}")
        first = place.start + start
        tracks = {name: self.track(clip, name)[start : start + length] for name in self.index["tracks"]}
        motion = relative_motion(tracks["camera"]) / MOTION_UNIT if "camera" in tracks else None
        return Window(
            video=self._read(number, first, first + length),
            tracks=tracks,
            motion=motion,
            caption=caption_of(place.captions, start, start + length),
            clip=clip,
            start=start,
        )

    def track(self, clip: int, name: str) -> NDArray[np.float32]:
        """[frames, ...]: one track of a whole clip."""
        number, place = self._places[clip]
        return np.array(self._open(number, f"{name}.npy")[place.start : place.stop])

    def _map(self, number: int, file: str) -> NDArray[Any]:
        mapped: NDArray[Any] = np.load(shard_folder(self.root, number) / file, mmap_mode="r")
        return mapped

    def _read(self, number: int, first: int, stop: int) -> NDArray[np.uint8]:
        file = self._shards[number].video
        if file.endswith(".npy"):
            return np.array(self._open(number, file)[first:stop])
        return _decode(shard_folder(self.root, number) / file, first, stop)


def caption_of(captions: tuple[Caption, ...], start: int, stop: int) -> str:
    """Text of the caption that shares most frames with start..stop, "" where none does."""
    shared = [min(stop, caption.stop) - max(start, caption.start) for caption in captions]
    return captions[int(np.argmax(shared))].text if shared and max(shared) > 0 else ""


def _decode(path: Path, first: int, stop: int) -> NDArray[np.uint8]:
    """Frames first..stop of a shard's compressed video, from the key frame before them."""
    import av

    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        # The container has its own clock: a frame's number is its time times the rate.
        assert stream.time_base is not None and stream.average_rate is not None
        tick = 1 / (stream.time_base * stream.average_rate)
        container.seek(int(first * tick), stream=stream)
        for frame in container.decode(stream):
            assert frame.pts is not None
            number = round(frame.pts / tick)
            if number >= stop:
                break
            if number >= first:
                frames.append(frame.to_ndarray(format="rgb24"))
    return np.stack(frames)
