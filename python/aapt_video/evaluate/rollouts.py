"""Where the videos that are measured begin, how they are steered, and that each is made only once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from aapt_video.train.clips import ConditionSource, controls
from aapt_video.worlds.dataset import VideoDataset

from .fitting import Networks
from .lessons import has_camera
from .measures import Measures, measure
from .motion import at_rest, latent_motion
from .players import Controls, Player, Progress

RATE = 24  # video frames per second of every dataset


@dataclass(frozen=True)
class Start:
    """A start frame and what follows it."""

    clip: int
    """Number of the held-out clip whose first frame it is."""
    picture: NDArray[np.uint8]
    """[H, W, 3]."""
    caption: str
    controls: Controls
    """[T, 4, 4, 4]; of no motion where the data has no camera."""

    @property
    def motion(self) -> NDArray[np.float64]:
        """What the controls ask for, [T, 3]."""
        return latent_motion(self.controls)

    @property
    def rest(self) -> NDArray[np.bool_]:
        """Which video frames the camera is asked to stand still for, [4 T]."""
        return at_rest(self.controls)


def starts(held_out: VideoDataset, count: int, latent_frames: int, source: ConditionSource) -> list[Start]:
    """Start frames spread evenly over the held-out clips.

    A clip's own controls come first, then those of the clips after it: what was walked elsewhere is a possible way to
    walk here, as far as the walls allow.

    Raises:
        ValueError: there are fewer clips.
    """
    if count > len(held_out.clips):
        raise ValueError(
            f"clips={count}, but the data in {held_out.root} has {len(held_out.clips)}: ask for fewer, or make more"
        )
    chosen = np.linspace(0, len(held_out.clips), count, endpoint=False).astype(int).tolist()
    return [_start(held_out, clip, latent_frames, source) for clip in chosen]


def real_start(held_out: VideoDataset, clip: int) -> tuple[Start, Tensor]:
    """A whole held-out clip as a start, with the real video uint8 [1 + 4 T, H, W, 3] that follows it.

    Its controls are what the camera did, whatever it was told to do: real video errs in nothing else.
    """
    positions = (len(held_out.clips[clip]) - 1) // 4
    video = held_out.window(clip, 0, 1 + 4 * positions).video
    source: ConditionSource = "camera" if has_camera(held_out) else "none"
    return _start(held_out, clip, positions, source), torch.from_numpy(video)


def _start(data: VideoDataset, clip: int, latent_frames: int, source: ConditionSource) -> Start:
    picture = data.window(clip, 0, 1)
    parts, number = list[Controls](), clip
    while sum(map(len, parts)) < latent_frames:
        positions = (len(data.clips[number]) - 1) // 4
        parts.append(
            np.tile(np.eye(4), (positions, 4, 1, 1))
            if source == "none"
            else controls(data, number, 0, positions, source)
        )
        number = (number + 1) % len(data.clips)
    return Start(clip, picture.video[0], picture.caption, np.concatenate(parts)[:latent_frames])


@dataclass(frozen=True)
class Rollout:
    """A video that a player made, as far as it is kept."""

    measures: Measures
    pictures: dict[float, NDArray[np.uint8]]
    """Seconds after the start -> [H, W, 3]."""


def roll(
    player: Player, start: Start, seed: int, networks: Networks, seconds: Sequence[float], root: Path, tick: Progress
) -> Rollout:
    """Makes and measures a video, or reads what an earlier run has kept of it under `root`."""
    facts = [player.fingerprint, networks.fingerprint, seed, start.caption, list(seconds)]
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update(start.picture.tobytes() + start.controls.tobytes())
    folder = root / player.name
    path = folder / f"clip{start.clip:03d}-seed{seed}-{digest.hexdigest()[:10]}.npz"
    shown = {second: path.with_name(f"{path.stem}-{second:g}s.png") for second in seconds}
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        video = player.play(start.picture, start.caption, start.controls, seed, tick)
        for second, file in shown.items():
            Image.fromarray(video[frame_at(second)].numpy()).save(file)
        measure(video, networks).save(path)
    else:
        tick(len(start.controls))
    pictures = {second: np.asarray(Image.open(file).convert("RGB")) for second, file in shown.items()}
    return Rollout(Measures.load(path), pictures)


def frame_at(second: float) -> int:
    """Video frame that is shown `second` seconds after the start, whose own frame is number 0."""
    return round(second * RATE)


def shown_seconds(frames: int) -> list[float]:
    """Seconds after the start at which pictures are kept: 1, 10 and 60, as far as the video goes, and its end."""
    inside = [second for second in (1.0, 10.0, 60.0) if frame_at(second) <= frames]
    return inside if inside and frame_at(inside[-1]) == frames else [*inside, frames / RATE]


def sections(latent_frames: int, seconds: float = 10.0) -> Iterator[slice]:
    """The latent frames of each section of ten seconds; a last one shorter than half of that joins the one before."""
    length = round(seconds * RATE / 4)
    bounds = [*range(0, latent_frames, length), latent_frames]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < length / 2:
        del bounds[-2]
    for low, high in pairwise(bounds):
        yield slice(low, high)
