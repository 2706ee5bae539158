"""Motion statistics of a dataset: how fast the camera moves and turns, how often a wall is in the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aapt_video.worlds.camera import MOTION_UNIT, relative_motion
from aapt_video.worlds.dataset import VideoDataset
from aapt_video.worlds.doom_path import BLOCKED


@dataclass(frozen=True)
class Statistics:
    """Per frame; lengths in map units, angles in degrees."""

    speed: tuple[float, float, float]
    """Mean, 95th percentile and largest level speed."""
    turn: tuple[float, float, float]
    """Mean, 95th percentile and largest rotation to either side."""
    unit: tuple[float, ...]
    """Standard deviation of forward, strafe, up, yaw, pitch in units of MOTION_UNIT."""
    moving: float
    """Share of frames with a level speed of at least 1."""
    still: float
    """Share of frames in which neither position nor angle changes."""
    still_starts: float
    """Share of clips that begin with 5 frames at rest."""
    blocked: float | None
    """Share of frames in which a wall cuts a commanded motion of at least 1 to less than half; None where
    commands are not recorded."""

    def lines(self) -> list[str]:
        """One line per known figure."""
        shown = [
            "speed {:.2f} mean, {:.2f} p95, {:.2f} largest (map units per frame)".format(*self.speed),
            "turn {:.2f} mean, {:.2f} p95, {:.2f} largest (degrees per frame)".format(*self.turn),
            "scaled motion, standard deviation of forward, strafe, up, yaw, pitch: "
            + ", ".join(f"{deviation:.2f}" for deviation in self.unit),
            f"moving {self.moving:.1%} of frames, at rest {self.still:.1%}; "
            f"{self.still_starts:.0%} of clips start at rest",
        ]
        if self.blocked is not None:
            shown.append(f"commanded motion blocked by a wall in {self.blocked:.1%} of frames")
        return shown


def measure(dataset: VideoDataset) -> Statistics | None:
    """Reads the tracks of all clips (not the video) and sums them up; None for a dataset without a camera."""
    if "camera" not in dataset.index["tracks"] or not dataset.clips:
        return None
    motions = [relative_motion(dataset.track(clip, "camera")) for clip in range(len(dataset.clips))]
    motion = np.concatenate([m[1:] for m in motions]).astype(np.float64)
    speed, turn = np.hypot(motion[:, 0], motion[:, 1]), np.abs(motion[:, 3])
    blocked = None
    if "control" in dataset.index["tracks"]:
        control = np.concatenate([dataset.track(clip, "control")[1:] for clip in range(len(dataset.clips))])
        asked = np.hypot(control[:, 0], control[:, 1])
        blocked = float(((asked >= 1.0) & (speed < BLOCKED * asked)).mean())
    rest = [np.abs(m[1:6]).max(initial=0.0) < 0.05 for m in motions]
    return Statistics(
        speed=_summary(speed),
        turn=_summary(turn),
        unit=tuple(float(s) for s in (motion / MOTION_UNIT).std(axis=0)),
        moving=float((speed >= 1.0).mean()),
        still=float(((speed < 0.05) & (turn < 0.05)).mean()),
        still_starts=float(np.mean(rest)),
        blocked=blocked,
    )


def _summary(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.mean()), float(np.quantile(values, 0.95)), float(values.max())
