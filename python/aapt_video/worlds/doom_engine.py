"""The game engine behind a small interface: place the player, give a command per tic, get picture and camera.

ViZDoom is imported here and nowhere else. The engine writes settings and logs into its working directory, so
that a process that opens it should stand in a directory of its own (`worlds/worker.py` does).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aapt_video.worlds.doom_maps import DoomMap, wad_path
from aapt_video.worlds.doom_path import Command, Pose
from aapt_video.worlds.watched import LEFTOVERS

THRUST = 1.0 / 32.0
"""Speed that one count of a movement button adds, map units per tic."""

_STRONGEST = 1.2  # map units per tic: what a running player's legs can add
_SETTLE = 12  # tics after a jump to another place: the player lands, the view height comes to rest
_HEIGHTS = (
    120,
    192,
    240,
    300,
    384,
    480,
    600,
    768,
    960,
    1200,
)  # of the engine's 4:3 pictures, whose field of view is 90 degrees


@dataclass(frozen=True)
class View:
    """What one tic left: the picture and the truth about it."""

    frame: NDArray[np.uint8]
    """[height, width, 3]."""
    camera: NDArray[np.float32]
    """[6]: x, y, z (map units), angle (degrees, counterclockwise from east), pitch (degrees, up is positive),
    horizontal field of view (degrees)."""
    velocity: tuple[float, float]
    """Speed that friction left, map units per tic, along x and y."""
    objects: tuple[tuple[str, float], ...]
    """Names of the visible objects and the share of the picture that each covers."""

    @property
    def pose(self) -> Pose:
        x, y, angle = (float(self.camera[i]) for i in (0, 1, 3))
        return Pose(x, y, angle)


class MapLeft(Exception):
    """The player left the map (an exit was crossed); the engine has restarted it."""


class DoomEngine:
    """One map, no monsters, one picture per tic. A context manager: `close` ends the engine's process."""

    def __init__(self, doom_map: DoomMap, size: tuple[int, int], seed: int, gamma: float, weapon: bool) -> None:
        """Starts the engine.

        Args:
            doom_map: which map.
            size: width and height of the pictures, pixels. Another shape than 4:3 is cut from the middle of a
                4:3 picture.
            seed: the engine's random numbers (flickering lights and the like).
            gamma: exponent applied to pictures; below 1 is brighter.
            weapon: whether the player's weapon is drawn.
        """
        import vizdoom

        self._size = size
        self._table = np.round(255.0 * (np.arange(256) / 255.0) ** gamma).astype(np.uint8)
        height = _picture_height(size)
        game = vizdoom.DoomGame()
        if doom_map.scenario:
            game.set_doom_game_path(str(wad_path("freedoom2.wad")))
            game.set_doom_scenario_path(str(wad_path(doom_map.wad)))
        else:
            game.set_doom_game_path(str(wad_path(doom_map.wad)))
        game.set_doom_map(doom_map.name)
        # No bobbing, whose phase no command could tell; no texts over the picture.
        game.add_game_args("-nomonsters +movebob 0 +cl_showsecretmessage 0 +con_notifytime 0 +con_midtime 0")
        game.set_screen_resolution(getattr(vizdoom.ScreenResolution, f"RES_{height * 4 // 3}X{height}"))
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_labels_buffer_enabled(True)
        for name in ("hud", "crosshair", "messages", "screen_flashes"):
            getattr(game, f"set_render_{name}")(False)
        game.set_render_weapon(weapon)
        game.set_window_visible(False)
        game.set_mode(vizdoom.Mode.PLAYER)
        game.set_seed(seed)
        game.set_episode_timeout(0)
        buttons = ("MOVE_FORWARD_BACKWARD_DELTA", "MOVE_LEFT_RIGHT_DELTA", "TURN_LEFT_RIGHT_DELTA")
        game.set_available_buttons([getattr(vizdoom.Button, name) for name in buttons])
        camera = [f"CAMERA_{name}" for name in ("POSITION_X", "POSITION_Y", "POSITION_Z", "ANGLE", "PITCH", "FOV")]
        names = [*camera, "VELOCITY_X", "VELOCITY_Y"]
        game.set_available_game_variables([getattr(vizdoom.GameVariable, name) for name in names])
        self._game: Any = game
        game.init()
        # Shared memory that the engine frees when it ends in order, and only then.
        shared = (f"/dev/shm/ViZDoom{part}{game.get_instance_id()}" for part in ("SM", "MQCtr", "MQDoom"))
        Path(LEFTOVERS).write_text("\n".join(shared))
        game.send_game_command("god")

    def __enter__(self) -> DoomEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the engine's process. Safe to call twice."""
        self._game.close()

    def place(self, pose: Pose) -> View:
        """Puts the player on the floor at a pose, at rest, and returns the view there."""
        view = self.view()
        while math.hypot(*view.velocity) > 0.05:  # a jump keeps the player's speed
            view = self.step(Command(), view)
        self._game.send_game_command(f"warp {round(pose.x)} {round(pose.y)}")
        for _ in range(_SETTLE):
            turn = (pose.angle - self.view().pose.angle + 180.0) % 360.0 - 180.0
            self._act(0, 0, turn)
        return self.view()

    def step(self, command: Command, before: View) -> View:
        """Runs one tic.

        The legs add whatever speed is missing between what friction left and what the command asks for, so
        that in free space the camera moves exactly as commanded, without the engine's inertia; a wall still
        stops it.

        Raises MapLeft when the tic ended the map.
        """
        angle = math.radians(before.pose.angle)
        c, s = math.cos(angle), math.sin(angle)
        missing_x = command.forward * c + command.strafe * s - before.velocity[0]
        missing_y = command.forward * s - command.strafe * c - before.velocity[1]
        scale = min(1.0, _STRONGEST / max(math.hypot(missing_x, missing_y), 1e-9))
        angle += math.radians(command.yaw)  # the engine turns first
        c, s = math.cos(angle), math.sin(angle)
        forward, strafe = missing_x * c + missing_y * s, missing_x * s - missing_y * c
        self._act(round(scale * forward / THRUST), round(scale * strafe / THRUST), command.yaw)
        return self.view()

    def view(self) -> View:
        """The current picture and camera."""
        state = self._game.get_state()
        values = np.asarray(state.game_variables, np.float64)
        camera = values[:6].astype(np.float32)
        camera[4] = -camera[4]
        width, height = self._size
        full = state.screen_buffer.shape[0] * state.screen_buffer.shape[1]
        picture = Image.fromarray(self._table[state.screen_buffer])
        cut_width = min(picture.width, picture.height * width / height)
        cut_height = cut_width * height / width
        camera[5] = 2 * math.degrees(math.atan(math.tan(math.radians(values[5] / 2)) * cut_width / picture.width))
        left, top = (picture.width - cut_width) / 2, (picture.height - cut_height) / 2
        box = (left, top, left + cut_width, top + cut_height)
        frame = np.asarray(picture.resize((width, height), Image.Resampling.BOX, box))
        objects = tuple((label.object_name, label.width * label.height / full) for label in state.labels)
        return View(frame, camera, (float(values[6]), float(values[7])), objects)

    def _act(self, forward: int, strafe: int, yaw: float) -> None:
        self._game.make_action([forward, strafe, -yaw])
        if self._game.is_episode_finished():
            self._game.new_episode()
            self._game.send_game_command("god")
            raise MapLeft


def _picture_height(size: tuple[int, int]) -> int:
    """Height of the smallest 4:3 picture that has twice the detail of `size`, or the largest that there
    is."""
    width, height = size
    needed = max(height, width * 3 / 4)
    if needed > _HEIGHTS[-1]:
        raise ValueError(f"size={size}: the engine draws at most 1600 x 1200; ask for a smaller picture")
    return next((h for h in _HEIGHTS if h >= 2 * needed), _HEIGHTS[-1])


def engine_version() -> str:
    """Version of the installed ViZDoom. Raises ModuleNotFoundError with the remedy where there is none."""
    try:
        import vizdoom
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the doom maker needs ViZDoom: pip install 'aapt-video[worlds]'") from error
    return str(vizdoom.__version__)
