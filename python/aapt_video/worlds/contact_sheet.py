"""A contact sheet: clips as strips of pictures, with the camera's motion drawn on each."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from aapt_video.worlds.camera import relative_motion
from aapt_video.worlds.dataset import VideoDataset

_LABEL = 26  # pixels under each strip for its text
_BACK, _TEXT, _ARROW, _TURN, _WALL = (
    (24, 24, 28),
    (225, 225, 225),
    (90, 230, 120),
    (255, 190, 60),
    (255, 80, 80),
)


def contact_sheet(dataset: VideoDataset, strips: int = 12, pictures: int = 12, seed: int = 0) -> Image.Image:
    """Draws random clips of a dataset.

    On each picture: a green arrow for the level motion since the picture before (up is forward), an orange
    bar for the rotation (to the left or to the right), a red frame where a wall stopped more than half of the
    commanded way; green points for the joints of a figure. Under each strip: source and first caption.

    Args:
        dataset: what to draw.
        strips: clips at most.
        pictures: pictures per clip, at equal distances.
        seed: chooses the clips.
    """
    if not dataset.clips:
        raise ValueError(f"{dataset.root}: no finished clip to draw")
    count = min(strips, len(dataset.clips))
    chosen = sorted(np.random.default_rng(seed).choice(len(dataset.clips), count, replace=False).tolist())
    width, height = dataset.size
    scale = max(1, round(128 / width))
    width, height = width * scale, height * scale
    sheet = Image.new("RGB", (pictures * (width + 2), count * (height + _LABEL)), _BACK)
    draw = ImageDraw.Draw(sheet)
    for row, clip in enumerate(chosen):
        place = dataset.clips[clip]
        at = np.linspace(0, len(place) - 1, pictures).astype(int)
        top = row * (height + _LABEL)
        for column, frame in enumerate(at):
            picture = Image.fromarray(dataset.window(clip, int(frame), 1).video[0]).resize(
                (width, height), Image.Resampling.NEAREST
            )
            sheet.paste(picture, (column * (width + 2), top))
        if "camera" in dataset.index["tracks"]:
            _draw_motion(draw, dataset, clip, at, (width, height), top)
        if "pose" in dataset.index["tracks"]:
            _draw_pose(draw, dataset.track(clip, "pose")[at], (width, height), top)
        text = place.captions[0].text if place.captions else ""
        draw.text((4, top + height + 6), f"{clip}  {place.source}  {text}", fill=_TEXT)
    return sheet


def _draw_motion(
    draw: ImageDraw.ImageDraw,
    dataset: VideoDataset,
    clip: int,
    at: np.ndarray,
    size: tuple[int, int],
    top: int,
) -> None:
    """Arrow, bar and frame on the pictures of one strip; each sums up the frames since the picture before."""
    width, height = size
    motion = relative_motion(dataset.track(clip, "camera"))
    control = dataset.track(clip, "control") if "control" in dataset.index["tracks"] else None
    for column, (before, now) in enumerate(zip([0, *at[:-1]], at, strict=True)):
        left = column * (width + 2)
        span = slice(int(before) + 1, int(now) + 1)
        if span.start >= span.stop:
            continue
        forward, strafe, _, yaw, _ = motion[span].mean(axis=0).tolist()
        x, y = left + width / 2, top + height * 0.8
        reach = height * 0.18 / 5.0
        tip = (x + strafe * reach, y - forward * reach)
        if math.hypot(forward, strafe) > 0.2:
            draw.line([(x, y), tip], fill=_ARROW, width=2)
            draw.ellipse([tip[0] - 2, tip[1] - 2, tip[0] + 2, tip[1] + 2], fill=_ARROW)
        draw.line([(x, top + height - 3), (x - yaw * width * 0.2, top + height - 3)], fill=_TURN, width=3)
        draw.text((left + 2, top + 1), f"{math.hypot(forward, strafe):.1f} {yaw:+.1f}", fill=_TEXT)
        if control is not None:
            asked = np.hypot(control[span, 0], control[span, 1]).sum()
            if asked > 1.0 and np.hypot(motion[span, 0], motion[span, 1]).sum() < 0.5 * asked:
                draw.rectangle([left, top, left + width - 1, top + height - 1], outline=_WALL, width=2)


def _draw_pose(draw: ImageDraw.ImageDraw, pose: np.ndarray, size: tuple[int, int], top: int) -> None:
    """A point per joint on the pictures of one strip; `pose` is [pictures, joints, 3]."""
    width, height = size
    for column, joints in enumerate(pose):
        for x, y, _ in joints:
            if 0 <= x < 1 and 0 <= y < 1:
                left, row = column * (width + 2) + x * width, top + y * height
                draw.ellipse([left - 1, row - 1, left + 1, row + 1], fill=_ARROW)
