"""The makers of data, by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from aapt_video.worlds.shards import ShardWriter


class Maker(Protocol):
    """Knows how to fill a dataset, shard by shard. A shard depends on the configuration and its number
    alone."""

    @property
    def name(self) -> str:
        """Key in MAKERS."""

    @property
    def config(self) -> Any:
        """A frozen dataclass."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, pixels."""

    @property
    def total_frames(self) -> int | None:
        """Frames of all shards together, None where that is not known beforehand."""

    def shard_count(self) -> int:
        """Number of shards."""

    def describe(self) -> dict[str, Any]:
        """The maker's part of index.json: split, tracks, versions, licences, notes; where a camera walks, `speeds`, the
        fields of `aapt_video.stream.Speeds`; where a body moves, `skeleton`, with `lines` and `rest` of
        `aapt_video.model.conditions.Pose`."""

    def capture(self, shard: int, writer: ShardWriter, report: Callable[[int], None]) -> None:
        """Fills one shard; calls `report` with the number of new frames, and often, if only with 0: silence
        is a hang."""


class ClipsOfOneLength:
    """The part of a maker whose clips all have `config.clip_frames` frames, `config.clips_per_shard` to a shard."""

    config: Any
    """With `frames`, `clip_frames`, `clips_per_shard`, `width` and `height`."""

    @property
    def clips(self) -> int:
        """Of all shards together."""
        return int(-(-self.config.frames // self.config.clip_frames))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures."""
        return self.config.width, self.config.height

    @property
    def total_frames(self) -> int | None:
        """Frames of all shards together."""
        return self.clips * int(self.config.clip_frames)

    def shard_count(self) -> int:
        """Number of shards."""
        return int(-(-self.clips // self.config.clips_per_shard))


MAKERS = {
    "doom": ("aapt_video.worlds.doom", "DoomMaker"),
    "folder": ("aapt_video.worlds.folder", "FolderMaker"),
    "humanoid": ("aapt_video.worlds.humanoid", "HumanoidMaker"),
}
"""Module and class by name. A module is imported when its maker is used: a worker starts for every shard."""


def maker_from_dict(name: str, config: dict[str, Any]) -> Maker:
    """The maker `name` with a configuration that was read from JSON."""
    module, kind = MAKERS[name]
    maker: Maker = getattr(import_module(module), kind).from_dict(config)
    return maker
