"""The report: a JSON file, a table for the terminal, a chart, and contact sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aapt_video.video import contact_sheet

from .chart import Line, Panel, chart

ROWS = (
    ("frechet", "Fréchet distance of video features"),
    ("frechet_first_section", "  of the first section"),
    ("frechet_last_section", "  of the last section"),
    ("drift", "  last section over the first"),
    ("imagenet", "Fréchet distance of ImageNet features"),
    ("rotation_error", "rotation error, degrees per latent frame"),
    ("direction_agreement", "direction of turns agrees, share"),
    ("translation_error", "translation error, map units per latent frame"),
    ("flicker", "flicker at rest, levels of 255"),
    ("dynamic_degree", "dynamic degree, over the real one"),
    ("dynamic_share", "dynamic stretches, share"),
    ("sharpness", "sharpness, over the real one"),
    ("next_latent_psnr", "next latent given the true past, dB"),
    ("codec_psnr", "  of the codec itself"),
    ("copying_psnr", "  of repeating the latent before"),
    ("obedience", "obeys the other caption, share"),
)
_PANELS = (
    ("frechet", "Fréchet distance"),
    ("rotation_error", "rotation error, degrees"),
    ("direction_agreement", "direction agreement"),
    ("sharpness", "sharpness / real"),
    ("flicker", "flicker at rest, levels"),
    ("dynamic_degree", "dynamic degree / real"),
)


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Writes the report whole or not at all; what is not a number becomes null."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(_plain(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    partial.replace(path)


def table(report: Mapping[str, Any]) -> str:
    """Rows of figures, a column for real video and one for each model: mean, and deviation over seeds."""
    models, real = report["models"], report["real"]
    head = ["", "real video", *models]
    lines = [head]
    for name, text in ROWS:
        cells = [_number(real["figures"].get(name)) or "-"]
        for model in models.values():
            cells.append(_number(model["mean"].get(name), model["deviation"].get(name)))
        if any(cells[1:]):
            lines.append([text, *(cell or "not measured" for cell in cells)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    controls = ", ".join(f"{name} {_number(value)}" for name, value in real["controls"].items())
    return f"{text}\n\nFréchet distance of controls: {controls}; windows: {real['windows']}"


def draw(path: Path, report: Mapping[str, Any]) -> None:
    """The chart of all figures that are known by section."""
    models = report["models"]
    spans = next(iter(models.values()))["sections"]
    seconds = [(span["mean"]["seconds_from"] + span["mean"]["seconds_to"]) / 2 for span in spans]
    panels = []
    for name, title in _PANELS:
        lines = tuple(
            Line(model, *(tuple(span[part][name] for span in entry["sections"]) for part in ("mean", "deviation")))
            for model, entry in models.items()
        )
        floor = report["real"]["figures"].get("frechet_first_section" if name == "frechet" else name, math.nan)
        panels.append(Panel(title, lines, floor))
    settings = report["settings"]
    note = (
        f"{settings['clips']} starts, {settings['seeds']} seeds, {settings['frames']} frames; bars: deviation of seeds"
    )
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(chart(panels, seconds, note))
    partial.replace(path)


def draw_sheet(
    path: Path, starts: Sequence[NDArray[np.uint8]], pictures: Sequence[Mapping[float, NDArray[np.uint8]]]
) -> None:
    """A row for each start: its picture, then those of a model some seconds later."""
    columns = [start_and_later for start_and_later in zip(starts, pictures, strict=True)]
    shown = [picture for start, later in columns for picture in (start, *(later[s] for s in sorted(later)))]
    contact_sheet(np.stack(shown), columns=1 + len(pictures[0])).save(path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _number(value: float | None, deviation: float | None = None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return text if deviation is None or not math.isfinite(deviation) else f"{text} ± {deviation:.2g}"
