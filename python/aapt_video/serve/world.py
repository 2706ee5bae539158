"""What a client is told of the world that is served."""

from __future__ import annotations

from typing import Any

from aapt_video.model.conditions import Camera, Pose

from .live import Live


def describe(live: Live) -> dict[str, Any]:
    """What a client needs to know of the world."""
    generator, condition = live.generator, live.generator.condition
    world: dict[str, Any] = {
        "name": generator.name,
        "height": generator.height,
        "width": generator.width,
        "fps": generator.fps,
        "text": generator.config.text != "none" and generator.encoder is not None,
        "control": condition.name,
        "window": generator.config.window,
        "history": live.settings.history,
        "gallery": [start.prompt for start in generator.gallery],
    }
    if isinstance(condition, Camera):
        world["moves"], world["tilt"] = live.speeds.move > 0, live.speeds.tilt > 0
    if isinstance(condition, Pose):
        world["pose"], world["lines"] = condition.resting().tolist(), condition.lines
    return world
