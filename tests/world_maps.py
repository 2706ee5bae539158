"""A small map for tests: two rooms, 512 x 512, joined by a corridor; a pillar in the first, a pit in the second."""

from __future__ import annotations

import numpy as np

from aapt_video.worlds.wad import MapGeometry

# Closed outlines, walked with the sector on the right hand: room, corridor (64 wide), room.
ROOMS = [(0, 0), (0, 512), (512, 512), (512, 288), (768, 288), (768, 512), (1280, 512), (1280, 0), (768, 0)]
ROOMS += [(768, 224), (512, 224), (512, 0)]
PILLAR = [(224, 224), (288, 224), (288, 288), (224, 288)]
PIT = [(960, 192), (960, 320), (1088, 320), (1088, 192)]


def loop(points: list[tuple[int, int]]) -> list[list[int]]:
    """Lines x1, y1, x2, y2 around a polygon."""
    return [[*a, *b] for a, b in zip(points, [*points[1:], points[0]], strict=True)]


def two_rooms() -> MapGeometry:
    """Sector 0 is the floor at height 0, sector 1 the pit, 100 units down."""
    walls, pit = loop(ROOMS) + loop(PILLAR), loop(PIT)
    lines = np.array(walls + pit, np.float64)
    front = np.array([0] * len(walls) + [1] * len(pit))
    back = np.array([-1] * len(walls) + [0] * len(pit))
    return MapGeometry(
        lines=lines,
        impassable=back < 0,
        special=np.zeros(len(lines), np.int64),
        front=front,
        back=back,
        wall=("BRICK1",) * len(walls) + ("",) * len(pit),
        floor=np.array([0.0, -100.0]),
        ceiling=np.array([128.0, 128.0]),
        light=np.array([96, 255]),
        floor_flat=("FLOOR4_8", "LAVA1"),
        ceiling_flat=("CEIL5_1", "CEIL5_1"),
        things=np.array([[64.0, 64.0, 90.0, 1.0]]),
    )
