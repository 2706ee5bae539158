"""Moving shapes: a small made-up world in the dataset format, for tests and where there is no game engine.

A camera turns in the middle of a round room whose wall carries coloured panels, while balls roll along it. What comes
next follows from the picture, the turn and the balls' speed, so a model that learns anything beats a still picture.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aapt_video.files import write_json
from aapt_video.worlds.shards import FORMAT, Caption, ShardWriter, finished_shards

_COLOURS = {
    "red": (200, 60, 50),
    "green": (60, 160, 80),
    "blue": (60, 90, 190),
    "grey": (130, 130, 130),
}
_VIEW = 90.0  # degrees, horizontal
_FASTEST = 3.0  # degrees that the camera turns between two frames


@dataclass(frozen=True)
class ShapesConfig:
    """How much, and how large."""

    clips: int = 64
    frames: int = 97
    """Video frames per clip."""
    width: int = 64
    height: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.clips, self.frames, self.width, self.height) < 1:
            raise ValueError(f"{self}: all sizes must be >= 1")


def make_shapes(root: Path, config: ShapesConfig) -> None:
    """Writes the dataset, unless it is there."""
    if finished_shards(root):
        return
    root.mkdir(parents=True, exist_ok=True)
    index = {
        "format": FORMAT,
        "maker": "shapes",
        "split": "test" if config.seed >= 9000 else "train",
        "size": [config.width, config.height],
        "rate": 24,
        "compress": False,
        "config": asdict(config),
        "tracks": {
            "camera": ["x", "y", "z", "angle", "pitch", "horizontal field of view (degrees)"],
            "control": ["forward", "strafe right", "yaw left (degrees)"],
        },
        "speeds": {"move": 0.0, "turn": _FASTEST, "tilt": 0.0, "acceleration": 1.0, "turn_acceleration": _FASTEST / 8},
        "versions": {},
        "licences": {"pictures": "made by this program"},
        "notes": [],
    }
    write_json(root / "index.json", index)
    with ShardWriter(root, 0, (config.width, config.height)) as writer:
        for clip in range(config.clips):
            rng = np.random.default_rng((config.seed, clip))
            name = list(_COLOURS)[rng.integers(len(_COLOURS))]
            yaw = _turns(rng, config.frames)
            angle = rng.uniform(0, 360) + np.cumsum(yaw)
            camera = np.zeros((config.frames, 6))
            camera[:, 3], camera[:, 5] = angle % 360, _VIEW
            control = np.stack([0 * yaw, 0 * yaw, yaw], axis=1)
            video = _render(rng, config, angle, np.array(_COLOURS[name], np.float64))
            captions = (Caption(0, config.frames, f"a {name} room"),)
            writer.add_clip(video, {"camera": camera, "control": control}, f"room {clip}", captions)


def _turns(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Degrees to the left per frame: smooth, sometimes at rest."""
    targets = rng.uniform(-_FASTEST, _FASTEST, frames // 16 + 2) * (rng.random(frames // 16 + 2) > 0.25)
    yaw = np.interp(np.arange(frames) / 16, np.arange(len(targets)), targets)
    yaw[0] = 0
    return yaw


def _render(
    rng: np.random.Generator, config: ShapesConfig, angle: NDArray[np.float64], colour: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """uint8 [frames, height, width, 3]."""
    height, width = config.height, config.width
    around = round(width * 360 / _VIEW)
    wall = np.empty((height, around, 3))
    wall[:] = colour * np.linspace(0.5, 1.1, height)[:, None, None]
    for _ in range(14):
        left, top = rng.integers(around), rng.integers(0, height // 2)
        columns = (left + np.arange(rng.integers(width // 10 + 1, width // 3 + 2))) % around
        wall[top : top + rng.integers(height // 6, height // 2), columns] = rng.uniform(20, 235, 3)
    balls = [
        (rng.uniform(0, 360), rng.uniform(-1.5, 1.5), rng.uniform(0.55, 0.85), rng.uniform(20, 235, 3))
        for _ in range(10)
    ]
    y, x = np.mgrid[:height, :width]
    radius = height / 10
    video = np.empty((config.frames, height, width, 3), np.uint8)
    for frame, heading in enumerate(angle):
        # To the left (a growing angle) the wall moves to the right.
        offset = -heading / 360 * around
        start = int(np.floor(offset))
        part = offset - start
        columns = (start + np.arange(width + 1)) % around
        view = wall[:, columns[:-1]] * (1 - part) + wall[:, columns[1:]] * part
        for place, speed, down, shade in balls:
            centre = (place + speed * frame - heading + 180) % 360 - 180  # degrees to the right of the picture's middle
            distance = np.hypot(x - (width / 2 + centre / _VIEW * width), y - down * height)
            cover = np.clip(radius - distance + 0.5, 0, 1)[..., None]
            view = view * (1 - cover) + shade * cover
        video[frame] = np.clip(view, 0, 255)
    return video
