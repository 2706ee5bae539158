"""What a control does within one latent frame, as three numbers that a picture can be asked for.

A motion is [3]: forward and strafe to the right (map units), and yaw to the left (degrees), of the last of the four
video frames against the frame before the first, in the level axes of that earlier camera.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FORWARD, STRAFE, YAW = range(3)
MIRRORED = (1.0, -1.0, -1.0)
"""Signs of a motion that is seen in a mirror."""

TURN = 2.0
"""Degrees per latent frame from which on a camera counts as turning."""

REST = 0.05
"""Map units, and degrees, per video frame up to which a camera counts as at rest."""


def latent_motion(controls: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Motion of each latent frame, [T, 3].

    Args:
        controls: [T, 4, 4, 4], per video frame the rigid transform from its camera's axes (x right, y down, z forward)
            to those of the frame before, as `train.clips.controls` gives them.
    """
    a, b, c, d = np.moveaxis(np.asarray(controls, np.float64), 1, 0)
    whole = a @ b @ c @ d
    ahead = whole[:, :3, 2]  # the new camera's forward axis, in the old one's axes
    yaw = np.degrees(np.arctan2(-ahead[:, 0], ahead[:, 2]))
    return np.stack([whole[:, 2, 3], whole[:, 0, 3], yaw], axis=1)


def at_rest(controls: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Whether the camera stands still from one video frame to the next, [4 T]; controls as for `latent_motion`."""
    each = np.asarray(controls, np.float64).reshape(-1, 4, 4)
    moved = np.linalg.norm(each[:, :3, 3], axis=1)
    cosine = np.clip((np.trace(each[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)
    still: NDArray[np.bool_] = (moved <= REST) & (np.degrees(np.arccos(cosine)) <= REST)
    return still


def turns(motion: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which latent frames [..., 3] turn by at least `TURN`."""
    turning: NDArray[np.bool_] = np.abs(motion[..., YAW]) >= TURN
    return turning
