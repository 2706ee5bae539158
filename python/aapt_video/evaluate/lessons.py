"""What the measuring networks learn from: random pieces of real clips, with what is known about them.

A batch is a function of (seed, its number). Pictures are changed at random in ways that change no motion, because the
networks will look at generated video, which is softer, noisier or shaded otherwise than real video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aapt_video.train.clips import controls
from aapt_video.worlds.dataset import VideoDataset

from .motion import MIRRORED, latent_motion
from .networks import DAMAGES, PICTURES, WINDOW, prepared, prepared_grey
from .words import Vocabulary

SEEN = 3  # latent frames whose whole motion lies within a window of 16 video frames
_GRID = 8  # pixels: the spacing of what a codec may leave


def has_camera(data: VideoDataset) -> bool:
    """Whether the motion of the camera is recorded."""
    return "camera" in data.index["tracks"]


def motion_batch(data: VideoDataset, count: int, seed: int, number: int) -> tuple[Tensor, Tensor]:
    """Grey pictures [B, 5, h, w], changed at random, and their motion [B, 3]."""
    videos, motions = [], []
    for i in range(count):
        window = data.sample(PICTURES, seed, number * count + i)
        videos.append(window.video)
        motions.append(latent_motion(controls(data, window.clip, window.start, 1, "camera"))[0])
    pictures, motion = prepared_grey(torch.from_numpy(np.stack(videos))), torch.from_numpy(np.stack(motions)).float()
    random = torch.Generator().manual_seed(seed * 1_000_003 + number)
    mirrored = torch.rand(count, generator=random) < 0.5
    pictures = torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures)
    motion = torch.where(mirrored[:, None], motion * torch.tensor(MIRRORED), motion)
    return damaged(pictures, random)[0], motion


def damaged(pictures: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same pictures [B, n, h, w], shaded otherwise, and half of them each softer, behind a pattern, or noisy.

    Second comes how much, 0 to 1: softness, pattern, noise, [B, 3].
    """
    batch, _, height, width = pictures.shape
    much = torch.rand(3, batch, generator=random).mul(2).sub(1).clamp_min(0)
    soft, pattern, noise = much[..., None, None, None]
    shade = torch.rand(2, batch, 1, 1, 1, generator=random) - 0.5
    factor = int(torch.randint(2, 5, (), generator=random))
    small = F.interpolate(pictures, (height // factor, width // factor), mode="area")
    pictures = torch.lerp(pictures, F.interpolate(small, (height, width), mode="bilinear", align_corners=False), soft)
    pictures = pictures * (1 + 0.6 * shade[0]) + 0.4 * shade[1]
    tile = torch.randn(batch, 1, _GRID, _GRID, generator=random)
    tiles = tile.repeat(1, 1, -(-height // _GRID), -(-width // _GRID))[..., :height, :width]
    grain = torch.randn(pictures.shape, generator=random)
    return pictures + 0.05 * pattern * tiles + 0.06 * noise * grain, much.T


def blurred(pictures: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of [n, 3, H, W]; sigma in pixels."""
    reach = max(1, round(3 * sigma))
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    for dim, pad in ((-1, (reach, reach, 0, 0)), (-2, (0, 0, reach, reach))):
        wide, length = F.pad(pictures, pad, mode="replicate"), pictures.shape[dim]
        pictures = torch.zeros_like(pictures)
        for i, weight in enumerate((bell / bell.sum()).tolist()):
            pictures += weight * wide.narrow(dim, i, length)
    return pictures


@dataclass(frozen=True)
class LookBatch:
    """B windows as they are, and B others that were damaged: 2 B rows each."""

    windows: Tensor
    """Prepared, [2 B, 16, 3, h, w]."""
    marks: Tensor
    """Words of the captions, [2 B, words]."""
    motion: Tensor
    """[B, 9]: motions of the first three latent frames, of the undamaged windows; [B, 0] without a camera."""
    damage: Tensor
    """[2 B, 4]: 0 to 1, each kind of damage."""


def look_batch(data: VideoDataset, vocabulary: Vocabulary, count: int, seed: int, number: int) -> LookBatch:
    """A batch for the network whose features are compared."""
    random = torch.Generator().manual_seed(seed * 1_000_003 + number)
    found = [data.sample(WINDOW, seed, 2 * number * count + i) for i in range(2 * count)]
    motions = [np.zeros(0)] * count
    if has_camera(data):
        motions = [
            latent_motion(controls(data, window.clip, window.start, SEEN, "camera")).ravel() for window in found[:count]
        ]
    windows = prepared(torch.from_numpy(np.stack([window.video for window in found])))
    damage = torch.zeros(2 * count, DAMAGES)
    spoilt, damage[count:, :3] = damaged(windows[count:].flatten(1, 2), random)
    windows[count:] = spoilt.reshape(windows[count:].shape)
    for row in range(count, 2 * count, 2):
        windows[row] = windows[row, torch.randperm(WINDOW, generator=random)]
        damage[row, 3] = 1
    marks = np.stack([vocabulary.marks(window.caption) for window in found])
    return LookBatch(windows, torch.from_numpy(marks), torch.from_numpy(np.stack(motions)).float(), damage)
