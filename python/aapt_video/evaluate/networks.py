"""The measuring networks: small, trained on real video only, the same for every model that is compared.

`MotionNet` reads the camera's motion from five pictures. `LookNet` turns a window of 16 pictures into features for the
Fréchet distance, and tells which words of a caption fit it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .flow import flow
from .motion import MIRRORED

WINDOW = 16
"""Video frames whose features are one sample of the Fréchet distance."""

PICTURES = 5
"""Video frames that a motion is read from: those of a latent frame and the one before."""

FEATURES = 64

DAMAGES = 4
"""Kinds of damage that features shall tell: softness, a fixed pattern, noise, frames out of order."""

COMPUTED = 4
"""Of the features, those that are not learnt: see `energies`."""

_LARGEST = 160  # pixels: larger pictures are averaged down by a whole factor before they are measured
_LEAST = 1e-4  # of the largest variance: directions in which real windows vary less are noise of the training
_CHANNELS = 11  # that the motion is read from: four optical flows and three pictures
_UNIT = 16  # the networks halve their input four times


def prepared(frames: Tensor) -> Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., 3, h, w] in [-1, 1], at most 160 pixels wide, cut to multiples of 16."""
    lead = frames.shape[:-3]
    pictures = frames.reshape(-1, *frames.shape[-3:]).movedim(-1, 1).float().div(127.5).sub(1)
    factor = -(-max(pictures.shape[-2:]) // _LARGEST)
    if factor > 1:
        pictures = F.avg_pool2d(pictures, factor)
    height, width = (side // _UNIT * _UNIT for side in pictures.shape[-2:])
    top, left = (pictures.shape[-2] - height) // 2, (pictures.shape[-1] - width) // 2
    return pictures[..., top : top + height, left : left + width].reshape(*lead, 3, height, width)


def energies(windows: Tensor) -> Tensor:
    """Log of the edge energy of [B, 16, 3, h, w] at whole, half and quarter size, and of the change from picture to
    picture: [B, 4]."""
    found = [torch.log(windows.diff(dim=1).square().mean((1, 2, 3, 4)) + 1e-3)]
    pictures = windows.flatten(1, 2)
    for _ in range(COMPUTED - 1):
        across, down = pictures.diff(dim=-1).square().mean((1, 2, 3)), pictures.diff(dim=-2).square().mean((1, 2, 3))
        found.append(torch.log(across + down + 1e-5))
        pictures = F.avg_pool2d(pictures, 2)
    return torch.stack(found, 1)


def _halving(channels: int, out: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def prepared_grey(frames: Tensor) -> Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., h, w], as `prepared`, without colour."""
    return prepared(frames).mean(-3)


class MotionNet(nn.Module):
    """The motion between the first and the last of five pictures.

    Args:
        height, width: of prepared pictures.
        unit: deviation of forward, strafe and yaw in the training data.
    """

    unit: Tensor

    def __init__(self, height: int, width: int, unit: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("unit", torch.ones(3) if unit is None else unit.float())
        self.body = nn.Sequential(
            _halving(_CHANNELS, 48, stride=1),
            _halving(48, 64),
            _halving(64, 96),
            nn.Conv2d(96, 24, 1),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Sequential(
            nn.Linear(24 * (height // _UNIT) * (width // _UNIT), 128), nn.ReLU(inplace=True), nn.Linear(128, 3)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Motion [B, 3] in units of `unit`, of grey pictures [B, 5, h, w]."""
        # What a lamp or a darker exposure changes is no motion, and dark places move as bright ones do.
        pictures = (pictures / 2 + 0.5).clamp_min(0).add(1e-3).sqrt()
        pictures = pictures - pictures.mean((1, 2, 3), keepdim=True)
        pictures = pictures / (pictures.std((1, 2, 3), keepdim=True) + 0.02)
        small = F.avg_pool2d(pictures, 2)
        flows = flow(small[:, :-1].reshape(-1, 1, *small.shape[2:]), small[:, 1:].reshape(-1, 1, *small.shape[2:]))
        seen = torch.cat([flows.reshape(len(small), -1, *flows.shape[2:]), F.avg_pool2d(small[:, ::2], 2)], 1)
        out: Tensor = self.head(self.body(seen).flatten(1))
        return out

    def read(self, pictures: Tensor) -> Tensor:
        """Motion [B, 3] in map units and degrees. A mirrored picture moves the other way, exactly: both are read."""
        mirrored = self(pictures.flip(-1)) * torch.tensor(MIRRORED, device=pictures.device)
        motion: Tensor = (self(pictures) + mirrored) / 2 * self.unit
        return motion


class LookNet(nn.Module):
    """Features of a window of 16 pictures.

    Args:
        words: size of the vocabulary that captions are asked for; 0: none.
        motions: numbers that tell the camera's motion within a window; 0: the data has no camera.
    """

    centre: Tensor
    white: Tensor

    def __init__(self, words: int, motions: int) -> None:
        super().__init__()
        # Four video frames, in patches of 4x4 pixels.
        self.frame = nn.Sequential(nn.Conv2d(12, 48, 4, 4), nn.ReLU(inplace=True), _halving(48, 64), _halving(64, 96))
        self.time = _halving(2 * 96, 96, stride=1)
        # Brightness varies most and says least: what is pooled counts alike before and after it is mixed.
        self.features = nn.Sequential(
            nn.BatchNorm1d(4 * 96, affine=False),
            nn.Linear(4 * 96, FEATURES - COMPUTED),
            nn.BatchNorm1d(FEATURES - COMPUTED, affine=False),
        )
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("white", torch.eye(FEATURES))
        self.words, self.motion = nn.Linear(FEATURES, words), nn.Linear(FEATURES, motions)
        self.damage = nn.Linear(FEATURES, DAMAGES)

    def forward(self, windows: Tensor) -> Tensor:
        """What the heads read, [B, 64], of prepared windows [B, 16, 3, h, w]."""
        batch, count, _, height, width = windows.shape
        groups = windows.reshape(batch * count // 4, 12, height, width)
        maps = self.frame(groups).unflatten(0, (batch, -1))  # [B, 4, 96, h/16, w/16]
        pairs = torch.cat([maps[:, :-1], maps[:, 1:]], 2)  # neighbours in time, [B, 3, 192, ...]
        pairs = self.time(pairs.flatten(0, 1)).unflatten(0, (batch, -1))
        pooled = [part for x in (maps, pairs) for part in (x.mean((1, 3, 4)), x.amax((3, 4)).mean(1))]
        return torch.cat([self.features(torch.cat(pooled, 1)), energies(windows)], 1)

    def read(self, windows: Tensor) -> Tensor:
        """Features [B, 64], as far as real windows go without correlation and of unit variance: see `whiten`."""
        features: Tensor = (self(windows) - self.centre) @ self.white
        return features

    def whiten(self, real: Tensor) -> None:
        """Makes every direction count by how much real windows vary in it; `real` [n, 64] is what they give."""
        values, vectors = torch.linalg.eigh(torch.cov(real.double().T))
        scale = values.clamp_min(_LEAST * float(values.max())).rsqrt()
        self.centre.copy_(real.mean(0))
        self.white.copy_((vectors * scale) @ vectors.T)

    def say(self, features: Tensor) -> Tensor:
        """Log-odds [B, words] of each word, from what `read` gave."""
        log_odds: Tensor = self.words(torch.linalg.solve(self.white, features, left=False) + self.centre)
        return log_odds
