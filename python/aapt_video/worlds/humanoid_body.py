"""A figure for the humanoid world: seventeen joints, capsules, clothes and a room, as a MuJoCo model
(MJCF)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

JOINTS = (
    *("pelvis", "chest", "head"),
    *(f"{side} {part}" for side in ("left", "right") for part in ("shoulder", "elbow", "hand")),
    *(f"{side} {part}" for side in ("left", "right") for part in ("hip", "knee", "ankle", "toe")),
)
"""Points of the body whose places in the picture are recorded, in the order of the track `pose`."""

_CHAINS = (
    ("pelvis", "chest", "head"),
    *(("chest", *(f"{side} {part}" for part in ("shoulder", "elbow", "hand"))) for side in ("left", "right")),
    *(("pelvis", *(f"{side} {part}" for part in ("hip", "knee", "ankle", "toe"))) for side in ("left", "right")),
)
BONES = tuple(bone for chain in _CHAINS for bone in pairwise(chain))
"""Pairs of JOINTS that a line connects where a posture is drawn."""

ANGLES = (
    *("bend", "twist", "lean", "nod", "turn"),
    *(f"{side} {name}" for side in ("left", "right") for name in ("raise", "swing", "elbow")),
    *(f"{side} {name}" for side in ("left", "right") for name in ("spread", "hip", "knee", "ankle")),
)
"""The angles that make a posture, degrees; 0 is standing with the arms hanging. Positive is: bend and nod
forward, twist and turn to the left, lean to the right, arms raised sideways and swung forward, elbows bent,
legs spread and swung forward, knees bent, toes up."""

COLOURS = {
    "red": (0.75, 0.15, 0.15),
    "orange": (0.85, 0.45, 0.12),
    "yellow": (0.85, 0.75, 0.2),
    "green": (0.2, 0.55, 0.25),
    "blue": (0.15, 0.3, 0.7),
    "purple": (0.45, 0.2, 0.6),
    "white": (0.9, 0.9, 0.9),
    "grey": (0.45, 0.45, 0.47),
    "black": (0.12, 0.12, 0.14),
    "brown": (0.4, 0.26, 0.16),
}
"""Colours of clothes and rooms by name, RGB from 0 to 1."""

_SKIN = ((0.93, 0.78, 0.67), (0.82, 0.62, 0.48), (0.6, 0.42, 0.3), (0.38, 0.26, 0.19))
_FLOORS = {"plain": "flat", "checkered": "checker", "shaded": "gradient"}


@dataclass(frozen=True)
class Look:
    """What varies from clip to clip."""

    shirt: str
    trousers: str
    floor: str
    pattern: str
    """plain, checkered or shaded."""
    wall: str
    skin: int
    stature: float
    """Scale of the figure; 1 is 1.75 m."""

    @staticmethod
    def draw(rng: np.random.Generator) -> Look:
        """A random look, with clothes that differ from each other and from the wall."""
        shirt, trousers, wall, floor = (str(name) for name in rng.choice(list(COLOURS), 4, replace=False))
        pattern = str(rng.choice(list(_FLOORS)))
        return Look(
            shirt, trousers, floor, pattern, wall, int(rng.integers(len(_SKIN))), float(rng.uniform(0.88, 1.08))
        )


def model_xml(look: Look, size: tuple[int, int]) -> str:
    """MJCF of the figure in its room.

    Args:
        look: colours and stature.
        size: width and height of the pictures, pixels.
    """
    s = look.stature
    first, second = (np.array(COLOURS[look.floor]) * shade for shade in (1.0, 0.6))
    builtin = _FLOORS[look.pattern]
    texture = f'<texture name="floor" type="2d" builtin="{builtin}" rgb1="{_rgb(first)}" rgb2="{_rgb(second)}"'
    walls = "".join(
        f'<geom type="box" size="{sx} {sy} 3" pos="{x} {y} 3" rgba="{_rgb(np.array(COLOURS[look.wall]) * shade)} 1"/>'
        for x, y, sx, sy, shade in (
            (7, 0, 0.1, 7, 1),
            (-7, 0, 0.1, 7, 0.85),
            (0, 7, 7, 0.1, 0.95),
            (0, -7, 7, 0.1, 0.8),
        )
    )
    return f"""
<mujoco>
  <compiler angle="degree"/>
  <visual>
    <global offwidth="{size[0]}" offheight="{size[1]}"/>
    <quality offsamples="0" shadowsize="0"/>
    <headlight ambient="0.45 0.45 0.45" diffuse="0.35 0.35 0.35" specular="0 0 0"/>
  </visual>
  <asset>
    {texture} width="128" height="128"/>
    <material name="floor" texture="floor" texrepeat="7 7" reflectance="0"/>
    <material name="shirt" rgba="{_rgb(COLOURS[look.shirt])} 1"/>
    <material name="trousers" rgba="{_rgb(COLOURS[look.trousers])} 1"/>
    <material name="skin" rgba="{_rgb(_SKIN[look.skin])} 1"/>
    <material name="shoe" rgba="0.1 0.09 0.08 1"/>
  </asset>
  <worldbody>
    <light pos="2 -3 6" dir="-0.3 0.4 -1" diffuse="0.45 0.45 0.45" castshadow="false"/>
    <geom type="plane" size="7 7 0.1" material="floor"/>{walls}
    <body name="pelvis" pos="0 0 {0.95 * s}">
      <freejoint/>
      <geom type="capsule" fromto="0 {-0.08 * s} 0 0 {0.08 * s} 0" size="{0.1 * s}" material="trousers"/>
      <body name="chest" pos="0 0 {0.12 * s}">
        {_hinges({"bend": "0 1 0", "twist": "0 0 1", "lean": "1 0 0"})}
        <geom type="capsule" fromto="0 0 {0.02 * s} 0 0 {0.3 * s}" size="{0.125 * s}" material="shirt"/>
        <geom type="capsule" fromto="0 {-0.14 * s} {0.36 * s} 0 {0.14 * s} {0.36 * s}"
              size="{0.07 * s}" material="shirt"/>
        <body name="head" pos="0 0 {0.48 * s}">
          {_hinges({"nod": "0 1 0", "turn": "0 0 1"})}
          <geom type="capsule" fromto="0 0 0 0 0 {0.06 * s}" size="{0.05 * s}" material="skin"/>
          <geom type="ellipsoid" pos="0 0 {0.15 * s}" size="{0.1 * s} {0.085 * s} {0.12 * s}" material="skin"/>
          <geom type="sphere" pos="{0.1 * s} 0 {0.14 * s}" size="{0.02 * s}" material="skin"/>
          <geom type="ellipsoid" pos="{-0.02 * s} 0 {0.19 * s}"
                size="{0.1 * s} {0.095 * s} {0.09 * s}" material="shoe"/>
        </body>{_arm("left", 1, s)}{_arm("right", -1, s)}
      </body>{_leg("left", 1, s)}{_leg("right", -1, s)}
    </body>
  </worldbody>
</mujoco>"""


def _arm(side: str, sign: int, s: float) -> str:
    return f"""
        <body name="{side} shoulder" pos="0 {sign * 0.2 * s} {0.36 * s}">
          {_hinges({f"{side} raise": f"{sign} 0 0", f"{side} swing": "0 -1 0"})}
          <geom type="capsule" fromto="0 0 0 0 0 {-0.27 * s}" size="{0.055 * s}" material="shirt"/>
          <body name="{side} elbow" pos="0 0 {-0.28 * s}">
            {_hinges({f"{side} elbow": "0 -1 0"})}
            <geom type="capsule" fromto="0 0 0 0 0 {-0.2 * s}" size="{0.042 * s}" material="skin"/>
            <body name="{side} hand" pos="0 0 {-0.27 * s}">
              <geom type="sphere" size="{0.05 * s}" material="skin"/>
            </body>
          </body>
        </body>"""


def _leg(side: str, sign: int, s: float) -> str:
    return f"""
      <body name="{side} hip" pos="0 {sign * 0.1 * s} {-0.04 * s}">
        {_hinges({f"{side} spread": f"{sign} 0 0", f"{side} hip": "0 -1 0"})}
        <geom type="capsule" fromto="0 0 0 0 0 {-0.4 * s}" size="{0.078 * s}" material="trousers"/>
        <body name="{side} knee" pos="0 0 {-0.42 * s}">
          {_hinges({f"{side} knee": "0 1 0"})}
          <geom type="capsule" fromto="0 0 0 0 0 {-0.36 * s}" size="{0.058 * s}" material="trousers"/>
          <body name="{side} ankle" pos="0 0 {-0.4 * s}">
            {_hinges({f"{side} ankle": "0 -1 0"})}
            <geom type="box" pos="{0.06 * s} 0 {-0.045 * s}" size="{0.12 * s} {0.045 * s} {0.03 * s}" material="shoe"/>
            <body name="{side} toe" pos="{0.17 * s} 0 {-0.045 * s}">
              <geom type="sphere" size="{0.035 * s}" material="shoe"/>
            </body>
          </body>
        </body>
      </body>"""


def _hinges(axes: dict[str, str]) -> str:
    return "".join(f'<joint name="{name}" type="hinge" axis="{axis}"/>' for name, axis in axes.items())


def _rgb(colour: tuple[float, float, float] | np.ndarray) -> str:
    return " ".join(f"{part:.3f}" for part in colour)
