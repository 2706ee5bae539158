"""The doom maker: walks through Freedoom's maps, one shard per map and visit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aapt_video.worlds.captions import compose, facts_at, merge_facts
from aapt_video.worlds.doom_engine import DoomEngine, MapLeft, View, engine_version
from aapt_video.worlds.doom_maps import DoomMap, choose_maps, wad_path
from aapt_video.worlds.doom_path import Command, PathConfig, Walker
from aapt_video.worlds.makers import ClipsOfOneLength
from aapt_video.worlds.navigation import Grid, build_grid
from aapt_video.worlds.shards import Caption, ShardWriter
from aapt_video.worlds.wad import read_map

_JUMP = 16.0  # map units in a tic: nobody walks that far; a teleport or a lift did it, so the clip ends there
_SHORTEST = 97  # frames: a clip that was cut shorter than this is walked again elsewhere
_TRIES = 12  # places tried per clip
_SPAN, _LOOKS = 120, 4  # frames per caption, moments looked at for each


@dataclass(frozen=True)
class DoomConfig:
    """What to capture. One engine tic is one frame; frames are meant to be shown at 24 per second."""

    frames: int = 60_000
    """Frames wanted; rounded up to whole clips."""
    seed: int = 0
    """Seed of everything: maps' order, places, paths, the engine. From 9000 on reserved for test data."""
    test: bool = False
    """Make test data: reserved maps by default, reserved seeds only."""
    maps: tuple[str, ...] = ()
    """Keys such as freedoom2/MAP01; none means all maps of the split."""
    width: int = 128
    """Pixels."""
    height: int = 96
    """Pixels. Shapes other than 4:3 are cut from the middle of a 4:3 picture."""
    clip_frames: int = 481
    """Frames of a clip: 1 + a multiple of 4, so that a codec which packs four frames into one wastes none."""
    clips_per_shard: int = 2
    """Clips, all on one map, that make one shard."""
    gamma: float = 0.75
    """Exponent applied to pictures: the maps are dark."""
    weapon: bool = False
    """Draw the player's weapon."""
    path: PathConfig = field(default_factory=PathConfig)
    """How the walker walks."""

    def __post_init__(self) -> None:
        for name in ("frames", "clips_per_shard"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.clip_frames < 1:
            raise ValueError(f"clip_frames={self.clip_frames}: must be at least 1")
        if self.width % 2 or self.height % 2 or min(self.width, self.height) < 16:
            raise ValueError(f"width={self.width}, height={self.height}: must be even and at least 16")
        if not 0.2 <= self.gamma <= 3.0:
            raise ValueError(f"gamma={self.gamma}: must lie between 0.2 and 3")


class DoomMaker(ClipsOfOneLength):
    """Captures shards. `config` is checked against the reserved maps and seeds here, before any work."""

    name = "doom"
    config: DoomConfig

    def __init__(self, config: DoomConfig) -> None:
        self.config = config
        self.maps = choose_maps(config.maps, config.seed, config.test)

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> DoomMaker:
        """The maker that a configuration from JSON describes."""
        return DoomMaker(DoomConfig(**{**raw, "maps": tuple(raw["maps"]), "path": PathConfig(**raw["path"])}))

    def describe(self) -> dict[str, Any]:
        """The maker's part of index.json."""
        path = self.config.path
        return {
            "split": "test" if self.config.test else "train",
            "tracks": {
                "camera": ["x", "y", "z (map units)", "angle", "pitch", "horizontal field of view (degrees)"],
                "control": ["forward", "strafe right (map units)", "yaw left (degrees)", "as commanded for the tic"],
            },
            "speeds": {
                "move": path.speed,
                "turn": path.turn,
                "tilt": 0.0,
                "acceleration": path.acceleration,
                "turn_acceleration": path.turn_acceleration,
            },
            "versions": {"vizdoom": engine_version()},
            "licences": {
                "pictures": "Freedoom's maps, textures and sprites: BSD 3-clause",
                "ViZDoom": "MIT for its own code",
                "ZDoom, the engine under it": "mixed; nothing of it is contained in the data",
            },
            "notes": [
                "One engine tic is one frame. The engine's own clock is 35 tics per second, the frames are "
                "meant to be shown at 24 per second: motion then looks 0.69 times as fast as in the game.",
                "`control` leads to the frame in whose row it stands. In free space it equals the camera's "
                "motion; where a wall blocks the way it does not: a player holds forward there.",
                "No monsters, no view bobbing; nobody opens doors.",
            ],
        }

    def capture(self, shard: int, writer: ShardWriter, report: Callable[[int], None]) -> None:
        """Walks the clips of one shard.

        Args:
            shard: its number; with the configuration it decides every bit of the result.
            writer: takes the clips.
            report: called with the number of new frames, often.
        """
        config = self.config
        doom_map = self._map_of(shard)
        rng = np.random.default_rng([config.seed, shard])
        grid = build_grid(read_map(wad_path(doom_map.wad), doom_map.name))
        walker = Walker(grid, config.path, rng)
        first = shard * config.clips_per_shard
        wanted = min(config.clips_per_shard, self.clips - first)
        with DoomEngine(doom_map, self.size, int(rng.integers(1, 2**31)), config.gamma, config.weapon) as engine:
            for _ in range(wanted):
                for _ in range(_TRIES):
                    views, commands = self._walk(engine, walker, report)
                    if len(views) >= min(_SHORTEST, config.clip_frames):
                        break
                else:
                    raise RuntimeError(f"{doom_map.key}: no walk of {_SHORTEST} frames in {_TRIES} places")
                tracks = {"camera": np.stack([view.camera for view in views]), "control": np.array(commands)}
                video = np.stack([view.frame for view in views])
                report(len(views))
                writer.add_clip(video, tracks, doom_map.key, _captions(grid, views))

    def _map_of(self, shard: int) -> DoomMap:
        """Every map once in an order of the seed, then every map again in another order."""
        visit, place = divmod(shard, len(self.maps))
        order = np.random.default_rng([self.config.seed, visit, 1]).permutation(len(self.maps))
        return self.maps[int(order[place])]

    def _walk(
        self, engine: DoomEngine, walker: Walker, report: Callable[[int], None]
    ) -> tuple[list[View], list[Command]]:
        """One clip: views, and the command that led to each (none led to the first)."""
        views: list[View] = []
        commands: list[Command] = []
        try:
            views.append(engine.place(walker.start()))
            commands.append(Command())
            while len(views) < self.config.clip_frames:
                before = views[-1]
                command = walker.step(before.pose)
                view = engine.step(command, before)
                if np.abs(view.camera[:2] - before.camera[:2]).max() > _JUMP:
                    break
                views.append(view)
                commands.append(command)
                if len(views) % 60 == 0:
                    report(0)
        except MapLeft:
            pass
        return views, commands


def _captions(grid: Grid, views: list[View]) -> tuple[Caption, ...]:
    """One caption per _SPAN frames, from a few moments of each."""
    captions = []
    for start in range(0, max(len(views) - _SPAN // 2, 1), _SPAN):
        stop = len(views) if start + 3 * _SPAN // 2 > len(views) else start + _SPAN
        looks = np.linspace(start, stop - 1, _LOOKS).astype(int)
        facts = merge_facts([facts_at(grid, views[i].pose, views[i].objects) for i in looks])
        captions.append(Caption(start, stop, compose(facts), facts))
    return tuple(captions)
