"""How fast the camera moved that made a world's training data: what a user's camera keeps to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Speeds:
    """Limits of a camera, per video frame. Left out, they are those of the Doom capture's walker."""

    move: float = 5.0
    """Fastest motion, world units; 0 where the camera only turns."""
    turn: float = 2.0
    """Fastest rotation, degrees."""
    tilt: float = 0.0
    """Fastest nod, degrees; 0 where the capture's camera never nods."""
    acceleration: float = 0.35
    """Largest change of the motion, world units."""
    turn_acceleration: float = 0.2
    """Largest change of both rotations, degrees."""

    def __post_init__(self) -> None:
        if min(self.turn, self.acceleration, self.turn_acceleration) <= 0 or min(self.move, self.tilt) < 0:
            raise ValueError(f"turn and both accelerations must be positive, move and tilt at least 0: {self}")
