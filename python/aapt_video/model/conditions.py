"""What steers the picture frame by frame, as channels at latent resolution: a camera, or a pose.

A control is what a user gives for one step: a value per video frame, or one value for the step. `split` makes four of
it, `pack` makes channels of those. The same functions serve training, on whole clips. Both work on the CPU, in NumPy.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

FRAMES = 4  # video frames of one latent frame


class Condition(Protocol):
    """A kind of control, by name."""

    name: ClassVar[str]

    @property
    def channels(self) -> int:
        """Channels of one latent frame's condition."""

    def split(self, control: ArrayLike | None) -> NDArray[np.float64]:
        """A step's control as [4, ...]; raises ValueError where it is not one."""

    def pack(self, controls: NDArray[np.floating[Any]], height: int, width: int) -> NDArray[np.float32]:
        """[..., 4, ...] as [..., channels, height, width], in latent pixels."""

    def still(self) -> NDArray[np.float64]:
        """The control of latent 0, whose picture nothing led to: the identity four times."""


@dataclass(frozen=True)
class Camera:
    """The motion of a camera: each ray's origin and direction, relative to the previous video frame (AAPT appendix G).

    The direction is the difference from the same ray of the frame before: a camera at rest has zeros. The directions
    themselves vary a hundred times as much over the picture as any turn makes them vary over time.

    A control is a rigid transform [4, 4] from the axes of a frame's camera (x right, y down, z forward) to those of the
    previous frame's. One for the step is split evenly on SE(3).
    """

    name: ClassVar[str] = "camera"
    field_of_view: float = 90.0
    """Horizontal, degrees."""
    mean: tuple[float, ...] = (0.0,) * 6
    """Subtracted from origin x, y, z and change of direction x, y, z; of the training data."""
    deviation: tuple[float, ...] = (1.0,) * 6
    """Divides them, so that the inputs have about unit deviation; of the training data."""

    def __post_init__(self) -> None:
        if not 1 <= self.field_of_view <= 179:
            raise ValueError(f"field_of_view is {self.field_of_view}; it must be 1 to 179 degrees")
        if len(self.mean) != 6 or len(self.deviation) != 6 or min(self.deviation) <= 0:
            raise ValueError("mean and deviation must hold six numbers each, deviation positive ones")

    @property
    def channels(self) -> int:
        return FRAMES * 6

    def still(self) -> NDArray[np.float64]:
        return np.tile(np.eye(4), (FRAMES, 1, 1))

    def split(self, control: ArrayLike | None) -> NDArray[np.float64]:
        if control is None:
            return self.still()
        motion = np.asarray(control, dtype=np.float64)
        if motion.shape not in ((4, 4), (FRAMES, 4, 4)):
            raise ValueError(
                f"control has shape {list(motion.shape)}; a camera's is [4, 4] for the step, or [{FRAMES}, 4, 4], one "
                "transform to the previous frame per video frame"
            )
        if not np.isfinite(motion).all():
            raise ValueError("control has entries that are not finite; it must be a rigid transform")
        turn = motion[..., :3, :3]
        rigid = np.abs(turn @ np.swapaxes(turn, -1, -2) - np.eye(3)).max() < 1e-3 and (np.linalg.det(turn) > 0).all()
        if not rigid or np.abs(motion[..., 3, :] - [0, 0, 0, 1]).max() > 1e-6:
            raise ValueError(f"control is not a rigid transform: {motion.tolist()}; it must be [[R, t], [0, 1]]")
        return np.tile(fourth_root(motion), (FRAMES, 1, 1)) if motion.ndim == 2 else motion

    def pack(self, controls: NDArray[np.floating[Any]], height: int, width: int) -> NDArray[np.float32]:
        controls = np.asarray(controls, dtype=np.float64)  # [..., 4, 4, 4]
        reach = np.tan(np.radians(self.field_of_view / 2))
        x = (2 * (np.arange(width) + 0.5) / width - 1) * reach
        y = (2 * (np.arange(height) + 0.5) / height - 1) * reach * height / width
        rays = np.stack(np.broadcast_arrays(x[None], y[:, None], 1.0), -1)  # [H, W, 3]
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        turn = controls[..., :3, :3] - np.eye(3)
        direction = np.einsum("...ij,yxj->...iyx", turn, rays)  # [..., 4, 3, H, W]
        origin = np.broadcast_to(controls[..., :3, 3, None, None], direction.shape)
        both = np.concatenate((origin, direction), -3)
        both = (both - np.reshape(self.mean, (6, 1, 1))) / np.reshape(self.deviation, (6, 1, 1))
        packed: NDArray[np.float32] = both.reshape(*both.shape[:-4], -1, height, width).astype(np.float32)
        return packed


def fourth_root(motion: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rigid transform [4, 4] that leads to `motion` when it is done four times, by the shorter way round.

    Raises:
        ValueError: it turns by (nearly) half a turn, so that there is no shorter way.
    """
    turn = motion[:3, :3]
    across = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    sine = np.linalg.norm(across)
    angle = np.arctan2(sine, (np.trace(turn) - 1) / 2)
    if angle > np.pi - 1e-3:
        raise ValueError("control turns the camera by half a turn in one step; give one transform per video frame")
    quarter = angle / FRAMES
    axis = across / sine if sine > 1e-12 else np.zeros(3)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    root = np.eye(4)
    root[:3, :3] += np.sin(quarter) * cross + (1 - np.cos(quarter)) * cross @ cross
    steps = sum(np.linalg.matrix_power(root[:3, :3], k) for k in range(FRAMES))
    root[:3, 3] = np.linalg.solve(steps, motion[:3, 3])
    return root


@dataclass(frozen=True)
class Pose:
    """Joints of a body as heat maps.

    A control is [joints, 2 or 3]: x and y in parts of the picture (0 to 1 from the upper left), and visibility (0 to
    1; 1 where left out). One for the step holds for its four frames.
    """

    name: ClassVar[str] = "pose"
    joints: int = 17
    """Joints of a body."""
    spread: float = 0.75
    """Standard deviation of a joint's spot, in latent pixels."""
    lines: tuple[tuple[int, int], ...] = ()
    """Pairs of joints that a bone connects; only for who looks."""
    rest: tuple[tuple[float, float], ...] = ()
    """x and y of each joint of a body at rest; empty where nobody knows."""

    def __post_init__(self) -> None:
        if self.joints < 1 or self.spread <= 0:
            raise ValueError(f"joints is {self.joints} and spread {self.spread}; both must be positive")
        if not all(0 <= joint < self.joints for line in self.lines for joint in line):
            raise ValueError(f"lines is {self.lines}; it must name joints from 0 to {self.joints - 1}")
        if len(self.rest) not in (0, self.joints):
            raise ValueError(f"rest has {len(self.rest)} joints; it must have {self.joints}, or none")

    @property
    def channels(self) -> int:
        return FRAMES * self.joints

    def still(self) -> NDArray[np.float64]:
        return np.zeros((FRAMES, self.joints, 3))

    def resting(self) -> NDArray[np.float64]:
        """[joints, 2]: the body at rest; a ring in the middle of the picture where the model does not know it."""
        if self.rest:
            return np.array(self.rest)
        angle = 2 * np.pi * np.arange(self.joints) / self.joints
        return np.stack((0.5 + 0.2 * np.sin(angle), 0.5 - 0.3 * np.cos(angle)), 1)

    def split(self, control: ArrayLike | None) -> NDArray[np.float64]:
        if control is None:
            raise ValueError(f"control is missing; this model needs a pose [{self.joints}, 2 or 3] in every step")
        pose = np.asarray(control, dtype=np.float64)
        if pose.ndim not in (2, 3) or pose.shape[-2] != self.joints or pose.shape[-1] not in (2, 3):
            raise ValueError(
                f"control has shape {list(pose.shape)}; a pose is [{self.joints}, 2 or 3] for the step, or "
                f"[{FRAMES}, {self.joints}, 2 or 3], one per video frame"
            )
        if pose.ndim == 3 and len(pose) != FRAMES:
            raise ValueError(f"control has {len(pose)} poses; it must have {FRAMES}, one per video frame")
        if not np.isfinite(pose).all():
            raise ValueError("control has entries that are not finite; hide a joint by visibility 0")
        if pose.shape[-1] == 2:
            pose = np.concatenate((pose, np.ones((*pose.shape[:-1], 1))), -1)
        return np.tile(pose, (FRAMES, 1, 1)) if pose.ndim == 2 else pose

    def pack(self, controls: NDArray[np.floating[Any]], height: int, width: int) -> NDArray[np.float32]:
        controls = np.asarray(controls, dtype=np.float64)  # [..., 4, joints, 3]
        x, y, visible = (controls[..., i, None, None] for i in range(3))
        dx = np.arange(width) + 0.5 - x * width
        dy = (np.arange(height) + 0.5)[:, None] - y * height
        spots = visible * np.exp(-(dx**2 + dy**2) / (2 * self.spread**2))
        packed: NDArray[np.float32] = spots.reshape(*spots.shape[:-4], -1, height, width).astype(np.float32)
        return packed


@dataclass(frozen=True)
class Plain:
    """No condition: a model that only continues."""

    name: ClassVar[str] = "none"
    channels: int = field(default=0, init=False)

    def still(self) -> NDArray[np.float64]:
        return np.zeros((FRAMES, 0))

    def split(self, control: ArrayLike | None) -> NDArray[np.float64]:
        if control is not None:
            raise ValueError("control is given, but this model takes none")
        return self.still()

    def pack(self, controls: NDArray[np.floating[Any]], height: int, width: int) -> NDArray[np.float32]:
        return np.zeros((*controls.shape[:-2], 0, height, width), dtype=np.float32)


KINDS: dict[str, type[Camera] | type[Pose] | type[Plain]] = {kind.name: kind for kind in (Camera, Pose, Plain)}


def condition_to_dict(condition: Camera | Pose | Plain) -> dict[str, Any]:
    """Plain values for JSON."""
    values = {f.name: getattr(condition, f.name) for f in dataclasses.fields(condition) if f.init}
    return {"name": condition.name, **values}


def condition_from_dict(values: dict[str, Any]) -> Camera | Pose | Plain:
    """The inverse of `condition_to_dict`; raises ValueError for an unknown name."""
    rest = {name: _hashable(value) for name, value in values.items()}
    name = rest.pop("name")
    if name not in KINDS:
        raise ValueError(f"condition is {name!r}; it must be one of {', '.join(KINDS)}")
    return KINDS[name](**rest)


def _hashable(value: Any) -> Any:
    """Lists of JSON as tuples, at any depth."""
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
