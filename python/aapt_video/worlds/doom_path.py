"""A walker that explores a map as a person plays: routes to far places, glances, turns, pauses, and walls.

The walker only ever gives commands, `(forward, strafe, yaw)` for one engine tic; the engine decides what
becomes of them. Behaviours are generators that yield the command they would like; `Walker.step` limits how
fast the command may change, so that every trajectory is smooth whatever the behaviours ask for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aapt_video.worlds.navigation import CELL, Grid


class Command(NamedTuple):
    """What the player asks for in one tic. In free space this is exactly how the camera moves."""

    forward: float = 0.0
    """Map units, along the view before the tic."""
    strafe: float = 0.0
    """Map units to the right."""
    yaw: float = 0.0
    """Degrees to the left (counterclockwise)."""


class Pose(NamedTuple):
    """Where the walker is: map units; degrees counterclockwise from east."""

    x: float
    y: float
    angle: float


@dataclass(frozen=True)
class PathConfig:
    """Limits and habits of a walker. Shares are of time, roughly."""

    speed: float = 5.0
    """Fastest motion, map units per tic. Faster motion is wasted on a codec that packs four frames into
    one."""
    turn: float = 2.0
    """Fastest rotation, degrees per tic."""
    acceleration: float = 0.35
    """Largest change of speed, map units per tic and tic."""
    turn_acceleration: float = 0.2
    """Largest change of rotation, degrees per tic and tic."""
    still_start: float = 0.35
    """Share of clips that begin with the camera at rest, as a user's first frame does."""
    held: float = 0.18
    """Share of time with keys held as a player holds them: one direction, one turn."""
    turning: float = 0.05
    """Share of time turning on the spot."""
    still: float = 0.03
    """Share of time at rest."""
    push: float = 0.13
    """Share of time walking up to a wall and holding on although it blocks."""

    def __post_init__(self) -> None:
        shares = self.held + self.turning + self.still + self.push
        if not 0.0 <= shares <= 1.0:
            raise ValueError(f"held + turning + still + push = {shares}: must lie between 0 and 1; the rest is walking")
        if self.speed <= 0 or self.turn <= 0 or self.acceleration <= 0 or self.turn_acceleration <= 0:
            raise ValueError(f"speed, turn and both accelerations must be positive: {self}")


BLOCKED = 0.5
"""A tic counts as blocked when less than this share of the commanded motion came about."""

_PATIENCE = 12  # blocked tics in a row after which a walker who did not mean to push turns away
_SMALLEST_REGION = 250  # cells: 64000 square units, a room of 250 x 250
_DURATION = {
    "walk": 170.0,
    "held": 48.0,
    "turning": 60.0,
    "still": 22.0,
    "push": 95.0,
}  # mean tics, to turn shares into odds


class Walker:
    """Explores one map. Use: `pose = walker.start()`, place the player there, then `command =
    walker.step(pose)` per tic."""

    def __init__(self, grid: Grid, config: PathConfig, rng: np.random.Generator) -> None:
        self.grid, self.config, self.rng = grid, config, rng
        sizes = np.bincount(grid.component.ravel())[1:]
        self._regions = np.nonzero(sizes >= min(_SMALLEST_REGION, sizes.max(initial=0)))[0] + 1
        if not len(self._regions):
            raise ValueError("the map has no walkable place")
        self._odds = np.sqrt(sizes[self._regions - 1])  # small rooms too: they look different
        self.pose, self.command = Pose(0.0, 0.0, 0.0), Command()
        self._behaviour: Iterator[Command] = iter(())
        self._blocked = 0  # tics in a row in which a wall took most of the motion
        self._pushing = False

    def start(self) -> Pose:
        """Draws a place with room around it and a view that reaches far, and starts a clip there."""
        region = self.rng.choice(self._regions, p=self._odds / self._odds.sum())
        rows, columns = np.nonzero(self.grid.component == region)
        clearance = self.grid.clearance[rows, columns]
        roomy = np.nonzero(clearance >= min(40.0, float(np.quantile(clearance, 0.7))))[0]
        best, best_view = Pose(0.0, 0.0, 0.0), -1.0
        for pick in self.rng.choice(roomy, 4):
            x, y = self.grid.centre((int(rows[pick]), int(columns[pick])))
            angle, view = self._open_direction(Pose(x, y, 0.0), np.arange(0.0, 360.0, 22.5))
            if view > best_view:
                best, best_view = Pose(x, y, angle), view
        self._reset(best)
        return best

    def step(self, pose: Pose) -> Command:
        """The command for the next tic, given where the last one led."""
        asked = math.hypot(self.command.forward, self.command.strafe)
        stopped = math.hypot(pose.x - self.pose.x, pose.y - self.pose.y) < BLOCKED * asked
        self._blocked = self._blocked + 1 if stopped and asked > 1.0 else 0
        self.pose = pose
        if self._blocked > _PATIENCE and not self._pushing:
            self._behaviour, self._blocked = self._turning(), 0
        wish = next(self._behaviour, None)
        while wish is None:
            self._behaviour = self._choose()
            wish = next(self._behaviour, None)
        self.command = self._limit(wish)
        return self.command

    def _reset(self, pose: Pose) -> None:
        self.pose, self.command = pose, Command()
        self._blocked, self._pushing = 0, False
        rest = int(self.rng.integers(8, 25)) if self.rng.random() < self.config.still_start else 0
        self._behaviour = iter([Command()] * rest)

    def _limit(self, wish: Command) -> Command:
        config, now = self.config, self.command
        scale = min(1.0, config.speed / max(math.hypot(wish.forward, wish.strafe), 1e-9))
        df, ds = wish.forward * scale - now.forward, wish.strafe * scale - now.strafe
        ease = min(1.0, config.acceleration / max(math.hypot(df, ds), 1e-9))
        yaw = min(max(wish.yaw, -config.turn), config.turn)
        dy = min(max(yaw - now.yaw, -config.turn_acceleration), config.turn_acceleration)
        return Command(now.forward + ease * df, now.strafe + ease * ds, now.yaw + dy)

    def _choose(self) -> Iterator[Command]:
        config = self.config
        self._pushing = False
        shares = {"held": config.held, "turning": config.turning, "still": config.still, "push": config.push}
        shares["walk"] = 1.0 - sum(shares.values())
        odds = np.array([share / _DURATION[name] for name, share in shares.items()])
        name = list(shares)[int(self.rng.choice(len(odds), p=odds / odds.sum()))]
        return {
            "walk": self._walk,
            "held": self._held,
            "turning": self._turning,
            "still": lambda: iter([Command()] * int(self.rng.integers(10, 36))),
            "push": self._push,
        }[name]()

    def _walk(self) -> Iterator[Command]:
        """Follows a route to a far place. The feet follow the route closely, the eyes look further along
        it."""
        route = self._route()
        speed = self.config.speed * self.rng.uniform(0.65, 1.0)
        effort = self.config.turn * self.rng.uniform(0.6, 1.0)
        glance, until, at = 0.0, 0, 0
        for tic in range(int(self.rng.integers(140, 320))):
            at = self._progress(route, at)
            if at >= len(route) - 3:
                return
            if tic >= until:
                glance, until = self._glance(route, at, tic)
            feet = self._bearing(route[min(at + 4, len(route) - 1)])
            eyes = self._bearing(route[min(at + 14, len(route) - 1)]) + glance
            pace = speed * min(1.0, max(0.3, 1.5 * math.cos(math.radians(feet))))
            yield self._moving(feet, pace, self._steer(_wrap(eyes), effort))

    def _route(self) -> list[tuple[float, float]]:
        """A way to a far place, preferably one that begins where the eyes look."""
        grid, here = self.grid, self.grid.nearest(self.pose.x, self.pose.y)
        rows, columns = np.nonzero(grid.component == grid.component[here])
        distance = np.hypot(rows - here[0], columns - here[1])
        far = np.nonzero(distance >= min(24.0, 0.7 * float(distance.max())))[0]
        best, best_turn = [grid.centre(here)], math.inf
        for pick in self.rng.choice(far, 5):
            route = grid.route(here, (int(rows[pick]), int(columns[pick])))
            turn = abs(self._bearing(route[min(10, len(route) - 1)]))
            if turn < best_turn:
                best, best_turn = route, turn
        return best

    def _progress(self, route: list[tuple[float, float]], at: int) -> int:
        """Number of the route's point nearest to the walker, searched a little way on from the last one."""
        near = route[at : at + 12]
        return at + int(np.argmin([math.hypot(x - self.pose.x, y - self.pose.y) for x, y in near]))

    def _glance(self, route: list[tuple[float, float]], at: int, tic: int) -> tuple[float, int]:
        """An offset of the eyes from the route, degrees, and the tic until which it holds: often none."""
        until = tic + int(self.rng.integers(24, 64))
        if self.rng.random() < 0.55:
            return 0.0, until
        offset = float(self.rng.uniform(-55.0, 55.0))
        ahead = self.pose.angle + self._bearing(route[min(at + 14, len(route) - 1)])
        return (offset, until) if self._sees(ahead + offset) > 200.0 else (0.0, until)

    def _held(self) -> Iterator[Command]:
        """Holds keys for a second or three, where a rehearsal on the grid finds room for it and a view at its
        end."""
        config, rng = self.config, self.rng
        for _ in range(12):
            forward = float(rng.choice([1.0, 1.0, 1.0, 0.0, -0.7]))
            strafe = float(rng.choice([0.0, 0.0, 1.0, -1.0])) * (0.7 if forward else 1.0)
            turn = float(rng.choice([0.0, 1.0, -1.0])) * config.turn * float(rng.uniform(0.3, 1.0))
            speed = config.speed * float(rng.uniform(0.6, 1.0))
            wish = Command(forward * speed, strafe * speed, turn)
            tics = int(rng.integers(24, 72))
            if (forward or strafe or turn) and self._rehearse(wish, tics):
                yield from [wish] * tics
                return

    def _rehearse(self, wish: Command, tics: int) -> bool:
        """Whether holding `wish` leads through free space to a place with a view."""
        before, pose, room = self.command, self.pose, True
        for _ in range(tics + 12):  # and some way on, as the walker needs time to stop
            self.command = self._limit(wish)
            pose = moved(pose, self.command)
            cell = self.grid.cell(pose.x, pose.y)
            room = room and bool(self.grid.component[cell]) and self.grid.clearance[cell] > 1.6 * CELL
        self.command = before
        return room and float(self.grid.sight(pose.x, pose.y, np.array([pose.angle]))[0][0]) > 128.0

    def _turning(self) -> Iterator[Command]:
        """Turns on the spot towards an open direction."""
        offsets = np.concatenate([np.arange(-150.0, -29.0, 20.0), np.arange(30.0, 151.0, 20.0)])
        target, _ = self._open_direction(self.pose, self.pose.angle + offsets)
        effort = self.config.turn * self.rng.uniform(0.7, 1.0)
        for _ in range(150):
            error = _wrap(target - self.pose.angle)
            if abs(error) < 6.0:
                return
            yield Command(yaw=self._steer(error, effort))

    def _push(self) -> Iterator[Command]:
        """Holds a direction, mostly forward, until a wall blocks it, and for one or two seconds more; then
        turns away."""
        side = float(self.rng.choice([0.0, 90.0, -90.0, 180.0], p=[0.7, 0.12, 0.12, 0.06]))
        angles = self.pose.angle + side + np.arange(-40.0, 41.0, 10.0)
        distance, _ = self.grid.sight(self.pose.x, self.pose.y, angles)
        nearest = int(np.argmin(distance))
        if distance[nearest] > (260.0 if side == 0.0 else 90.0):
            return
        face = float(angles[nearest]) if side == 0.0 else self.pose.angle
        pace = self.config.speed * self.rng.uniform(0.6, 1.0)
        self._pushing = True
        patience = int(self.rng.integers(18, 48))
        for _ in range(160):
            if self._blocked > patience:
                break
            yield self._moving(side, pace, self._steer(_wrap(face - self.pose.angle), self.config.turn))
        self._pushing = False
        yield from self._turning()

    def _moving(self, direction: float, pace: float, yaw: float) -> Command:
        """A command that moves towards a direction relative to the view, degrees to the left."""
        radians = math.radians(direction)
        return Command(pace * math.cos(radians), -pace * math.sin(radians), yaw)

    def _steer(self, error: float, effort: float) -> float:
        """Rotation for one tic that closes an error of the view: proportional when small, then as fast as
        `effort`."""
        return min(max(0.07 * error, -effort), effort)

    def _bearing(self, point: tuple[float, float]) -> float:
        """Direction of a point relative to the view, degrees to the left, -180 to 180."""
        return _wrap(math.degrees(math.atan2(point[1] - self.pose.y, point[0] - self.pose.x)) - self.pose.angle)

    def _sees(self, angle: float) -> float:
        """Distance to what is seen within 15 degrees of a direction, the nearest of it."""
        spread = np.array([angle - 15.0, angle, angle + 15.0])
        return float(self.grid.sight(self.pose.x, self.pose.y, spread)[0].min())

    def _open_direction(self, pose: Pose, angles: np.ndarray) -> tuple[float, float]:
        """One of the directions, drawn in favour of far views, and how far it sees (capped at 1024 units)."""
        rays = angles[:, None] + np.array([-20.0, 0.0, 20.0])
        distance, _ = self.grid.sight(pose.x, pose.y, rays.ravel())
        view = np.minimum(distance, 1024.0).reshape(rays.shape).mean(axis=1)
        pick = int(self.rng.choice(len(view), p=view**3 / (view**3).sum()))
        return float(_wrap(float(angles[pick]))), float(view[pick])


def moved(pose: Pose, command: Command) -> Pose:
    """Where a command leads in free space: first the step along the old view, then the rotation."""
    c, s = math.cos(math.radians(pose.angle)), math.sin(math.radians(pose.angle))
    x = pose.x + command.forward * c + command.strafe * s
    y = pose.y + command.forward * s - command.strafe * c
    return Pose(x, y, _wrap(pose.angle + command.yaw))


def _wrap(angle: float) -> float:
    return (angle + 180.0) % 360.0 - 180.0
