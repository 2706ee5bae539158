"""Videos and motions that are made up, and how long the networks of tests learn."""

from __future__ import annotations

import numpy as np

from aapt_video.evaluate.fitting import FitConfig
from aapt_video.evaluate.measures import Measures
from aapt_video.evaluate.networks import FEATURES
from aapt_video.worlds.camera import integrate_motion, relative_se3

FIT = FitConfig(motion_updates=90, look_updates=60)


def camera_controls(motion):
    """[T, 4, 4, 4] of per-frame motions [4 T, 5]: forward, strafe, up, yaw, pitch."""
    path = integrate_motion(np.array([10.0, 20, 0, 300, 0, 90]), np.concatenate([np.zeros((1, 5)), motion]))
    return relative_se3(path)[1:].reshape(-1, 4, 4, 4)


def made(edges=1.0, change=0.0, flow=1.0, T=60):
    """Measures of a made-up video of T latent frames."""
    return Measures(
        np.zeros((T - 3, FEATURES), np.float32), np.zeros((T, 3), np.float32),
        np.full(4 * T // 3 - 1, flow, np.float32), np.full(T, edges, np.float32),
        np.full(4 * T, change, np.float32), np.zeros((0, 512), np.float32),
    )  # fmt: skip
