"""A camera path in words: "forward 2s, left 90 over 3s, forward 2s and right 45".

    path   = piece {("," | ";" | newline) piece}
    piece  = action {"and" action}                     actions of one piece happen together
    action = verb [amount] ["over"] [seconds "s"]

Verbs: `forward`, `back`, `strafe left`, `strafe right`, `rise`, `sink` move, and their amount is in world units;
`left`, `right`, `look up`, `look down` turn, by degrees; `wait` does nothing. Without an amount it is what the fastest
motion does in the time; without a time it is the time that the amount takes at the fastest. Motion eases in and out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aapt_video.stream import Speeds

from .steering import FRAMES, motion

# Verb: which of forward, right, up, turn, tilt, and its sign.
VERBS: dict[str, tuple[int, int]] = {
    "forward": (0, 1),
    "back": (0, -1),
    "strafe right": (1, 1),
    "strafe left": (1, -1),
    "rise": (2, 1),
    "sink": (2, -1),
    "left": (3, 1),
    "right": (3, -1),
    "look up": (4, 1),
    "look down": (4, -1),
}
_WAIT = "wait"
_ACTION = re.compile(
    r"(?P<verb>[a-z]+(?: [a-z]+)?)(?: (?P<amount>\d+(?:\.\d+)?)(?: ?degrees| ?deg|°)?(?![\d.]* ?s\b))?"
    r"(?:(?: over)? (?P<seconds>\d+(?:\.\d+)?) ?s)?$"
)
MOST_SECONDS = 3600.0
_EASE = 0.3  # seconds from rest to full speed, where the piece is long enough
_USUAL_TILT = 1.0  # degrees per frame where the speeds forbid a tilt: a path may ask for one all the same


@dataclass(frozen=True)
class Action:
    """One motion."""

    verb: str
    amount: float | None
    """World units or degrees."""
    seconds: float | None


def parse_path(words: str) -> list[list[Action]]:
    """Pieces of actions that happen together.

    Raises:
        ValueError: a piece is not understood; the message quotes it and says what is.
    """
    pieces = [piece.strip().lower() for piece in re.split(r"[,;\n]", words)]
    path = [[_action(" ".join(one.split())) for one in re.split(r"\band\b", piece)] for piece in pieces if piece]
    if not path:
        raise ValueError("the camera path is empty; write for example: forward 2s, left 90 over 3s")
    return path


def _action(words: str) -> Action:
    match = _ACTION.match(words.strip())
    verb = match["verb"].removesuffix(" over") if match else ""
    known = ", ".join((*VERBS, _WAIT))
    if match is None or (verb not in VERBS and verb != _WAIT):
        raise ValueError(
            f"{words!r} is no camera motion; it must be a verb, an amount, a time: left 90 over 3s ({known})"
        )
    amount = None if match["amount"] is None else float(match["amount"])
    seconds = None if match["seconds"] is None else float(match["seconds"])
    if amount is None and seconds is None:
        raise ValueError(f"{words!r} says neither how far nor how long; write for example: {verb} 2s")
    if verb == _WAIT and seconds is None:
        raise ValueError(f"{words!r} does not say how long; write for example: wait 2s")
    if seconds is not None and not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"{words!r} lasts {seconds:g} s; a motion lasts more than 0 and at most {MOST_SECONDS:g} s")
    return Action(verb, amount, seconds)


def follow(words: str, speeds: Speeds, fps: float) -> NDArray[np.float64]:
    """The path as controls.

    Args:
        words: see above.
        speeds: of the camera, per video frame.
        fps: video frames per second.

    Returns:
        [steps, 4, 4, 4]: for each latent frame, each video frame's transform to the frame before; the last step is
        filled up with rest.

    Raises:
        ValueError: as `parse_path`.
    """
    fastest = np.array([speeds.move, speeds.move, speeds.move, speeds.turn, speeds.tilt or _USUAL_TILT])
    motions: list[NDArray[np.float64]] = []
    pitch = 0.0
    for piece in parse_path(words):
        profiles = [_profile(action, fastest, fps) for action in piece]
        total = np.zeros((max(map(len, profiles)), 5))
        for profile in profiles:
            total[: len(profile)] += profile
        for forward, right, up, turn, tilt in total:
            before, pitch = pitch, pitch + tilt
            motions.append(motion(forward, right, up, turn, before, pitch))
        if len(motions) > MOST_SECONDS * fps:
            raise ValueError(f"the camera path lasts longer than {MOST_SECONDS:g} s; cut it into several")
    motions += [np.eye(4)] * (-len(motions) % FRAMES)
    return np.stack(motions).reshape(-1, FRAMES, 4, 4)


def _profile(action: Action, fastest: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """[video frames, 5]: what one action adds to forward, right, up, turn, tilt."""
    if action.verb == _WAIT:
        return np.zeros((max(1, round((action.seconds or 0) * fps)), 5))
    axis, sign = VERBS[action.verb]
    if fastest[axis] == 0:
        raise ValueError(f"{action.verb!r} moves the camera, and this world's only turns; leave it out")
    ease = _EASE * fps
    if action.seconds is not None:
        frames = max(1, round(action.seconds * fps))
    else:
        assert action.amount is not None
        frames = max(1, round(action.amount / fastest[axis] + ease))  # easing costs half its time at either end
        if frames > MOST_SECONDS * fps:
            raise ValueError(
                f"{action.verb} {action.amount:g} takes longer than {MOST_SECONDS:g} s at the fastest speed"
            )
    at = np.arange(frames) + 0.5
    ramp = np.minimum(1.0, np.minimum(at, frames - at) / max(min(ease, frames / 2), 0.5))
    share = ramp * fastest[axis] if action.amount is None else ramp * action.amount / ramp.sum()
    profile = np.zeros((frames, 5))
    profile[:, axis] = sign * share
    return profile
