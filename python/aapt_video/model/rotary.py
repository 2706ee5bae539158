"""Three-axis rotary position embedding: time, row, column.

A pair of features turns by its position times its frequency. Positions are computed in float64, so that a stream that
has run for a year turns as exactly as a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .config import PATCH, TransformerConfig


def rotation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of cosines and sines for activations of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def time_angles(config: TransformerConfig, times: Sequence[float] | Tensor) -> Tensor:
    """Cosines and sines of the time pairs.

    Args:
        times: [n], latent frames (positions may be fractional).

    Returns:
        [n, pairs, 2], float64, on the CPU.
    """
    return torch.from_numpy(time_table(config, times))


def time_table(config: TransformerConfig, times: Sequence[float] | Tensor) -> NDArray[np.float64]:
    """`time_angles` without torch, whose operators cost more than their arithmetic on a step's few numbers."""
    frequencies = _time_frequencies(config.rope_theta, config.rope_pairs[0])
    angles = np.multiply.outer(np.array(times, dtype=np.float64) * config.rope_interval, frequencies)
    table = np.empty((*angles.shape, 2))
    np.cos(angles, out=table[..., 0])
    np.sin(angles, out=table[..., 1])
    return table


def space_angles(config: TransformerConfig, height: int, width: int) -> Tensor:
    """Cosines and sines of the row and column pairs of each token.

    Args:
        height, width: of a latent frame, in latent pixels.

    Returns:
        [L, pairs, 2], float64, on the CPU; rows first, then columns.
    """
    rows, columns = height // PATCH, width // PATCH
    row_unit, column_unit = (1.0, 1.0)
    if config.rope_grid is not None:
        row_unit, column_unit = config.rope_grid[0] / rows, config.rope_grid[1] / columns
    _, row_pairs, column_pairs = config.rope_pairs
    y = torch.arange(rows, dtype=torch.float64)[:, None] * row_unit * _frequencies(config.rope_theta, row_pairs)
    x = (
        torch.arange(columns, dtype=torch.float64)[:, None]
        * column_unit
        * _frequencies(config.rope_theta, column_pairs)
    )
    y = y[:, None].expand(rows, columns, row_pairs)
    x = x[None].expand(rows, columns, column_pairs)
    return _cos_sin(torch.cat((y, x), -1).flatten(0, 1))


def pinned_time(config: TransformerConfig, frame: int, first: int = 1) -> int:
    """Where position `frame` seems to be when it looks at text and at the pinned position `first`."""
    return first + min(frame - first, config.pinned_cap) if config.pinned == "cap" else frame


@lru_cache
def _frequencies(theta: float, pairs: int) -> Tensor:
    return theta ** (-torch.arange(pairs, dtype=torch.float64) / max(pairs, 1))


@lru_cache
def _time_frequencies(theta: float, pairs: int) -> NDArray[np.float64]:
    return _frequencies(theta, pairs).numpy()


def _cos_sin(angles: Tensor) -> Tensor:
    return torch.stack((angles.cos(), angles.sin()), -1)
