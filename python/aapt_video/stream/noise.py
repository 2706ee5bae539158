"""Noise as a pure function of (seed, latent frame): fork, rewind and restore need no generator state.

Philox 4x64-10 words (NumPy guarantees their bits) and the Box-Muller transform in float64, rounded to float32 at the
end, on the host: one CPU and every GPU get the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SEEDS = 1 << 64


def check_seed(seed: int) -> int:
    """`seed` itself; raises ValueError unless 0 <= seed < 2^64."""
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed is {seed}; it must be between 0 and 2^64 - 1")
    return seed


def gaussian(seed: int, frame: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal numbers of one latent frame.

    Args:
        seed: of the stream, 0 to 2^64 - 1.
        frame: number of the latent frame.
        shape: of the latent, [C, H, W].

    Returns:
        float32 of that shape.
    """
    count = int(np.prod(shape))
    words = np.random.Philox(key=seed, counter=[0, frame, 0, 0]).random_raw(2 * (-(-count // 2)))
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1), both ends excluded
    first, second = uniform.reshape(2, -1)
    radius = np.sqrt(-2 * np.log(first))
    both = np.concatenate((radius * np.cos(2 * np.pi * second), radius * np.sin(2 * np.pi * second)))
    return both[:count].astype(np.float32).reshape(shape)


class NoiseAhead:
    """The noise of latents of one shape, drawn while a device is busy with the latent frames before.

    Args:
        shape: [C, H, W].
        keep: how many latents wait at most; where streams end without asking for theirs, the oldest go.
    """

    def __init__(self, shape: tuple[int, ...], keep: int = 32) -> None:
        self.shape, self.keep = shape, keep
        self._drawn: dict[tuple[int, int], NDArray[np.float32]] = {}

    def draw(self, frames: Iterable[tuple[int, int]]) -> None:
        """Draws for (seed, latent frame) what is likely to be asked for."""
        for frame in frames:
            if frame not in self._drawn:
                self._drawn[frame] = gaussian(*frame, self.shape)
        while len(self._drawn) > self.keep:
            del self._drawn[next(iter(self._drawn))]

    def take(self, seed: int, frame: int) -> NDArray[np.float32]:
        """`gaussian(seed, frame, shape)`, at once where it was drawn."""
        drawn = self._drawn.pop((seed, frame), None)
        return gaussian(seed, frame, self.shape) if drawn is None else drawn
