"""`aapt-video data make doom|humanoid|folder` and `aapt-video data inspect`."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from aapt_video.worlds.contact_sheet import contact_sheet
from aapt_video.worlds.dataset import VideoDataset
from aapt_video.worlds.doom import DoomConfig, DoomMaker
from aapt_video.worlds.folder import FolderConfig, FolderMaker
from aapt_video.worlds.humanoid import HumanoidConfig, HumanoidMaker
from aapt_video.worlds.makers import Maker
from aapt_video.worlds.making import MakeOptions, ShardsFailed, make_dataset
from aapt_video.worlds.statistics import measure


@dataclass(frozen=True)
class MakeDoom:
    """Walk through Freedoom's maps with ViZDoom: video with camera, control and captions. Needs the extra
    `worlds`."""

    out: Path
    """Folder of the dataset; an interrupted one is continued."""
    config: tyro.conf.OmitArgPrefixes[DoomConfig] = field(default_factory=DoomConfig)
    options: tyro.conf.OmitArgPrefixes[MakeOptions] = field(default_factory=MakeOptions)


@dataclass(frozen=True)
class MakeFolder:
    """Cut any directory of videos into clips: 24 frames per second, no camera."""

    config: tyro.conf.OmitArgPrefixes[FolderConfig]
    out: Path
    """Folder of the dataset; an interrupted one is continued."""
    options: tyro.conf.OmitArgPrefixes[MakeOptions] = field(default_factory=MakeOptions)


@dataclass(frozen=True)
class MakeHumanoid:
    """Render a figure that walks and waves with MuJoCo: video with pose and captions. Needs the extra `worlds`."""

    out: Path
    """Folder of the dataset; an interrupted one is continued."""
    config: tyro.conf.OmitArgPrefixes[HumanoidConfig] = field(default_factory=HumanoidConfig)
    options: tyro.conf.OmitArgPrefixes[MakeOptions] = field(default_factory=MakeOptions)


@dataclass(frozen=True)
class Inspect:
    """Print what a dataset holds: counts, motion, captions, licences."""

    root: Annotated[Path, tyro.conf.Positional]
    """Folder of the dataset."""
    sheet: Path | None = None
    """Write a contact sheet to this picture file."""
    strips: int = 12
    """Clips on the contact sheet."""
    seed: int = 0
    """Chooses the clips on the sheet and the captions shown."""


def make(args: MakeDoom | MakeFolder | MakeHumanoid) -> None:
    """Makes a dataset, or whatever is missing of it."""
    maker: Maker
    if isinstance(args, MakeDoom):
        maker = DoomMaker(args.config)
    elif isinstance(args, MakeHumanoid):
        maker = HumanoidMaker(args.config)
    else:
        maker = FolderMaker(args.config)
    print(f"{maker.config}\n{args.options}")
    try:
        made = make_dataset(maker, args.out, args.options)
    except ShardsFailed as error:
        raise SystemExit(f"{args.out}: {error}") from error
    dataset = VideoDataset(args.out)
    print(f"{args.out}: {made} shards made, {dataset.frames} frames in {len(dataset.clips)} clips")


def inspect(args: Inspect) -> None:
    """Prints a summary; writes a contact sheet where asked."""
    dataset = VideoDataset(args.root)
    index, clips, shards = dataset.index, dataset.clips, dataset.shards
    sources = Counter(clip.source for clip in clips)
    stored = sum(os.path.getsize(path) for path in args.root.rglob("*") if path.is_file())
    width, height = dataset.size
    print(f"{args.root}: {index['maker']} ({index['split']}), {width} x {height}, {stored / 2**20:.0f} MiB")
    print(f"{dataset.frames} frames, {len(clips)} clips, {len(shards)} shards, {len(sources)} sources")
    if motion := measure(dataset):
        print("\n".join(motion.lines()))
    captions = [caption for clip in clips for caption in clip.captions]
    print(f"{len(captions)} captions, {len({caption.text for caption in captions})} different")
    picks = np.random.default_rng(args.seed).choice(len(captions), min(8, len(captions)), replace=False)
    for pick in sorted(picks.tolist()):
        print(f"  {captions[pick].text}")
    for part, licence in index["licences"].items():
        print(f"licence of {part}: {licence}")
    for note in (note for shard in shards.values() for note in shard.notes):
        print(f"skipped: {note}")
    if args.sheet:
        contact_sheet(dataset, args.strips, seed=args.seed).save(args.sheet)
        print(f"contact sheet: {args.sheet}")
