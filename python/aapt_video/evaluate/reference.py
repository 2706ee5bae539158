"""What real video measures: the floors and controls that every figure of a model stands beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from aapt_video.codec import from_uint8, to_uint8
from aapt_video.worlds.dataset import VideoDataset

from .fitting import Networks
from .frechet import Features, frechet, thinned
from .lessons import blurred
from .measures import STRIDE, Measures, features, measure
from .networks import WINDOW
from .rollouts import Start, real_start

SOFT = 2.0
"""Pixels: deviation of the Gaussian blur of the blurred control."""


@dataclass(frozen=True)
class Reference:
    """All held-out video, measured as a model's video is."""

    starts: list[Start]
    """Of each clip, with what its camera did."""
    measures: list[Measures]
    blurred: list[NDArray[np.float32]]
    """Features of each clip behind a blur."""
    shuffled: list[NDArray[np.float32]]
    """Features of each clip with the 16 frames of every window in random order."""
    windows: int
    """Windows in each half."""

    def halves(self, kind: str = "real") -> tuple[Features, Features]:
        """Features of the even and of the odd clips (of the two parts of a single clip), `windows` of each."""
        parts = {
            "real": [m.features for m in self.measures],
            "blurred": self.blurred,
            "shuffled": self.shuffled,
            "imagenet": [m.imagenet for m in self.measures],
        }[kind]
        return _half(parts, 0, self.windows), _half(parts, 1, self.windows)

    def floor(self, windows: int | None = None) -> float:
        """Distance of one half to the other, where one of them counts only so many windows."""
        even, odd = self.halves()
        count = windows or self.windows
        return (frechet(thinned(even, count), odd) + frechet(thinned(odd, count), even)) / 2

    def control(self, kind: str) -> float:
        """Distance of the blurred, or the shuffled, halves to the other real half."""
        (even, odd), (bad_even, bad_odd) = self.halves(), self.halves(kind)
        return (frechet(bad_even, odd) + frechet(bad_odd, even)) / 2

    @property
    def edges(self) -> float:
        """Mean edge energy."""
        return float(np.mean(np.concatenate([m.edges for m in self.measures])))

    @property
    def flow(self) -> float:
        """Mean of VBench's measure of motion, in parts of the shorter side."""
        return float(np.mean(np.concatenate([m.flow for m in self.measures])))


def measure_reference(
    held_out: VideoDataset, networks: Networks, root: Path, windows: int, quiet: bool = False
) -> Reference:
    """Measures all held-out clips, or reads what an earlier run has kept under `root`.

    Args:
        windows: wanted in each half; fewer where the data does not hold them.

    Raises:
        ValueError: no clip is long enough to be measured.
    """
    folder = root / f"real-{networks.fingerprint}-{held_out.root.name}-{held_out.frames}"
    folder.mkdir(parents=True, exist_ok=True)
    long_enough = [clip for clip, place in enumerate(held_out.clips) if len(place) > WINDOW]
    if not long_enough:
        raise ValueError(f"held_out={str(held_out.root)!r} has no clip of {WINDOW + 1} video frames: make longer ones")
    found_starts, found, soft, mixed = [], [], [], []
    for clip in tqdm(long_enough, desc="measuring real video", unit="clip", disable=quiet):
        start, video = real_start(held_out, clip)
        path = folder / f"clip{clip:03d}.npz"
        if not path.is_file():
            measure(video, networks).save(path)
        found_starts.append(start)
        found.append(Measures.load(path))
        soft.append(_kept(path.with_suffix(".blurred.npy"), partial(_blurred, video[1:], networks)))
        mixed.append(_kept(path.with_suffix(".shuffled.npy"), partial(_shuffled, video[1:], networks, clip)))
    fewest = min(len(_half([m.features for m in found], side, windows)) for side in (0, 1))
    return Reference(found_starts, found, soft, mixed, fewest)


def soften(video: Tensor, sigma: float = SOFT) -> Tensor:
    """Blurs uint8 [n, H, W, 3]."""
    return to_uint8(blurred(from_uint8(video).movedim(0, 1), sigma).movedim(0, 1))


def _kept(path: Path, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """What `make` gives, made once."""
    if not path.is_file():
        unfinished = path.with_suffix(".partial.npy")
        np.save(unfinished, make())
        unfinished.replace(path)
    stored: NDArray[np.float32] = np.load(path)
    return stored


def _blurred(video: Tensor, networks: Networks) -> NDArray[np.float32]:
    return features(soften(video), networks)


def _shuffled(video: Tensor, networks: Networks, clip: int) -> NDArray[np.float32]:
    random = torch.Generator().manual_seed(clip)
    starts = range(0, len(video) - WINDOW + 1, STRIDE)
    mixed = [video[start + torch.randperm(WINDOW, generator=random)] for start in starts]
    return features(torch.cat(mixed), networks, stride=WINDOW)


def _half(parts: list[NDArray[np.float32]], side: int, windows: int) -> Features:
    if len(parts) > 1:
        return thinned(np.concatenate(parts[side::2]), windows)
    middle = len(parts[0]) // 2
    apart = WINDOW // STRIDE  # windows further from each other share no frame
    return thinned(parts[0][:middle] if side == 0 else parts[0][middle + apart :], windows)
