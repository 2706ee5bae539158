"""The makers of data, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from aapt_video.worlds.doom import DoomMaker
from aapt_video.worlds.folder import FolderMaker
from aapt_video.worlds.humanoid import HumanoidMaker
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
        """The maker's part of index.json: split, tracks, versions, licences, notes."""

    def capture(self, shard: int, writer: ShardWriter, report: Callable[[int], None]) -> None:
        """Fills one shard; calls `report` with the number of new frames, and often, if only with 0: silence
        is a hang."""


MAKERS: dict[str, Callable[[dict[str, Any]], Maker]] = {
    "doom": DoomMaker.from_dict,
    "folder": FolderMaker.from_dict,
    "humanoid": HumanoidMaker.from_dict,
}


def maker_from_dict(name: str, config: dict[str, Any]) -> Maker:
    """The maker `name` with a configuration that was read from JSON."""
    return MAKERS[name](config)
