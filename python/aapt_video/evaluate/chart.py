"""Figures over time as an SVG: a panel for each figure, a line for each model, a dashed line for real video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = ("#4c78a8", "#e45756", "#54a24b", "#f58518", "#b279a2", "#9d755d")
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 300, 170, 52, 48, 34  # pixels: of a panel, and around it
_COLUMNS = 3


@dataclass(frozen=True)
class Line:
    """A model in a panel."""

    name: str
    values: tuple[float, ...]
    """One for each section; a value that is not a number is left out."""
    deviations: tuple[float, ...]
    """Over seeds; drawn as a bar where it is a number."""


@dataclass(frozen=True)
class Panel:
    """A figure over time."""

    title: str
    lines: tuple[Line, ...]
    real: float
    """The dashed line; none where it is not a number."""


def chart(panels: Sequence[Panel], seconds: Sequence[float], note: str = "") -> str:
    """The picture as SVG text.

    Args:
        seconds: middle of each section, from the start of the video.
        note: stands at the bottom.
    """
    rows = -(-len(panels) // _COLUMNS)
    columns = min(_COLUMNS, len(panels))
    width = _GAP + columns * (_LEFT + _WIDTH + _GAP)
    height = _TOP + rows * (_HEIGHT + _TOP) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="11"><rect width="100%" height="100%" fill="white"/>'
    ]
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    for i, name in enumerate(names):
        x = _LEFT + 170 * i
        parts.append(f'<rect x="{x}" y="12" width="14" height="4" fill="{_colour(i)}"/>')
        parts.append(f'<text x="{x + 20}" y="18">{escape(name)}</text>')
    for i, panel in enumerate(panels):
        left = _GAP + (i % _COLUMNS) * (_LEFT + _WIDTH + _GAP) + _LEFT
        top = _TOP + (i // _COLUMNS) * (_HEIGHT + _TOP)
        parts += _panel(panel, seconds, names, left, top)
    parts.append(f'<text x="{_LEFT}" y="{height - 12}" fill="#666">{escape(note)}</text></svg>')
    return "\n".join(parts) + "\n"


def _panel(panel: Panel, seconds: Sequence[float], names: list[str], left: float, top: float) -> list[str]:
    shown = [value for line in panel.lines for value in line.values if math.isfinite(value)]
    shown += [panel.real] if math.isfinite(panel.real) else []
    parts = [f'<text x="{left}" y="{top - 8}" font-weight="bold">{escape(panel.title)}</text>']
    if not shown:
        return [*parts, f'<text x="{left}" y="{top + 20}" fill="#666">not measured</text>']
    highest = max(*shown, 1e-9) * 1.1
    last = max(seconds) * 1.05

    def x(second: float) -> float:
        return left + second / last * _WIDTH

    def y(value: float) -> float:
        return top + _HEIGHT * (1 - max(value, 0) / highest)

    parts.append(f'<path d="M{left} {top}V{top + _HEIGHT}H{left + _WIDTH}" fill="none" stroke="#888"/>')
    for share in (0, 0.5, 1):
        value = highest * share
        parts.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for second in seconds:
        parts.append(f'<text x="{x(second):.1f}" y="{top + _HEIGHT + 14}" text-anchor="middle">{second:.3g} s</text>')
    if math.isfinite(panel.real):
        parts.append(
            f'<path d="M{left} {y(panel.real):.1f}h{_WIDTH}" stroke="#444" stroke-dasharray="5 4"/>'
            f'<text x="{left + _WIDTH}" y="{y(panel.real) - 4:.1f}" text-anchor="end" fill="#444">real</text>'
        )
    for line in panel.lines:
        colour = _colour(names.index(line.name))
        points = [(x(s), y(v)) for s, v in zip(seconds, line.values, strict=True) if math.isfinite(v)]
        joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{colour}"/>' for a, b in points]
        for second, value, off in zip(seconds, line.values, line.deviations, strict=True):
            if math.isfinite(value) and math.isfinite(off):
                parts.append(
                    f'<path d="M{x(second):.1f} {y(value - off):.1f}V{y(value + off):.1f}" stroke="{colour}"/>'
                )
    return parts


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]
