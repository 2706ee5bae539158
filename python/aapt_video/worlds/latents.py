"""Latents of a dataset, computed once and stored beside the video.

    root/latents-NAME/index.json               fingerprint of the codec
    root/latents-NAME/shard-00000/header.json  which rows belong to which clip
    root/latents-NAME/shard-00000/latents.npy  float16 [rows, C, h, w]: each clip encoded as one video
    root/latents-NAME/shard-00000/still.npy    float16 [rows, C, h, w]: the newest picture of each, alone

A causal codec packs four video frames into one latent frame, after a first one that stands for a single
picture. A user's first frame is such a single picture, while a latent from the middle of a clip holds motion;
windows can begin with either, which is why both are stored. Nothing here knows a codec: two functions do the
encoding.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aapt_video.files import write_json
from aapt_video.worlds.camera import MOTION_UNIT, relative_motion
from aapt_video.worlds.dataset import VideoDataset, WindowSampler, caption_of
from aapt_video.worlds.shards import FORMAT

PACK = 4
"""Video frames in a latent frame."""

Encode = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""From pictures uint8 [F, height, width, 3] to latents [n, C, h, w]."""


@dataclass(frozen=True)
class LatentWindow:
    """T consecutive latent frames of one clip. Latent frame 0 is the given picture; it has no motion and no
    control."""

    latents: NDArray[np.float32]
    """[T, C, h, w]."""
    motion: NDArray[np.float32] | None
    """[T, 4, 5]: for each video frame, the camera's motion from the frame before, in units of MOTION_UNIT."""
    tracks: dict[str, NDArray[np.float32]]
    """Per recorded track, [T, 4, ...] for each video frame. Nothing was commanded for latent frame 0: its `control` is
    zero; its other tracks show the given picture's value four times."""
    caption: str
    """The text that covers most of the window, "" where there is none."""
    clip: int
    """Number of the clip in the video dataset."""
    frame: int
    """Video frame of the clip that latent frame 0 shows (the newest of its four)."""


@dataclass(frozen=True)
class _Run:
    """Latent frames of one clip, encoded from the video frame `phase` on: rows start..stop of a shard."""

    shard: int
    clip: int
    phase: int
    start: int
    stop: int


def encode_dataset(
    dataset: VideoDataset,
    name: str,
    fingerprint: str,
    encode: Encode,
    encode_pictures: Encode,
    phases: tuple[int, ...] = (0,),
    quiet: bool = False,
) -> int:
    """Encodes whatever shards of a dataset have no latents yet.

    Args:
        dataset: the video.
        name: names the folder.
        fingerprint: tells the codec's weights apart; latents of another fingerprint are refused.
        encode: encodes a clip of 1 + 4n frames to 1 + n latent frames.
        encode_pictures: encodes pictures one by one: F pictures to F latent frames.
        phases: first video frame of each run through a clip, 0 to 3: more phases, more different latents.
        quiet: no progress bar.
    Returns:
        The number of shards encoded now.
    Raises:
        ValueError: latents of another codec or other phases are there; a function returns another number of
            latents.
    """
    if not phases or any(not 0 <= phase < PACK for phase in phases):
        raise ValueError(f"phases={phases}: numbers from 0 to {PACK - 1}, at least one")
    root = dataset.root / f"latents-{name}"
    root.mkdir(exist_ok=True)
    index = {"format": FORMAT, "fingerprint": fingerprint, "phases": list(phases)}
    if (root / "index.json").exists():
        old = json.loads((root / "index.json").read_text())
        if old != index:
            raise ValueError(
                f"{root} holds other latents ({old}, now {index}): choose another name, or delete the folder"
            )
    write_json(root / "index.json", index)
    missing = [number for number in dataset.shards if not (root / f"shard-{number:05d}").exists()]
    clips: dict[int, list[int]] = {number: [] for number in missing}
    for clip in range(len(dataset.clips)):
        if dataset.shard_of(clip) in clips:
            clips[dataset.shard_of(clip)].append(clip)
    frames = sum(dataset.shards[number].frames for number in missing)
    with tqdm(total=frames, unit="frame", desc=f"latents {name}", disable=quiet) as bar:
        for number in missing:
            _encode_shard(dataset, root, number, clips[number], encode, encode_pictures, phases, bar)
    return len(missing)


def _encode_shard(
    dataset: VideoDataset,
    root: Path,
    number: int,
    clips: list[int],
    encode: Encode,
    encode_pictures: Encode,
    phases: tuple[int, ...],
    bar: Any,
) -> None:
    runs: list[dict[str, int]] = []
    latents: list[NDArray[np.float16]] = []
    stills: list[NDArray[np.float16]] = []
    rows = 0
    for clip in clips:
        length = len(dataset.clips[clip])
        for phase in phases:
            count = (length - phase - 1) // PACK + 1
            if count < 1:
                continue
            video = dataset.window(clip, phase, 1 + PACK * (count - 1)).video
            latents.append(_checked(encode(video), count, "encode"))
            stills.append(_checked(encode_pictures(video[::PACK]), count, "encode_pictures"))
            runs.append({"shard": number, "clip": clip, "phase": phase, "start": rows, "stop": rows + count})
            rows += count
        bar.update(length)
    making = root / f".making-{number:05d}-{os.getpid()}"
    making.mkdir()
    try:
        np.save(making / "latents.npy", np.concatenate(latents) if latents else np.zeros((0,), np.float16))
        np.save(making / "still.npy", np.concatenate(stills) if stills else np.zeros((0,), np.float16))
        write_json(making / "header.json", runs)
        making.rename(root / f"shard-{number:05d}")
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _checked(latents: NDArray[np.floating], count: int, function: str) -> NDArray[np.float16]:
    if latents.ndim != 4 or len(latents) != count:
        raise ValueError(f"{function} returned shape {latents.shape}: must be [{count}, C, h, w]")
    if not np.isfinite(latents).all() or np.abs(latents).max(initial=0.0) > 6e4:
        raise ValueError(f"{function} returned values that float16 cannot hold")
    return latents.astype(np.float16)


class LatentDataset:
    """Reads latents together with the motion, control and captions of their video.

    Args:
        dataset: the video dataset.
        name: the name under which the latents were made.
    Raises:
        FileNotFoundError: no such latents.
    """

    def __init__(self, dataset: VideoDataset, name: str) -> None:
        self.dataset = dataset
        self.root = dataset.root / f"latents-{name}"
        if not (self.root / "index.json").exists():
            raise FileNotFoundError(f"{self.root}: no latents; encode the dataset first")
        self.index: dict[str, Any] = json.loads((self.root / "index.json").read_text())
        headers = sorted(self.root.glob("shard-*/header.json"))
        self._runs = [_Run(**run) for header in headers for run in json.loads(header.read_text())]
        self._sampler = WindowSampler(np.array([run.stop - run.start for run in self._runs], np.int64))
        self._open = lru_cache(64)(self._map)

    @property
    def rows(self) -> int:
        """Latent frames in all."""
        return sum(run.stop - run.start for run in self._runs)

    def count(self, length: int) -> int:
        """Number of different windows of `length` latent frames."""
        return self._sampler.count(length)

    def sample(self, length: int, seed: int, step: int, still: bool = True) -> LatentWindow:
        """The window number `step` of the endless random sequence `seed`.

        Args:
            length: latent frames, T.
            seed, step: choose the window; nothing else does.
            still: latent frame 0 is a picture encoded alone, as a user's first frame is; otherwise it holds
                the four moving
                frames of its place in the clip, as in the middle of a stream.
        """
        return self.window(*self._sampler.draw(length, seed, step), length, still)

    def window(self, run: int, start: int, length: int, still: bool = True) -> LatentWindow:
        """Latent frames `start` to `start + length` of a run. Raises ValueError when the run does not have
        them."""
        place = self._runs[run]
        if start < 0 or length < 1 or start + length > place.stop - place.start:
            raise ValueError(
                f"run {run} has {place.stop - place.start} latent frames: no window of {length} from {start}"
            )
        first = place.start + start
        latents = np.array(self._open(place.shard, "latents")[first : first + length], np.float32)
        if still:
            latents[0] = self._open(place.shard, "still")[first]
        frame = place.phase + PACK * start
        span = slice(frame, frame + PACK * (length - 1) + 1)
        rows = {name: self.dataset.track(place.clip, name)[span] for name in self.dataset.index["tracks"]}
        motion = _packed(relative_motion(rows["camera"]) / MOTION_UNIT) if "camera" in rows else None
        if "control" in rows:
            rows["control"][0] = 0.0
        tracks = {name: _packed(track) for name, track in rows.items()}
        captions = self.dataset.clips[place.clip].captions
        caption = caption_of(captions, span.start, span.stop)
        return LatentWindow(latents, motion, tracks, caption, place.clip, frame)

    def _map(self, shard: int, name: str) -> NDArray[np.float16]:
        mapped: NDArray[np.float16] = np.load(self.root / f"shard-{shard:05d}" / f"{name}.npy", mmap_mode="r")
        return mapped


def _packed(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """[1 + 4(T-1), ...] per video frame to [T, 4, ...] per latent frame; latent frame 0 shows row 0 four times."""
    return np.concatenate([np.repeat(rows[:1], PACK - 1, axis=0), rows]).reshape(-1, PACK, *rows.shape[1:])
