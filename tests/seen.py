"""What moves in pictures."""

from __future__ import annotations

import numpy as np


def shift(before: np.ndarray, after: np.ndarray) -> int:
    """Pixels by which a picture has moved to the right, by the best match of its middle rows."""
    reach = 40
    a, b = (picture.mean(-1)[24:72].astype(float) for picture in (before, after))
    middle = a[:, reach:-reach].ravel()
    width = a.shape[1] - 2 * reach
    found = [
        np.corrcoef(middle, b[:, reach + by : reach + by + width].ravel())[0, 1] for by in range(-reach, reach + 1)
    ]
    return int(np.argmax(found)) - reach
