"""Captions of the doom world, from the engine's truth: the kind of place, light, walls, what lies about.

`facts_at` looks at one moment, `merge_facts` at a span of them, `compose` makes the sentence. The facts stay
beside the text in the dataset, so that a trainer may drop parts at random and compose other sentences.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from aapt_video.worlds.doom_path import Pose
from aapt_video.worlds.navigation import Grid

_SMALL = 0.0012  # of the picture: an object that covers less is not worth a word
_RAYS = np.arange(-40.0, 41.0, 5.0)

# What a texture shows, by the beginning of its name; the first match counts.
_WALLS = (
    ("CRAT|CARL|CR64|CRAW|CRTINY|CRWD|CRLW|CRSM|CRBW", "crates"),
    ("BRICK|BIGBRIK|A-.*BR|A-BRICK|AQBRIK|BRICKLIT", "brick"),
    ("MARB|A-MARBLE|GSTON|GSTVINE|GSTLION|GSTGARG|GSTSATYR|GSTFONT|SP_HOT", "carved stone"),
    ("ROCK|SP_ROCK|ASHWALL|TANROCK|CAVERN|A-.*ROK|A-DROCK|AQDIRT|A-MUD|ZIMMER|MTNT", "rock"),
    ("STONE|BSTONE|CEMENT|GRAY|AQCONC|STUCCO|A-CONC|ICKWALL|ASPHALT|BROWN144|BROVINE", "stone"),
    ("WOOD|PANEL|PANCASE|PANBORD|PANBLU|PANBOO|A-.*WOOD", "wood"),
    (
        "METAL|SHAWN|SUPPORT|SILVER|BRONZE|AQMETL|AQRUST|AQSUPP|PIPE|AQPIPE|PLAT|DOORTRAK|DOORSTOP|SPACEW|TYIRON",
        "steel",
    ),
    ("COMP|TEK|STAR|SLAD|AQCOMP|AQPANL|AQSECT|MODWALL|BASE|MC|A-CAMO|LITE|AQLITE|ESP|NUK", "machine panels"),
    ("SK|SP_FACE|SP_DUDE|BLOD|DBRAIN|CRACKLE|FIRE|REDWALL|ZZZFACE", "flesh and fire"),
    ("BROWN|BRN|STEP|BRWINDOW|AQTILE|AQTRIM", "worn plaster"),
    (".*DOOR|SPCDOOR|EXITDOOR", "doors"),
    ("WFALL|SFALL|BFALL", "falling liquid"),
    ("MID|BRNSMAL|A-RAIL", "bars"),
    (".*VINE|HEDGE", "vines"),
)
_LIQUIDS = (
    ("NUKAGE|SLIME0[1-8]", "green slime"),
    ("LAVA|SLIME09|SLIME1[0-2]|RROCK0[58]", "lava"),
    ("FWATER|SWATER", "water"),
    ("BLOOD", "blood"),
)
_WALL_WORDS = tuple((re.compile(pattern), word) for pattern, word in _WALLS)
_LIQUID_WORDS = tuple((re.compile(pattern), word) for pattern, word in _LIQUIDS)

# Engine classes whose names do not say what one sees. None: not worth a word.
_OBJECTS: dict[str, str | None] = {
    "DoomPlayer": None,
    "BulletPuff": None,
    "TeleportFog": None,
    "HealthBonus": "potion",
    "ArmorBonus": "helmet",
    "GreenArmor": "green armour",
    "BlueArmor": "blue armour",
    "Clip": "ammunition clip",
    "ClipBox": "ammunition box",
    "Shell": "shells",
    "ShellBox": "shell box",
    "RocketAmmo": "rocket",
    "Cell": "energy cell",
    "CellPack": "energy pack",
    "Soulsphere": "blue sphere",
    "Megasphere": "glowing sphere",
    "InvulnerabilitySphere": "green sphere",
    "BlurSphere": "red sphere",
    "Infrared": "goggles",
    "RadSuit": "protective suit",
    "Allmap": "map computer",
    "Berserk": "black medikit",
    "ExplosiveBarrel": "barrel",
    "Column": "floor lamp",
    "TechLamp": "tall lamp",
    "TechLamp2": "short lamp",
    "TechPillar": "machine pillar",
    "Candlestick": "candle",
    "BigTree": "large tree",
    "TorchTree": "bare tree",
    "LiveStick": "impaled body",
    "DeadStick": "impaled body",
    "HeadOnAStick": "impaled skull",
    "HeadsOnAStick": "pile of skulls",
    "HeadCandles": "skulls with candles",
    "HeartColumn": "pillar with a heart",
    "FloatingSkull": "floating stone",
    "Stalagtite": "stalagmite",
    "Gibs": "remains",
    "GibbedMarine": "remains",
    "GibbedMarineExtra": "remains",
    "DeadMarine": "dead soldier",
    "DeadZombieMan": "dead soldier",
    "DeadShotgunGuy": "dead soldier",
    "DeadCacodemon": "dead monster",
    "DeadDemon": "dead monster",
    "DeadDoomImp": "dead monster",
    "DeadLostSoul": "dead monster",
    "ColonGibs": "pool of blood",
    "SmallBloodPool": "pool of blood",
    "BrainStem": "pool of blood",
    **{f"{kind}Meat{n}": "hanging remains" for kind in ("", "Nonsolid") for n in (2, 3, 4, 5)},
    **{f"{colour}Card": f"{colour.lower()} key" for colour in ("Blue", "Red", "Yellow")},
    **{f"{colour}Skull": f"{colour.lower()} key" for colour in ("Blue", "Red", "Yellow")},
    "SuperShotgun": "double shotgun",
    "BFG9000": "large gun",
}


def facts_at(grid: Grid, pose: Pose, objects: tuple[tuple[str, float], ...]) -> dict[str, Any]:
    """What one moment shows.

    Args:
        grid: the map.
        pose: the camera.
        objects: names of the engine's visible objects and the share of the picture that each covers.
    Returns:
        light (0 to 255), place, walls (material -> share of the view), liquids (name -> share), objects (list
        of words).
    """
    geometry = grid.geometry
    cell = grid.cell(pose.x, pose.y)
    here = int(grid.sector[cell])
    distance, seen = grid.sight(pose.x, pose.y, pose.angle + _RAYS)
    walls = Counter(_word(geometry.wall[line], _WALL_WORDS) for line in seen if line >= 0)
    walls.pop(None, None)
    floors: Counter[str | None] = Counter()
    for angle, reach in zip(np.radians(pose.angle + _RAYS), distance, strict=True):
        for share in (0.25, 0.5, 0.75):
            step = share * min(float(reach), 512.0)
            sector = grid.sector[grid.cell(pose.x + step * np.cos(angle), pose.y + step * np.sin(angle))]
            if sector >= 0:
                floors[_word(geometry.floor_flat[sector], _LIQUID_WORDS)] += 1
    total = max(sum(floors.values()), 1)
    return {
        "light": int(geometry.light[here]),
        "place": _place(grid, cell, here),
        "walls": {word: count / len(_RAYS) for word, count in walls.items()},
        "liquids": {word: count / total for word, count in floors.items() if word is not None},
        "objects": sorted({word for name, share in objects if share >= _SMALL and (word := object_word(name))}),
    }


def merge_facts(moments: list[dict[str, Any]]) -> dict[str, Any]:
    """The facts of a span: mean light, the commonest place, what is seen in a good part of it."""
    walls, liquids, objects = Counter[str](), Counter[str](), Counter[str]()
    for moment in moments:
        walls.update(moment["walls"])
        liquids.update(moment["liquids"])
        objects.update(moment["objects"])
    enough = len(moments)
    return {
        "light": _light(float(np.mean([moment["light"] for moment in moments]))),
        "place": Counter(moment["place"] for moment in moments).most_common(1)[0][0],
        "walls": [word for word, share in walls.most_common(2) if share >= 0.2 * enough],
        "liquids": [word for word, share in liquids.most_common(1) if share >= 0.08 * enough],
        "objects": [word for word, _ in objects.most_common(3)],
    }


def compose(facts: dict[str, Any]) -> str:
    """A sentence from the facts of a span, such as "a dim corridor of brick and steel, a barrel, lava"."""
    if facts["place"] == "outdoors":
        text = "outdoors under an open sky"
        text += f", walls of {' and '.join(facts['walls'])}" if facts["walls"] else ""
    else:
        text = f"{_article(facts['light'])} {facts['place']}"
        text += f" of {' and '.join(facts['walls'])}" if facts["walls"] else ""
    parts = [text, *facts["liquids"], *(f"{_article(word)}" for word in facts["objects"])]
    return ", ".join(parts)


def object_word(name: str) -> str | None:
    """English for an engine class: from the table, or its name taken apart. None for what is not worth a
    word."""
    if name in _OBJECTS:
        return _OBJECTS[name]
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])|_", " ", name).lower()


def _word(texture: str, table: tuple[tuple[re.Pattern[str], str], ...]) -> str | None:
    return next((word for pattern, word in table if pattern.match(texture)), None)


def _place(grid: Grid, cell: tuple[int, int], sector: int) -> str:
    geometry, clearance = grid.geometry, float(grid.clearance[cell])
    if geometry.ceiling_flat[sector] == "F_SKY1":
        return "outdoors"
    if clearance < 52.0:
        return "corridor"
    tall = geometry.ceiling[sector] - geometry.floor[sector] >= 224.0
    return "hall" if tall or clearance >= 140.0 else "room"


def _light(level: float) -> str:
    return "dark" if level < 112 else "dim" if level < 160 else "lit" if level < 208 else "bright"


def _article(word: str) -> str:
    if word.endswith(("s", "armour")):
        return word
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
