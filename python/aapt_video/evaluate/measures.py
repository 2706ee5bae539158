"""What is measured of one video, small enough to be kept: a minute becomes a few hundred kilobytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aapt_video.codec import from_uint8
from aapt_video.train.codec import edge_energy

from .fitting import Networks
from .flow import EVERY, flow, largest
from .networks import PICTURES, WINDOW, prepared, prepared_grey

STRIDE = 4
"""Video frames from one window of features to the next."""

_BATCH = 32  # windows, or pairs, that are looked at together


@dataclass(frozen=True)
class Measures:
    """Of one video of 1 + 4 T frames whose first frame was given."""

    features: NDArray[np.float32]
    """[windows, 64]; window i begins at video frame 1 + 4 i."""
    motion: NDArray[np.float32]
    """[T, 3], seen by the motion network; [0, 3] without one."""
    flow: NDArray[np.float32]
    """[pairs]: how far the fastest parts move, in parts of the shorter side; pair i begins at video frame 1 + 3 i."""
    edges: NDArray[np.float32]
    """[T]: edge energy of the pictures of each latent frame."""
    change: NDArray[np.float32]
    """[4 T]: mean absolute difference of each video frame to the one before, 0 to 255."""
    imagenet: NDArray[np.float32]
    """[windows, 512], of the first picture of each window; [0, 512] where they are not asked for."""

    @property
    def latent_frames(self) -> int:
        """T."""
        return len(self.edges)

    def save(self, path: Path) -> None:
        """Writes an .npz file, whole or not at all."""
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> Measures:
        """What `save` wrote."""
        with np.load(path) as stored:
            return Measures(**{field.name: stored[field.name] for field in fields(Measures)})


@torch.no_grad()
def measure(video: Tensor, networks: Networks) -> Measures:
    """Measures uint8 [1 + 4 T, H, W, 3]; the first frame was given and counts only as what came before.

    Raises:
        ValueError: the video has another number of frames, or fewer than a window.
    """
    frames = len(video) - 1
    if frames % 4 or frames < WINDOW:
        raise ValueError(f"video has {len(video)} frames; it must be 1 + a multiple of 4, and at least {1 + WINDOW}")
    groups = torch.unflatten(video[1:], 0, (-1, 4))
    change = (video[1:].float() - video[:-1].float()).abs().mean((1, 2, 3))
    return Measures(
        features=features(video[1:], networks),
        motion=motions(video, networks),
        flow=flows(video[1:], networks.device),
        edges=np.array([float(edge_energy(from_uint8(group))) for group in groups], np.float32),
        change=change.numpy(),
        imagenet=_imagenet(video[1:], networks),
    )


@torch.no_grad()
def features(video: Tensor, networks: Networks, stride: int = STRIDE) -> NDArray[np.float32]:
    """Features [windows, 64] of every `stride`-th window of 16 of uint8 [n, H, W, 3]."""
    parts = [networks.look.read(prepared(windows)) for windows in _pieces(video, WINDOW, stride, networks.device)]
    return torch.cat(parts).cpu().numpy()


@torch.no_grad()
def motions(video: Tensor, networks: Networks) -> NDArray[np.float32]:
    """Motion [T, 3] of each latent frame of uint8 [1 + 4 T, H, W, 3]; [0, 3] without a motion network."""
    if networks.motion is None:
        return np.zeros((0, 3), np.float32)
    parts = [networks.motion.read(prepared_grey(pieces)) for pieces in _pieces(video, PICTURES, 4, networks.device)]
    return torch.cat(parts).cpu().numpy()


@torch.no_grad()
def flows(video: Tensor, device: torch.device) -> NDArray[np.float32]:
    """VBench's measure [pairs] of uint8 [n, H, W, 3], in parts of the shorter side."""
    parts = []
    for pieces in _pieces(video[::EVERY], 2, 1, device):
        pairs = prepared(pieces)
        parts.append(largest(flow(pairs[:, 0], pairs[:, 1])) / min(pairs.shape[-2:]))
    return torch.cat(parts).cpu().numpy()


def _imagenet(video: Tensor, networks: Networks) -> NDArray[np.float32]:
    if networks.imagenet is None:
        return np.zeros((0, 512), np.float32)
    return networks.imagenet(video[: len(video) - WINDOW + 1 : STRIDE])


def _pieces(video: Tensor, length: int, stride: int, device: torch.device) -> Iterator[Tensor]:
    """Batches uint8 [B, length, H, W, 3] of the pieces of a video that begin every `stride` frames."""
    starts = range(0, len(video) - length + 1, stride)
    for i in range(0, len(starts), _BATCH):
        yield torch.stack([video[start : start + length] for start in starts[i : i + _BATCH]]).to(device)
