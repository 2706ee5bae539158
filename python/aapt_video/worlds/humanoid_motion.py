"""What the figure does: postures as functions of time, and a performer that goes from one to the next without
a jolt."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aapt_video.worlds.humanoid_body import ANGLES

Posture = dict[str, float]
"""Degrees by the names of ANGLES; what is left out is 0."""

_BLEND = 14  # frames from one action to the next
_WANDER = 0.5  # metres from the middle of the room at which a walker turns back


def stand(phase: float) -> Posture:
    """Breathing, shifting the weight a little."""
    sway = math.sin(phase * 0.35)
    arms = {f"{side} {name}": angle for side in ("left", "right") for name, angle in (("raise", 6.0), ("elbow", 12.0))}
    return {"lean": 2.0 * sway, "turn": 12.0 * math.sin(phase * 0.2), "bend": 2.0 + math.sin(phase), **arms}


def walk(phase: float) -> Posture:
    """One step per half turn of the phase."""
    return _gait(phase, stride=24.0, lift=42.0, arm=22.0, elbow=18.0, bend=3.0)


def run(phase: float) -> Posture:
    """A slow run: longer strides, higher knees, bent elbows."""
    return _gait(phase * 1.25, stride=24.0, lift=70.0, arm=38.0, elbow=75.0, bend=10.0)


def march(phase: float) -> Posture:
    """On the spot, with high knees."""
    posture = {"bend": 2.0}
    for side, at in (("left", phase), ("right", phase + math.pi)):
        up = max(0.0, math.sin(at)) ** 1.3
        posture |= {f"{side} hip": 65.0 * up, f"{side} knee": 75.0 * up, f"{side} swing": -30.0 * math.sin(at)}
        posture |= {f"{side} elbow": 50.0, f"{side} raise": 5.0}
    return posture


def wave(phase: float) -> Posture:
    """The right arm up, waving."""
    posture = stand(phase)
    return posture | {"right raise": 120.0 + 22.0 * math.sin(2.0 * phase), "right elbow": 30.0, "turn": -8.0}


def squat(phase: float) -> Posture:
    """Down and up again, arms forward."""
    down = 0.5 - 0.5 * math.cos(phase)
    posture: Posture = {"bend": 28.0 * down, "nod": -14.0 * down}
    for side in ("left", "right"):
        posture |= {f"{side} hip": 75.0 * down, f"{side} knee": 105.0 * down, f"{side} ankle": 30.0 * down}
        posture |= {f"{side} swing": 80.0 * down, f"{side} elbow": 10.0, f"{side} spread": 8.0}
    return posture


def jack(phase: float) -> Posture:
    """Arms and legs out and in, as in a jumping jack without the jump."""
    out = 0.5 - 0.5 * math.cos(phase)
    sides = ("left", "right")
    return {f"{side} raise": 10.0 + 140.0 * out for side in sides} | {f"{side} spread": 22.0 * out for side in sides}


def bow(phase: float) -> Posture:
    """Bends forward and comes up again."""
    down = 0.5 - 0.5 * math.cos(phase * 0.7)
    posture = {"bend": 60.0 * down, "nod": 20.0 * down}
    for side in ("left", "right"):
        posture |= {f"{side} swing": 25.0 * down, f"{side} elbow": 8.0, f"{side} hip": 12.0 * down}
    return posture


def stretch(phase: float) -> Posture:
    """Arms overhead, leaning from side to side."""
    posture = {"lean": 22.0 * math.sin(phase * 0.7), "turn": 0.0}
    return posture | {"left raise": 165.0, "right raise": 165.0, "left spread": 10.0, "right spread": 10.0}


def twist(phase: float) -> Posture:
    """The upper body turns from side to side, arms held out."""
    posture = {"twist": 40.0 * math.sin(phase), "turn": 15.0 * math.sin(phase)}
    return posture | {"left raise": 80.0, "right raise": 80.0, "left elbow": 60.0, "right elbow": 60.0}


ACTIONS: dict[str, tuple[Callable[[float], Posture], float]] = {
    "stands": (stand, 0.06),
    "walks": (walk, 0.40),
    "runs": (run, 0.10),
    "marches on the spot": (march, 0.07),
    "waves": (wave, 0.09),
    "squats": (squat, 0.07),
    "does a jumping jack": (jack, 0.06),
    "bows": (bow, 0.05),
    "stretches": (stretch, 0.05),
    "twists": (twist, 0.05),
}
"""Actions by the words of the captions, each with how often it is chosen."""


class Performer:
    """Draws actions one after another. Use: `posture, heading, action = performer.step(place)` per frame."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._heading = float(rng.uniform(-math.pi, math.pi))
        self._turn = 0.0
        self._phase = float(rng.uniform(0.0, 2 * math.pi))
        self._left = 0
        self._action = ""
        self._pace = 0.0
        self._choose()
        self._before = self._now = self._posture()
        self._blend = _BLEND

    def step(self, place: tuple[float, float]) -> tuple[NDArray[np.float64], float, str]:
        """The next frame.

        Args:
            place: where the figure stands, metres from the middle of the room.
        Returns:
            Angles in the order of ANGLES, degrees; heading, radians counterclockwise from x; the action's
            words.
        """
        if self._left == 0:
            self._before, self._blend = self._now, 0
            self._choose()
        self._left -= 1
        self._phase += self._pace
        self._steer(place)
        self._blend = min(self._blend + 1, _BLEND)
        share = self._blend / _BLEND
        share = share * share * (3.0 - 2.0 * share)
        self._now = (1.0 - share) * self._before + share * self._posture()
        return self._now, self._heading, self._action

    def _choose(self) -> None:
        names = list(ACTIONS)
        odds = np.array([weight for _, weight in ACTIONS.values()])
        self._action = str(self._rng.choice(names, p=odds / odds.sum()))
        self._left = int(self._rng.integers(40, 110))
        self._pace = 2 * math.pi / 24 * float(self._rng.uniform(0.6, 1.0))

    def _posture(self) -> NDArray[np.float64]:
        posture = ACTIONS[self._action][0](self._phase)
        return np.array([posture.get(name, 0.0) for name in ANGLES])

    def _steer(self, place: tuple[float, float]) -> None:
        """A figure that walks wanders about, and turns back towards the middle before it leaves the
        picture."""
        wish = 0.0
        if self._action in ("walks", "runs"):
            wish = 0.03 * math.sin(0.11 * self._left)
            if math.hypot(*place) > _WANDER:
                back = math.atan2(-place[1], -place[0])
                error = (back - self._heading + math.pi) % (2 * math.pi) - math.pi
                wish = min(max(0.25 * error, -0.16), 0.16)
        self._turn += min(max(wish - self._turn, -0.025), 0.025)
        self._heading += self._turn


def _gait(phase: float, stride: float, lift: float, arm: float, elbow: float, bend: float) -> Posture:
    posture: Posture = {"bend": bend, "twist": 6.0 * math.sin(phase)}
    for side, at in (("left", phase), ("right", phase + math.pi)):
        hip = stride * math.sin(at) + 4.0
        knee = 6.0 + lift * max(0.0, math.cos(at)) ** 1.5  # bent while the leg swings forward
        posture |= {f"{side} hip": hip, f"{side} knee": knee, f"{side} ankle": min(max(knee - hip, -20.0), 20.0)}
        posture |= {f"{side} swing": -arm * math.sin(at), f"{side} elbow": elbow, f"{side} raise": 5.0}
    return posture
