"""`--target`: one measured step held against the published figure and against our own aims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .record import Record

WORKLOAD = {"model": "aapt-8b", "size": "736x416", "window": 30, "decoder": "light"}
"""Where the aims hold."""


@dataclass(frozen=True)
class Aim:
    """A bound on one metric of a step."""

    text: str
    metric: str
    seconds: float


AIMS = (
    Aim("AAPT as published: whole latent frame (whether its decoder is in it is not stated)", "p50_seconds", 0.160),
    Aim("ours: whole latent frame with the light decoder", "p50_seconds", 0.080),
    Aim("ours: transformer alone", "transformer_seconds", 0.053),
)


def check_workload(workload: Mapping[str, object], methods: Sequence[str]) -> None:
    """Raises ValueError unless the aims are about this workload and ours is measured."""
    for name, value in WORKLOAD.items():
        if workload[name] != value:
            raise ValueError(f"--target is about --{name} {value}, and {name} is {workload[name]}; leave --target out")
    if "ours" not in methods:
        raise ValueError(f"--target is about the method ours, and methods is {','.join(methods)}; add ours")


def verdict(records: Sequence[Record]) -> tuple[list[str], bool]:
    """Lines to print, and whether every aim is reached by the record of `ours`."""
    ours = next(record for record in records if record.method == "ours")
    if ours.status == "failed":
        return [f"target: not measured, ours failed: {ours.note}"], False
    return list(_lines(ours)), all(ours.metrics[aim.metric] <= aim.seconds for aim in AIMS)


def _lines(ours: Record) -> Iterator[str]:
    for aim in AIMS:
        value = ours.metrics[aim.metric]
        word = "reached" if value <= aim.seconds else "missed"
        margin = (aim.seconds - value) / aim.seconds
        yield f"target {aim.seconds:.3f} s  measured {value:.4f} s  margin {margin:+.1%}  {word:<7}  {aim.text}"
