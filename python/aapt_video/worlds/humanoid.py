"""The humanoid maker: a figure that walks, waves and squats, rendered by MuJoCo, with its joints' places in
the picture.

Motion is kinematic: postures are set, not simulated. Two rules make it stand on its feet: its lowest point
touches the floor, and the foot that carries it does not slip.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aapt_video.worlds.humanoid_body import ANGLES, BONES, JOINTS, Look, model_xml
from aapt_video.worlds.humanoid_motion import Performer
from aapt_video.worlds.makers import ClipsOfOneLength
from aapt_video.worlds.shards import Caption, ShardWriter

_SPAN = 120  # frames per caption
_FIELD_OF_VIEW = 42.0  # degrees, vertical
_ELEVATION, _DISTANCE = (-18.0, -4.0), (3.4, 4.2)  # of the camera from the figure: ranges, degrees and metres
_LOOK_AT = (0.0, 0.0, 0.85)  # metres
FIRST_TEST_SEED = 9000
"""Seeds from here on are reserved for test data, as in the doom world."""


@dataclass(frozen=True)
class HumanoidConfig:
    """What to render. Each clip has its own figure, room, camera and sequence of actions."""

    frames: int = 20_000
    """Frames wanted; rounded up to whole clips."""
    seed: int = 0
    """Seed of everything. From 9000 on reserved for test data."""
    test: bool = False
    """Make test data: reserved seeds only."""
    width: int = 128
    """Pixels."""
    height: int = 128
    """Pixels."""
    clip_frames: int = 241
    """Frames of a clip: 1 + a multiple of 4."""
    clips_per_shard: int = 4
    """Clips that make one shard."""

    def __post_init__(self) -> None:
        for name in ("frames", "clip_frames", "clips_per_shard"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.width % 2 or self.height % 2 or min(self.width, self.height) < 16:
            raise ValueError(f"width={self.width}, height={self.height}: must be even and at least 16")
        if self.test != (self.seed >= FIRST_TEST_SEED):
            kind, side = ("test", "from") if self.test else ("training", "below")
            raise ValueError(f"seed={self.seed}: {kind} data takes seeds {side} {FIRST_TEST_SEED}")


class HumanoidMaker(ClipsOfOneLength):
    """Renders shards."""

    name = "humanoid"
    config: HumanoidConfig

    def __init__(self, config: HumanoidConfig) -> None:
        self.config = config

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> HumanoidMaker:
        """The maker that a configuration from JSON describes."""
        return HumanoidMaker(HumanoidConfig(**raw))

    def describe(self) -> dict[str, Any]:
        """The maker's part of index.json."""
        return {
            "split": "test" if self.config.test else "train",
            "tracks": {"pose": ["[joint, (column, row, depth)]", "shares of the picture; metres", ", ".join(JOINTS)]},
            "skeleton": {
                "lines": [[JOINTS.index(joint) for joint in bone] for bone in BONES],
                "rest": standing(self.size).round(4).tolist(),
            },
            "versions": {"mujoco": str(_mujoco().__version__)},
            "licences": {"pictures": "figure and rooms are this program's own", "MuJoCo": "Apache-2.0"},
            "notes": [
                "Motion is kinematic: postures are set, not simulated.",
                "The camera stands still within a clip.",
            ],
        }

    def capture(self, shard: int, writer: ShardWriter, report: Callable[[int], None]) -> None:
        """Renders the clips of one shard."""
        config = self.config
        first = shard * config.clips_per_shard
        for clip in range(first, min(first + config.clips_per_shard, self.clips)):
            rng = np.random.default_rng([config.seed, clip])
            stage = Stage(Look.draw(rng), self.size, rng)
            performer = Performer(rng)
            video, pose, actions = [], [], []
            for frame in range(config.clip_frames):
                angles, heading, action = performer.step(stage.place)
                stage.set(angles, heading)
                video.append(stage.picture())
                pose.append(stage.pose())
                actions.append(action)
                if frame % 24 == 0:
                    report(0)
            stage.close()
            writer.add_clip(np.stack(video), {"pose": np.stack(pose)}, f"figure {clip}", _captions(stage.look, actions))
            report(config.clip_frames)


class Stage:
    """One figure in one room before one camera."""

    def __init__(self, look: Look, size: tuple[int, int], rng: np.random.Generator) -> None:
        mujoco = self._mujoco = _mujoco()
        self.look = look
        self._size = size
        self._model = mujoco.MjModel.from_xml_string(model_xml(look, size))
        self._model.vis.global_.fovy = _FIELD_OF_VIEW
        self._data = mujoco.MjData(self._model)
        self._renderer = mujoco.Renderer(self._model, size[1], size[0])
        self._address = [self._model.joint(name).qposadr[0] for name in ANGLES]
        self._bodies = [self._model.body(name).id for name in JOINTS]
        self._feet = [self._model.body(f"{side} {part}").id for side in ("left", "right") for part in ("ankle", "toe")]
        camera = self._camera = mujoco.MjvCamera()
        camera.azimuth = float(rng.uniform(0.0, 360.0))
        camera.elevation = float(rng.uniform(*_ELEVATION))
        camera.distance = float(rng.uniform(*_DISTANCE))
        camera.lookat[:] = _LOOK_AT
        self._planted: tuple[int, NDArray[np.float64]] | None = None

    @property
    def place(self) -> tuple[float, float]:
        """Where the figure stands, metres from the middle of the room."""
        return float(self._data.qpos[0]), float(self._data.qpos[1])

    def set(self, angles: NDArray[np.float64], heading: float) -> None:
        """Takes a posture (degrees, in the order of ANGLES) and a heading (radians)."""
        data = self._data
        data.qpos[self._address] = np.radians(angles)
        data.qpos[3:7] = (math.cos(heading / 2), 0.0, 0.0, math.sin(heading / 2))
        self._mujoco.mj_forward(self._model, data)
        if self._planted is not None:
            foot, before = self._planted
            data.qpos[:2] += before - data.xpos[foot, :2]
        soles = data.xpos[self._feet, 2]
        data.qpos[2] -= soles.min() - 0.03 * self.look.stature
        self._mujoco.mj_forward(self._model, data)
        lowest = self._feet[int(np.argmin(soles))]
        self._planted = lowest, data.xpos[lowest, :2].copy()

    def picture(self) -> NDArray[np.uint8]:
        """uint8 [height, width, 3]."""
        self._renderer.update_scene(self._data, self._camera)
        picture: NDArray[np.uint8] = self._renderer.render().copy()
        return picture

    def pose(self) -> NDArray[np.float32]:
        """[joints, 3]: column and row as shares of the picture, depth in metres. Call after `picture`."""
        views = self._renderer.scene.camera
        position = np.mean([view.pos for view in views], axis=0)
        forward, up = np.array(views[0].forward), np.array(views[0].up)
        offset = self._data.xpos[self._bodies] - position
        return _project(offset, forward, up, self._size).astype(np.float32)

    def close(self) -> None:
        """Frees the renderer."""
        self._renderer.close()


def standing(size: tuple[int, int]) -> NDArray[np.float64]:
    """[joints, 2]: column and row, as shares of the picture, of a figure that stands and looks into the camera."""
    mujoco = _mujoco()
    look = replace(Look.draw(np.random.default_rng(0)), stature=1.0)
    model = mujoco.MjModel.from_xml_string(model_xml(look, size))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    places = data.xpos[[model.body(name).id for name in JOINTS]]
    down = math.radians(-float(np.mean(_ELEVATION)))
    forward = np.array([-math.cos(down), 0.0, -math.sin(down)])
    up = np.array([-math.sin(down), 0.0, math.cos(down)])
    offset = places - (np.array(_LOOK_AT) - float(np.mean(_DISTANCE)) * forward)
    return _project(offset, forward, up, size)[:, :2]


def _project(
    offset: NDArray[np.float64], forward: NDArray[np.float64], up: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """[n, 3]: column and row as shares of the picture, depth in metres, of places [n, 3] relative to the camera."""
    depth = offset @ forward
    focal = 0.5 / math.tan(math.radians(_FIELD_OF_VIEW / 2))  # in heights of the picture
    column = 0.5 + focal * (offset @ np.cross(forward, up)) / depth * size[1] / size[0]
    row = 0.5 - focal * (offset @ up) / depth
    return np.stack([column, row, depth], axis=1)


def _captions(look: Look, actions: list[str]) -> tuple[Caption, ...]:
    captions = []
    for start in range(0, max(len(actions) - _SPAN // 2, 1), _SPAN):
        stop = len(actions) if start + 3 * _SPAN // 2 > len(actions) else start + _SPAN
        seen = [action for action, count in Counter(actions[start:stop]).items() if count >= 16]
        clothes = f"a {look.shirt} shirt and {look.trousers} trousers".replace("a orange", "an orange")
        doing = " and ".join(seen)
        text = f"a person in {clothes} {doing}, a {look.wall} room with a {look.pattern} {look.floor} floor"
        facts = {
            "actions": seen,
            "shirt": look.shirt,
            "trousers": look.trousers,
            "wall": look.wall,
            "floor": look.floor,
        }
        captions.append(Caption(start, stop, text.replace("a orange", "an orange"), facts))
    return tuple(captions)


def _mujoco() -> Any:
    """The MuJoCo module, drawing without a display. Raises ModuleNotFoundError with the remedy where there is
    none."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the humanoid maker needs MuJoCo: pip install 'aapt-video[worlds]'") from error
    return mujoco
