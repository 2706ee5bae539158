"""From keys to camera motion: what is asked for, and the speeds at which the training data was captured.

A `Rig` turns wishes (shares of the fastest motion) into one rigid transform per video frame. It limits how fast the
motion may change, as the walker did that made the data: a key is a step for the hand, a ramp for the camera.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aapt_video.stream import Speeds

FRAMES = 4  # video frames of one latent frame


@dataclass(frozen=True)
class OwnSpeeds:
    """Limits of the camera per video frame, where they shall differ from the world's."""

    move: float | None = None
    """Fastest motion, world units."""
    turn: float | None = None
    """Fastest rotation, degrees."""
    tilt: float | None = None
    """Fastest nod, degrees."""
    acceleration: float | None = None
    """Largest change of the motion, world units."""
    turn_acceleration: float | None = None
    """Largest change of both rotations, degrees."""

    def over(self, world: Speeds) -> Speeds:
        """What is given here, and the world's rest; raises ValueError where that is out of range."""
        return replace(world, **{name: value for name, value in asdict(self).items() if value is not None})


@dataclass(frozen=True)
class Wish:
    """Shares of the fastest motion, -1 to 1; turn: left is positive, tilt: up."""

    forward: float = 0.0
    right: float = 0.0
    up: float = 0.0
    turn: float = 0.0
    tilt: float = 0.0


MOST_TILT = 60.0  # degrees from the horizon


class Rig:
    """A camera that is steered: level, but for its tilt."""

    def __init__(self, speeds: Speeds) -> None:
        self.speeds = speeds
        self.pitch = 0.0
        self._velocity = np.zeros(3)  # right, up, forward
        self._rotation = np.zeros(2)  # turn, tilt

    def step(self, wish: Wish) -> NDArray[np.float64]:
        """[4, 4, 4]: the next four frames' transforms to the frame before each."""
        speeds = self.speeds
        asked = np.array([wish.right, wish.up, wish.forward], np.float64)
        asked *= speeds.move / max(1.0, float(np.linalg.norm(asked)))
        turns = np.array([wish.turn * speeds.turn, wish.tilt * speeds.tilt])
        motions = []
        for _ in range(FRAMES):
            change = asked - self._velocity
            self._velocity += change * min(1.0, speeds.acceleration / max(float(np.linalg.norm(change)), 1e-9))
            limit = speeds.turn_acceleration
            self._rotation += np.clip(turns - self._rotation, -limit, limit)
            motions.append(self._move(self._velocity, *self._rotation))
        return np.stack(motions)

    def stop(self) -> None:
        """At rest at once: after a jump in time."""
        self._velocity[:], self._rotation[:] = 0, 0

    def _move(self, velocity: NDArray[np.float64], turn: float, tilt: float) -> NDArray[np.float64]:
        before = self.pitch
        self.pitch = float(np.clip(before + tilt, -MOST_TILT, MOST_TILT))
        right, up, forward = velocity
        return motion(forward, right, up, turn, before, self.pitch)


def motion(
    forward: float, right: float, up: float, turn: float, pitch_before: float = 0.0, pitch: float = 0.0
) -> NDArray[np.float64]:
    """[4, 4]: from the axes of a frame's camera (x right, y down, z forward) to those of the frame before.

    Args:
        forward, right, up: in the level frame of the camera before, world units.
        turn: degrees to the left.
        pitch_before, pitch: degrees above the horizon.
    """
    level = np.eye(4)
    angle = np.radians(turn)
    level[0, 0] = level[2, 2] = np.cos(angle)
    level[0, 2], level[2, 0] = -np.sin(angle), np.sin(angle)
    level[:3, 3] = right, -up, forward
    moved: NDArray[np.float64] = _nod(pitch_before).T @ level @ _nod(pitch)
    return moved


def _nod(pitch: float) -> NDArray[np.float64]:
    """[4, 4]: from the axes of a camera that looks `pitch` degrees up to the level ones."""
    turn = np.eye(4)
    angle = np.radians(pitch)
    turn[1, 1] = turn[2, 2] = np.cos(angle)
    turn[1, 2], turn[2, 1] = -np.sin(angle), np.sin(angle)
    return turn
