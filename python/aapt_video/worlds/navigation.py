"""Where a walker can go on a map, and what it can see: a grid of free space, routes through it, rays.

Everything here is computed from a map's geometry alone. The grid is deliberately careful: a place is
walkable when a player fits with a margin, without a jump, a drop, a lift, a door or a teleport. Nothing else
is ever planned through, so that a trajectory looks intended and the camera never jumps.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aapt_video.worlds.wad import MapGeometry

CELL = 16.0
"""Side of a grid cell, map units."""
PLAYER_RADIUS = 16.0
"""Half the width of a player, map units."""
EYE_HEIGHT = 41.0
"""Height of the eyes above the floor, map units."""

_MARGIN = 4.0  # kept between the player's side and a wall
_STEP, _HEADROOM = 24.0, 56.0  # the highest step a player climbs, the lowest opening it fits through
_REACH = 160.0  # clearances are exact up to here and capped beyond
_NEIGHBOURS = [(dy, dx, math.hypot(dy, dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]

# Crossing one of these moves the player elsewhere or ends the map: exits, secret exits, teleports.
_LEAVES = {11, 39, 51, 52, 97, 124, 125, 126, 174, 195, 197, 198, 207, 208, 209, 210, 243, 244, 268, 269}
# Type numbers of solid decoration among a map's things: lamps, torches, columns, trees, barrels, corpses.
_SOLID_THINGS = {25, *range(26, 34), *range(35, 38), *range(41, 58), 70, *range(73, 79), 85, 86, 2028, 2035}


@dataclass(frozen=True)
class Grid:
    """Free space of one map. Cell (row, column) covers CELL x CELL units from `origin`; rows grow with y."""

    geometry: MapGeometry
    origin: tuple[float, float]
    sector: NDArray[np.int64]
    """[rows, columns]: sector under the centre of the cell, -1 outside the map."""
    clearance: NDArray[np.float64]
    """[rows, columns]: distance from the centre to the nearest obstacle, at most 160 units."""
    component: NDArray[np.int64]
    """[rows, columns]: number of the connected walkable region, 0 where nobody can stand; 1 is the largest
    region."""

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of a point, clipped to the grid."""
        rows, columns = self.sector.shape
        row, column = int((y - self.origin[1]) // CELL), int((x - self.origin[0]) // CELL)
        return min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)

    def centre(self, cell: tuple[int, int]) -> tuple[float, float]:
        """Position of a cell's centre."""
        return self.origin[0] + (cell[1] + 0.5) * CELL, self.origin[1] + (cell[0] + 0.5) * CELL

    def free(self, x: float, y: float) -> bool:
        """Whether a player can stand at the point."""
        return bool(self.component[self.cell(x, y)])

    def nearest(self, x: float, y: float) -> tuple[int, int]:
        """The walkable cell nearest to a point. Raises ValueError on a map where nobody can stand."""
        row, column = self.cell(x, y)
        if self.component[row, column]:
            return row, column
        rows, columns = np.nonzero(self.component)
        if not len(rows):
            raise ValueError("the map has no walkable place")
        best = int(np.argmin((rows - row) ** 2 + (columns - column) ** 2))
        return int(rows[best]), int(columns[best])

    def route(self, start: tuple[int, int], goal: tuple[int, int]) -> list[tuple[float, float]]:
        """Way from one cell to another through the middle of the free space (A*), as positions.

        Raises ValueError when the cells are not in one component.
        """
        if self.component[start] != self.component[goal] or not self.component[start]:
            raise ValueError(f"no way from cell {start} to cell {goal}")
        # Keeping 80 units from walls is worth a detour: one walks along the middle of a room.
        price = 1.0 + 3.0 * np.clip(1.0 - self.clearance / 80.0, 0.0, 1.0)
        cost, came, done = {start: 0.0}, {start: start}, set()
        heap = [(0.0, start)]
        while heap:
            _, here = heapq.heappop(heap)
            if here == goal:
                break
            if here in done:
                continue
            done.add(here)
            for dy, dx, length in _NEIGHBOURS:
                there = (here[0] + dy, here[1] + dx)
                if not (0 <= there[0] < price.shape[0] and 0 <= there[1] < price.shape[1]):
                    continue
                if self.component[there] != self.component[start]:
                    continue
                new = cost[here] + length * float(price[there])
                if new < cost.get(there, math.inf):
                    cost[there], came[there] = new, here
                    heapq.heappush(heap, (new + math.hypot(there[0] - goal[0], there[1] - goal[1]), there))
        way = [goal]
        while way[-1] != start:
            way.append(came[way[-1]])
        return [self.centre(cell) for cell in reversed(way)]

    def sight(self, x: float, y: float, angles: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """How far a person standing at the point sees.

        Args:
            x, y: position, map units.
            angles: [rays] degrees, counterclockwise from east.
        Returns:
            distances [rays] (inf where nothing stops the ray) and the numbers of the lines seen there [rays]
            (-1: none).
        """
        geometry = self.geometry
        here = self.sector[self.cell(x, y)]
        eye = (geometry.floor[here] if here >= 0 else 0.0) + EYE_HEIGHT
        low, high = _opening(geometry)
        opaque = np.nonzero((geometry.back < 0) | (low >= eye) | (high <= eye) | (low >= high))[0]
        x1, y1, x2, y2 = geometry.lines[opaque].T
        ux, uy = np.cos(np.radians(angles))[:, None], np.sin(np.radians(angles))[:, None]
        ex, ey = x2 - x1, y2 - y1
        cross = ux * ey - uy * ex
        with np.errstate(divide="ignore", invalid="ignore"):
            along_ray = ((x1 - x) * ey - (y1 - y) * ex) / cross
            along_line = ((x1 - x) * uy - (y1 - y) * ux) / cross
            hit = (along_ray > 0) & (along_line >= 0) & (along_line <= 1)
        distance = np.where(hit, along_ray, np.inf)
        nearest = np.argmin(distance, axis=1)
        best = distance[np.arange(len(angles)), nearest]
        return best, np.where(np.isfinite(best), opaque[nearest], -1)


def build_grid(geometry: MapGeometry) -> Grid:
    """Computes the free space of a map; 0.1 to 1 s for the largest ones."""
    low = geometry.lines.reshape(-1, 2).min(axis=0) - CELL
    high = geometry.lines.reshape(-1, 2).max(axis=0) + CELL
    columns, rows = (math.ceil(float(n) / CELL) for n in high - low)
    origin = (float(low[0]), float(low[1]))
    sector = _sectors(geometry, origin, rows, columns)
    clearance = _clearance(geometry, origin, rows, columns)
    inside = np.maximum(sector, 0)
    tall = (geometry.ceiling - geometry.floor)[inside] >= _HEADROOM
    walkable = (sector >= 0) & tall & (clearance >= PLAYER_RADIUS + _MARGIN)
    return Grid(geometry, origin, sector, clearance, _components(walkable))


def _opening(geometry: MapGeometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper edge of the hole that each line leaves between its two sectors (of no meaning for solid
    walls)."""
    front, back = geometry.front, np.maximum(geometry.back, 0)
    low = np.maximum(geometry.floor[front], geometry.floor[back])
    return low, np.minimum(geometry.ceiling[front], geometry.ceiling[back])


def _obstacles(geometry: MapGeometry) -> NDArray[np.bool_]:
    """[lines]: whether a walker must keep away from the line."""
    low, high = _opening(geometry)
    step = np.abs(geometry.floor[geometry.front] - geometry.floor[np.maximum(geometry.back, 0)])
    leaves = np.isin(geometry.special, list(_LEAVES))
    return geometry.impassable | (geometry.back < 0) | (step > _STEP) | (high - low < _HEADROOM) | leaves


def _sectors(geometry: MapGeometry, origin: tuple[float, float], rows: int, columns: int) -> NDArray[np.int64]:
    """Sector under each cell's centre, row by row: between two crossings of a row with lines, one sector
    rules."""
    result = np.full((rows, columns), -1, np.int64)
    _, y1, _, y2 = geometry.lines.T
    centres = origin[0] + (np.arange(columns) + 0.5) * CELL
    for row in range(rows):
        y = origin[1] + (row + 0.5) * CELL + 1e-3  # never exactly through a vertex, which lies on integers
        crossing = np.nonzero((y1 > y) != (y2 > y))[0]
        if not len(crossing):
            continue
        ax, ay, bx, by = geometry.lines[crossing].T
        at = ax + (y - ay) / (by - ay) * (bx - ax)
        order = np.argsort(at, kind="stable")
        # A line that runs upwards has its front on the right, towards growing x.
        upwards = (by > ay)[order]
        right = np.where(upwards, geometry.front[crossing][order], geometry.back[crossing][order])
        place = np.searchsorted(at[order], centres, side="right") - 1
        result[row] = np.where(place >= 0, right[np.maximum(place, 0)], -1)
    return result


def _clearance(geometry: MapGeometry, origin: tuple[float, float], rows: int, columns: int) -> NDArray[np.float64]:
    """Distance of each cell's centre to the nearest obstacle, up to _REACH."""
    result = np.full((rows, columns), _REACH)
    xs = origin[0] + (np.arange(columns) + 0.5) * CELL
    ys = origin[1] + (np.arange(rows) + 0.5) * CELL
    segments = [(*line, 0.0) for line in geometry.lines[_obstacles(geometry)].tolist()]
    segments += [(x, y, x, y, PLAYER_RADIUS) for x, y, _, kind in geometry.things.tolist() if kind in _SOLID_THINGS]
    for x1, y1, x2, y2, radius in segments:
        left, right = np.searchsorted(xs, [min(x1, x2) - _REACH, max(x1, x2) + _REACH])
        bottom, top = np.searchsorted(ys, [min(y1, y2) - _REACH, max(y1, y2) + _REACH])
        px, py = xs[None, left:right], ys[bottom:top, None]
        ex, ey = x2 - x1, y2 - y1
        t = np.clip(((px - x1) * ex + (py - y1) * ey) / max(ex * ex + ey * ey, 1e-9), 0.0, 1.0)
        distance = np.hypot(px - x1 - t * ex, py - y1 - t * ey) - radius
        window = result[bottom:top, left:right]
        np.minimum(window, distance, out=window)
    return result


def _components(walkable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers the 4-connected regions of a mask, the largest first."""
    label = np.zeros(walkable.shape, np.int64)
    rows, columns = walkable.shape
    sizes: list[int] = []
    for start in zip(*np.nonzero(walkable), strict=True):
        if label[start]:
            continue
        label[start] = number = len(sizes) + 1
        stack, size = [start], 0
        while stack:
            y, x = stack.pop()
            size += 1
            for there in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= there[0] < rows and 0 <= there[1] < columns
                if inside and walkable[there] and not label[there]:
                    label[there] = number
                    stack.append(there)
        sizes.append(size)
    rank = np.zeros(len(sizes) + 1, np.int64)
    rank[1 + np.argsort(-np.array(sizes), kind="stable")] = np.arange(1, len(sizes) + 1)
    return rank[label]
