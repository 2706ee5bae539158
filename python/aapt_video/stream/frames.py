"""The pictures of one step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Frames(np.ndarray):
    """uint8 [4, H, W, 3], an ordinary array that also knows what it shows."""

    latent_frame: int
    """Number of the latent frame, from 1 on; these are the video frames 4 k - 3 to 4 k of its stream."""
    control: int
    """Sequence number of the control that they reflect."""

    @staticmethod
    def of(pictures: NDArray[np.uint8], latent_frame: int, control: int) -> Frames:
        frames = pictures.view(Frames)
        frames.latent_frame, frames.control = latent_frame, control
        return frames

    def __array_finalize__(self, source: Any) -> None:
        self.latent_frame = getattr(source, "latent_frame", 0)
        self.control = getattr(source, "control", -1)
