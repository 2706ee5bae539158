"""Camera paths: absolute records, motion relative to the previous frame, and rigid transforms.

A camera record is [6]: x, y, z (map units; z up), angle (degrees, counterclockwise from +x), pitch (degrees,
up is positive), horizontal field of view (degrees). A motion is [5]: forward, strafe (right), up, yaw (left),
pitch (up), measured in the level frame of the previous camera: what a player's controls mean, and what the
model is conditioned on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOTION_UNIT = np.array([2.5, 2.5, 2.5, 1.0, 1.0], np.float32)
"""Divisor that brings motions to about unit scale: map units per tic for lengths, degrees per tic for
angles."""


def relative_motion(camera: NDArray[np.floating]) -> NDArray[np.float32]:
    """Motion of every frame relative to the one before it.

    Args:
        camera: [T, 6] camera records.
    Returns:
        [T, 5]; row 0 is zero, because nothing precedes the first frame.
    """
    record = _checked(camera)
    angle = np.radians(record[:-1, 3])
    dx, dy, dz = np.diff(record[:, :3], axis=0).T
    forward = dx * np.cos(angle) + dy * np.sin(angle)
    strafe = dx * np.sin(angle) - dy * np.cos(angle)
    turns = np.diff(record[:, 3:5], axis=0)
    yaw = (turns[:, 0] + 180.0) % 360.0 - 180.0
    motion = np.zeros((len(record), 5), np.float32)
    motion[1:] = np.stack([forward, strafe, dz, yaw, turns[:, 1]], axis=1)
    return motion


def integrate_motion(first: NDArray[np.floating], motion: NDArray[np.floating]) -> NDArray[np.float64]:
    """The path that motions lead along: the inverse of `relative_motion`.

    Args:
        first: [6] camera record of the first frame; its field of view holds for the whole path.
        motion: [T, 5]; row 0 is not used.
    Returns:
        [T, 6] camera records, angles within 0 to 360 degrees.
    """
    step = np.asarray(motion, np.float64)
    path = np.tile(np.asarray(first, np.float64), (len(step), 1))
    path[1:, 3] = path[0, 3] + np.cumsum(step[1:, 3])
    path[1:, 4] = path[0, 4] + np.cumsum(step[1:, 4])
    angle = np.radians(path[:-1, 3])
    dx = step[1:, 0] * np.cos(angle) + step[1:, 1] * np.sin(angle)
    dy = step[1:, 0] * np.sin(angle) - step[1:, 1] * np.cos(angle)
    path[1:, :3] = path[0, :3] + np.cumsum(np.stack([dx, dy, step[1:, 2]], axis=1), axis=0)
    path[:, 3] %= 360.0
    return path


def camera_to_world(camera: NDArray[np.floating]) -> NDArray[np.float64]:
    """[T, 4, 4] rigid transforms from camera axes (x right, y down, z forward) to the map's axes, for records
    [T, 6]."""
    record = _checked(camera)
    angle, pitch = np.radians(record[:, 3]), np.radians(record[:, 4])
    level = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    right = np.stack([np.sin(angle), -np.cos(angle), np.zeros_like(angle)], axis=1)
    upright = np.array([0.0, 0.0, 1.0])
    forward = np.cos(pitch)[:, None] * level + np.sin(pitch)[:, None] * upright
    down = np.sin(pitch)[:, None] * level - np.cos(pitch)[:, None] * upright
    pose = np.tile(np.eye(4), (len(record), 1, 1))
    pose[:, :3, 0], pose[:, :3, 1], pose[:, :3, 2], pose[:, :3, 3] = right, down, forward, record[:, :3]
    return pose


def relative_se3(camera: NDArray[np.floating]) -> NDArray[np.float64]:
    """[T, 4, 4]: each frame's camera seen from the previous frame's camera; the identity for frame 0."""
    pose = camera_to_world(camera)
    relative = np.tile(np.eye(4), (len(pose), 1, 1))
    relative[1:] = np.linalg.inv(pose[:-1]) @ pose[1:]
    return relative


def project(
    camera: NDArray[np.floating], point: NDArray[np.floating], size: tuple[int, int]
) -> tuple[float, float, float]:
    """Where a point of the map appears.

    Args:
        camera: [6] one camera record.
        point: [3] map units.
        size: width and height of the picture, pixels.
    Returns:
        Column, row (pixels, from the upper left corner) and depth (map units, negative behind the camera).
    """
    pose = camera_to_world(np.asarray(camera)[None])[0]
    x, y, depth = pose[:3, :3].T @ (np.asarray(point, np.float64) - pose[:3, 3])
    focal = size[0] / 2 / np.tan(np.radians(float(camera[5]) / 2))
    return float(size[0] / 2 + focal * x / depth), float(size[1] / 2 + focal * y / depth), float(depth)


def _checked(camera: NDArray[np.floating]) -> NDArray[np.float64]:
    record = np.asarray(camera, np.float64)
    if record.ndim != 2 or record.shape[1] != 6 or not len(record):
        raise ValueError(f"camera has shape {record.shape}: it must be [frames, 6], with at least one frame")
    return record
