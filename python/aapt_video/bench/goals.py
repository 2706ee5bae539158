"""What a goal is, and what others have published. Goals are held against records; published figures stand beside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from .record import Record


@dataclass(frozen=True)
class Goal:
    """A bound on one metric of one benchmark."""

    text: str
    """The goal in words, with its shape."""
    benchmark: str
    """`Record.benchmark`."""
    case: str
    """A pattern that finds the record's workload, written `key=value key=value ...` with the keys in order."""
    metric: str
    """A key of `Record.metrics`."""
    bound: float
    """What the metric must reach (`at_least`) or stay under (`at_most`)."""
    sense: Literal["at_least", "at_most"]
    device: Literal["cpu", "gpu"]
    """Where it is measured."""

    def matches(self, record: Record) -> bool:
        on_gpu = "gpu" in record.hardware and record.workload.get("device") != "cpu"
        words = " ".join(f"{key}={value}" for key, value in sorted(record.workload.items()))
        return (
            record.benchmark == self.benchmark
            and record.method == "ours"
            and self.metric in record.metrics
            and on_gpu == (self.device == "gpu")
            and re.search(self.case, words) is not None
        )

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.sense == "at_least" else value <= self.bound


@dataclass(frozen=True)
class Published:
    """Somebody else's figure, as they state it."""

    system: str
    output: str
    hardware: str
    figure: str
    source: str


PUBLISHED = (
    Published(
        "AAPT, 8B, one step",
        "736x416, 24 fps",
        "1 H100",
        "0.16 s per latent frame, 24.8 fps",
        "arXiv 2506.09350, table 4; whether the decoder is in it is not stated",
    ),
    Published(
        "AAPT, 8B, one step", "1280x720, 24 fps", "8 H100", "0.17 s per latent frame, 24.2 fps", "the same table"
    ),
    Published(
        "FlashDreams, Wan 1.3B, 4 steps of 3 latent frames",
        "832x480",
        "1 H100",
        "425 ms a block, 28 fps",
        "its benchmark records, sixth block; tiny decoder",
    ),
    Published(
        "Self-Forcing, Wan 1.3B, 4 steps of 3 latent frames",
        "832x480",
        "1 H100",
        "570 ms a block, 21 fps",
        "measured by NVIDIA for FlashDreams; the authors state 17 fps",
    ),
    Published("Causal-Forcing++, 1.3B, 2 steps of 1 latent frame", "832x480", "not stated", "14.1 fps", "its paper"),
    Published("CausVid, 4 steps", "640x352", "1 H100", "9.4 fps", "as AAPT reports it"),
    Published("MAGI-1, 24B, 8 steps", "736x416", "8 H100", "3.43 fps", "as AAPT reports it"),
)
