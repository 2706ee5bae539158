"""Reads the geometry of a map out of a Doom WAD file: lines, sectors, things.

Both map formats are understood: the binary one of the original game (Freedoom) and the text one, UDMF
(ViZDoom's own scenarios). The result is the truth that trajectories are planned on and captions are written
from; the engine itself is not needed for it.

Sources: "The Unofficial Doom Specs" 1.666, chapters 2 and 4; "UDMF specification" 1.1.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_IMPASSABLE, _TWO_SIDED = 1, 4  # bits of a line's flags


@dataclass(frozen=True)
class MapGeometry:
    """One map. Lengths are map units (a player is 56 high and 32 wide), angles degrees, light 0 (black) to
    255."""

    lines: NDArray[np.float64]
    """[n, 4]: x1, y1, x2, y2; the front side is on the right hand of a walk from 1 to 2."""
    impassable: NDArray[np.bool_]
    """[n]: the line itself stops the player."""
    special: NDArray[np.int64]
    """[n]: what crossing or using the line does; 0 is nothing."""
    front: NDArray[np.int64]
    """[n]: sector in front of the line."""
    back: NDArray[np.int64]
    """[n]: sector behind it, -1 where the line is a solid wall."""
    wall: tuple[str, ...]
    """[n]: name of the texture that covers most of the front side, "" where there is none."""
    floor: NDArray[np.float64]
    """[sectors]: floor height."""
    ceiling: NDArray[np.float64]
    """[sectors]: ceiling height."""
    light: NDArray[np.int64]
    """[sectors]: light level."""
    floor_flat: tuple[str, ...]
    """[sectors]: texture of the floor."""
    ceiling_flat: tuple[str, ...]
    """[sectors]: texture of the ceiling; F_SKY1 is the open sky."""
    things: NDArray[np.float64]
    """[things, 4]: x, y, angle, type number."""


def map_names(wad: Path) -> list[str]:
    """Names of all maps in a WAD file, in its own order."""
    lumps = _directory(wad.read_bytes())
    return [a.name for a, b in pairwise(lumps) if b.name in ("THINGS", "TEXTMAP")]


def read_map(wad: Path, name: str) -> MapGeometry:
    """Geometry of the map `name`. Raises ValueError when the file has no such map."""
    data = wad.read_bytes()
    lumps = _directory(data)
    for index, lump in enumerate(lumps[:-1]):
        if lump.name != name.upper():
            continue
        if lumps[index + 1].name == "TEXTMAP":
            return _from_text(lumps[index + 1].read(data).decode("latin-1"))
        if lumps[index + 1].name == "THINGS":
            return _from_binary({lump.name: lump.read(data) for lump in lumps[index + 1 : index + 11]})
    raise ValueError(f"name={name!r}: {wad.name} has the maps {', '.join(map_names(wad))}")


@dataclass(frozen=True)
class _Lump:
    name: str
    offset: int
    size: int

    def read(self, data: bytes) -> bytes:
        return data[self.offset : self.offset + self.size]


def _directory(data: bytes) -> list[_Lump]:
    magic, count, offset = struct.unpack_from("<4sii", data)
    if magic not in (b"IWAD", b"PWAD"):
        raise ValueError(f"not a WAD file: it starts with {magic!r} instead of IWAD or PWAD")
    entries = struct.iter_unpack("<ii8s", data[offset : offset + 16 * count])
    return [_Lump(_name(raw), start, size) for start, size, raw in entries]


def _name(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("latin-1").upper()


def _from_binary(lumps: dict[str, bytes]) -> MapGeometry:
    vertexes = np.frombuffer(lumps["VERTEXES"], "<i2").reshape(-1, 2).astype(np.float64)
    linedefs = np.frombuffer(lumps["LINEDEFS"], "<u2").reshape(-1, 7).astype(np.int64)
    sides = list(struct.iter_unpack("<hh8s8s8sh", lumps["SIDEDEFS"]))
    sectors = list(struct.iter_unpack("<hh8s8shhh", lumps["SECTORS"]))
    things = np.frombuffer(lumps["THINGS"], "<i2").reshape(-1, 5)[:, :4].astype(np.float64)
    side_sector = np.array([side[5] for side in sides])
    right, left = linedefs[:, 5], linedefs[:, 6]
    walls = [next((n for n in map(_name, (s[4], s[2], s[3])) if n != "-"), "") for s in sides]
    return MapGeometry(
        lines=np.concatenate([vertexes[linedefs[:, 0]], vertexes[linedefs[:, 1]]], axis=1),
        impassable=(linedefs[:, 2] & _IMPASSABLE != 0) | (linedefs[:, 2] & _TWO_SIDED == 0),
        special=linedefs[:, 3],
        front=side_sector[right],
        back=np.where(left == 0xFFFF, -1, side_sector[np.where(left == 0xFFFF, 0, left)]),
        wall=tuple(walls[side] for side in right),
        floor=np.array([s[0] for s in sectors], np.float64),
        ceiling=np.array([s[1] for s in sectors], np.float64),
        light=np.array([s[4] for s in sectors], np.int64),
        floor_flat=tuple(_name(s[2]) for s in sectors),
        ceiling_flat=tuple(_name(s[3]) for s in sectors),
        things=things,
    )


_BLOCK = re.compile(r"(\w+)\s*(?://[^\n]*)?\s*\{(.*?)\}", re.DOTALL)
_FIELD = re.compile(r'(\w+)\s*=\s*("[^"]*"|[^;\s]+)\s*;')


def _from_text(text: str) -> MapGeometry:
    blocks: dict[str, list[dict[str, str]]] = {k: [] for k in ("vertex", "linedef", "sidedef", "sector", "thing")}
    for kind, body in _BLOCK.findall(text):
        if kind in blocks:
            blocks[kind].append({key: value.strip('"') for key, value in _FIELD.findall(body)})
    vertexes = np.array([[float(v["x"]), float(v["y"])] for v in blocks["vertex"]])
    linedefs, sides, sectors = blocks["linedef"], blocks["sidedef"], blocks["sector"]
    front = [sides[int(line["sidefront"])] for line in linedefs]
    back = [int(line.get("sideback", -1)) for line in linedefs]
    names = ("texturemiddle", "texturetop", "texturebottom")
    return MapGeometry(
        lines=np.array([[*vertexes[int(line["v1"])], *vertexes[int(line["v2"])]] for line in linedefs]),
        impassable=np.array(
            [line.get("blocking") == "true" or side < 0 for line, side in zip(linedefs, back, strict=True)]
        ),
        special=np.array([int(line.get("special", 0)) for line in linedefs]),
        front=np.array([int(side["sector"]) for side in front]),
        back=np.array([int(sides[side]["sector"]) if side >= 0 else -1 for side in back]),
        wall=tuple(next((s[n].upper() for n in names if s.get(n, "-") != "-"), "") for s in front),
        floor=np.array([float(s.get("heightfloor", 0)) for s in sectors]),
        ceiling=np.array([float(s.get("heightceiling", 0)) for s in sectors]),
        light=np.array([int(s.get("lightlevel", 160)) for s in sectors]),
        floor_flat=tuple(s["texturefloor"].upper() for s in sectors),
        ceiling_flat=tuple(s["textureceiling"].upper() for s in sectors),
        things=np.array(
            [[float(t[k]) if k in t else 0.0 for k in ("x", "y", "angle", "type")] for t in blocks["thing"]]
        ),
    )
