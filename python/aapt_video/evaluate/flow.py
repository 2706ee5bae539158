"""How far pictures move: dense optical flow, and VBench's dynamic degree on it.

VBench takes RAFT; this is the pyramidal method of Lucas and Kanade (1981) on pictures that were halved and blurred
first, so that the grid of 8x8 pixels which a codec may leave is not taken for something that stands still. Figures are
to be compared with those of real video here, not with VBench's tables.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

EVERY = 3
"""Video frames from one looked-at picture to the next: 8 per second, as in VBench."""

_LEVELS, _ROUNDS, _REACH = 3, 3, 4  # of the pyramid; refinements per level; half width of a neighbourhood
_LIGHT = 1e-3  # variance of grey below which a neighbourhood shows nothing that could be followed


def flow(before: Tensor, after: Tensor) -> Tensor:
    """Displacement of every point from one picture to the other.

    Args:
        before, after: [B, 3, H, W] in [-1, 1].

    Returns:
        [B, 2, H / 2, W / 2]: x and y in pixels of the given size; 0 where nothing can be followed.
    """
    levels = [(_blurred(before.mean(1, keepdim=True)), _blurred(after.mean(1, keepdim=True)))]
    while len(levels) < _LEVELS and min(levels[-1][0].shape[-2:]) >= 4 * _REACH:
        levels.append((_blurred(levels[-1][0]), _blurred(levels[-1][1])))
    found = torch.zeros(len(before), 2, *levels[-1][0].shape[-2:], device=before.device)
    for one, other in reversed(levels):
        if found.shape[-2:] != one.shape[-2:]:
            found = 2 * F.interpolate(found, one.shape[-2:], mode="bilinear", align_corners=False)
        slopes = _Slopes(one)
        for _ in range(_ROUNDS):
            found = found + slopes.missing(_warped(other, found))
    return 2 * found


def largest(displacement: Tensor) -> Tensor:
    """Mean length of the longest 5 % of displacements [B, 2, H, W]: VBench's measure of a pair of pictures, [B]."""
    length = displacement.norm(dim=1).flatten(1)
    fastest: Tensor = length.topk(max(1, round(0.05 * length.shape[1])), dim=1).values
    return fastest.mean(1)


def moving(lengths: NDArray[np.floating]) -> bool:
    """Whether a clip counts as dynamic: a quarter of its pairs move by more than 6 pixels of 256 (VBench).

    Args:
        lengths: [pairs] of `largest`, in parts of the shorter side of the pictures.
    """
    return int((lengths > 6 / 256).sum()) >= max(1, round(len(lengths) / 4))


def _blurred(grey: Tensor) -> Tensor:
    """Blurs by (1 3 3 1) both ways and halves."""
    kernel = torch.tensor([1.0, 3.0, 3.0, 1.0], device=grey.device) / 8
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, (kernel[:, None] * kernel)[None, None], stride=2)


class _Slopes:
    """Of one picture [B, 1, h, w]: they tell which displacement explains a small change (Lucas and Kanade)."""

    def __init__(self, picture: Tensor) -> None:
        self._picture = picture
        self._y, self._x = torch.gradient(picture, dim=(-2, -1))
        self._xx, self._yy = _around(self._x**2) + _LIGHT, _around(self._y**2) + _LIGHT
        self._xy = _around(self._x * self._y)
        self._inverse = 1 / (self._xx * self._yy - self._xy**2)

    def missing(self, other: Tensor) -> Tensor:
        """Displacement [B, 2, h, w] that is still missing, by least squares in each neighbourhood."""
        change = self._picture - other
        xt, yt = _around(self._x * change), _around(self._y * change)
        step = torch.cat([self._yy * xt - self._xy * yt, self._xx * yt - self._xy * xt], 1) * self._inverse
        return step.clamp(-1.0, 1.0)


def _around(values: Tensor) -> Tensor:
    """Mean over each neighbourhood, one direction after the other."""
    side = 2 * _REACH + 1
    rows = F.avg_pool2d(values, (1, side), 1, (0, _REACH), count_include_pad=False)
    return F.avg_pool2d(rows, (side, 1), 1, (_REACH, 0), count_include_pad=False)


def _warped(picture: Tensor, displacement: Tensor) -> Tensor:
    """What lies at the displaced places."""
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=picture.device), torch.arange(width, device=picture.device), indexing="ij"
    )
    across = (2 * (x + displacement[:, 0]) + 1) / width - 1
    down = (2 * (y + displacement[:, 1]) + 1) / height - 1
    return F.grid_sample(picture, torch.stack([across, down], -1), padding_mode="border", align_corners=False)
