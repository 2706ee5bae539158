"""Where a stage finds what it begins from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aapt_video.worlds.dataset import VideoDataset

from .clips import codec_fingerprint, describe_data
from .record import read_record


@dataclass(frozen=True)
class Places:
    """Folders on this machine; a record names them by their contents, not by their paths."""

    data: Path
    """Dataset to train on."""
    held_out: Path | None = None
    """Dataset to measure on; without one the training data is measured, and the record says so."""
    codec: Path | None = None
    """Result of the codec stage; latent stages need it."""
    init: Path | None = None
    """Result of the stage before."""
    discriminator: Path | None = None
    """Result of `adapt`, or of an earlier adversarial phase: what the discriminator starts from."""

    def describe(self, data: VideoDataset) -> dict[str, Any]:
        """For the record."""
        sources: dict[str, Any] = {"data": describe_data(data)}
        sources["held_out"] = describe_data(VideoDataset(self.held_out)) if self.held_out else "none: measured on data"
        if self.codec:
            sources["codec"] = codec_fingerprint(self.codec)
        for name, folder in (("init", self.init), ("discriminator", self.discriminator)):
            if folder:
                before = read_record(folder) or {}
                sources[name] = {key: before.get(key) for key in ("stage", "updates", "commit", "finished", "measured")}
        return sources
