"""All figures of one model, and the same of real video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aapt_video.model.conditions import Camera
from aapt_video.train.clips import ConditionSource
from aapt_video.worlds.dataset import VideoDataset

from .figures import (
    NOT_MEASURED,
    Figures,
    control_figures,
    picture_figures,
    section_windows,
    seed_figures,
    spread,
    without_control,
)
from .fitting import Networks
from .frechet import frechet
from .networks import FEATURES
from .next_latent import next_latent
from .obedience import LATENT_FRAMES, obedience
from .players import Player, Progress
from .reference import Reference
from .rollouts import Start, roll, shown_seconds

Pictures = Mapping[float, NDArray[np.uint8]]


@dataclass(frozen=True)
class Setting:
    """What all models are measured with."""

    held_out: VideoDataset
    source: ConditionSource
    """Track that steers."""
    starts: list[Start]
    seeds: list[int]
    networks: Networks
    reference: Reference
    root: Path
    """Folder where measured videos are kept."""

    @property
    def latent_frames(self) -> int:
        """Of each video."""
        return len(self.starts[0].controls)

    def judges(self, player: Player) -> bool:
        """Whether obedience to prompts can be measured."""
        return player.knows_text and bool(self.networks.vocabulary.words) and self.latent_frames >= LATENT_FRAMES


def work(player: Player, setting: Setting) -> int:
    """Latent frames that `evaluate_player` makes."""
    each = setting.latent_frames + (LATENT_FRAMES if setting.judges(player) else 0)
    return len(setting.starts) * len(setting.seeds) * each


def evaluate_player(player: Player, setting: Setting, tick: Progress) -> tuple[dict[str, Any], list[Pictures]]:
    """A model's part of the report; and pictures of the first seed's videos, one entry for each start."""
    starts, networks, reference, root = setting.starts, setting.networks, setting.reference, setting.root
    seconds = shown_seconds(4 * setting.latent_frames)
    once = next_latent(player, setting.held_out, setting.source, setting.seeds)
    each, by_section, pictures = list[Figures](), list[list[Figures]](), list[Pictures]()
    for i, seed in enumerate(setting.seeds):
        videos = [roll(player, start, seed, networks, seconds, root, tick) for start in starts]
        measures = [video.measures for video in videos]
        figures, parts = seed_figures(measures, starts, reference)
        if not isinstance(player.condition, Camera):
            figures, parts = without_control(figures), [without_control(part) for part in parts]
        if once is not None:
            figures |= {"next_latent_psnr": once.model[i], "codec_psnr": once.codec, "copying_psnr": once.copying}
        if setting.judges(player):
            figures |= obedience(player, starts, measures, seed, networks, root, tick)
        each.append(figures)
        by_section.append(parts)
        pictures = pictures or [video.pictures for video in videos]
    result = {
        "passes": len(player.grid) - 1,
        "fingerprint": player.fingerprint,
        "knows_text": player.knows_text,
        "videos": len(starts) * len(setting.seeds),
        **spread(each),
        "sections": [spread(parts) for parts in zip(*by_section, strict=True)],
        "seeds": dict(zip(map(str, setting.seeds), each, strict=True)),
    }
    return result, pictures


def real_figures(setting: Setting) -> dict[str, Any]:
    """What real held-out video measures against itself, and the controls."""
    reference = setting.reference
    enough = reference.windows > FEATURES
    in_section = min(section_windows(setting.latent_frames, len(setting.starts)), reference.windows)
    section = reference.floor(in_section) if enough and in_section > FEATURES else NOT_MEASURED
    pictures = reference.halves("imagenet")
    figures = {
        "frechet": reference.floor() if enough else NOT_MEASURED,
        "frechet_first_section": section,
        "frechet_last_section": section,
        "imagenet": frechet(*pictures) if min(map(len, pictures)) > pictures[0].shape[1] else NOT_MEASURED,
        **control_figures(reference.measures, reference.starts),
        **picture_figures(reference.measures, reference.starts, reference),
    }
    controls = {kind: reference.control(kind) if enough else NOT_MEASURED for kind in ("blurred", "shuffled")}
    return {"figures": figures, "controls": controls, "windows": reference.windows}
