"""From measures to figures: of one seed, by ten-second section, and over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .flow import EVERY, moving
from .frechet import Features, distance_to_halves, thinned
from .measures import STRIDE, Measures
from .motion import YAW, turns
from .networks import FEATURES, WINDOW
from .reference import Reference
from .rollouts import Start, sections

Figures = dict[str, float]
NOT_MEASURED = math.nan

_VBENCH_CLIP = 40  # pairs: 5 seconds at 8 pictures per second


def motion_figures(seen: NDArray[np.floating], asked: NDArray[np.floating]) -> Figures:
    """How far the motion that is seen is from the one that was asked for, [n, 3] each.

    `rotation_error` (degrees) and `translation_error` (map units) per latent frame; `direction_agreement`: share of
    the turning latent frames that turn to the right side; `turning`: their number.
    """
    if len(seen) == 0:
        return dict.fromkeys(("rotation_error", "translation_error", "direction_agreement"), NOT_MEASURED) | {
            "turning": 0.0
        }
    turning = turns(asked)
    agree = np.sign(seen[turning, YAW]) == np.sign(asked[turning, YAW])
    return {
        "rotation_error": float(np.abs(seen[:, YAW] - asked[:, YAW]).mean()),
        "translation_error": float(np.linalg.norm(seen[:, :YAW] - asked[:, :YAW], axis=1).mean()),
        "direction_agreement": float(agree.mean()) if len(agree) else NOT_MEASURED,
        "turning": float(turning.sum()),
    }


def picture_figures(
    measures: Sequence[Measures], starts: Sequence[Start], reference: Reference, part: slice | None = None
) -> Figures:
    """What needs no features, of some videos together, or of one section of them.

    `sharpness`: edge energy over the real one's. `flicker`: mean absolute difference, 0 to 255, of neighbouring frames
    between which the camera was asked to stand still. `dynamic_degree`: motion over the real one's. `dynamic_share`:
    share of stretches of five seconds that VBench would call dynamic.

    Args:
        part: latent frames; None: all.
    """
    low, high = (0, max(m.latent_frames for m in measures)) if part is None else (part.start, part.stop)
    edges = np.concatenate([m.edges[low:high] for m in measures])
    still = [m.change[4 * low : 4 * high][s.rest[4 * low : 4 * high]] for m, s in zip(measures, starts, strict=True)]
    flows = [m.flow[4 * low // EVERY : 4 * high // EVERY] for m in measures]
    stretches = [f[i : i + _VBENCH_CLIP] for f in flows for i in range(0, len(f), _VBENCH_CLIP)]
    whole = [s for s in stretches if len(s) >= _VBENCH_CLIP // 2] or stretches
    return {
        "sharpness": float(edges.mean()) / reference.edges,
        "flicker": _mean(np.concatenate(still)),
        "dynamic_degree": _mean(np.concatenate(flows)) / max(reference.flow, 1e-6),
        "dynamic_share": float(np.mean([moving(s) for s in whole])),
    }


def control_figures(measures: Sequence[Measures], starts: Sequence[Start], part: slice | None = None) -> Figures:
    """`motion_figures` of some videos together, or of one section of them."""
    part = part or slice(None)
    seen = np.concatenate([m.motion[part] for m in measures])
    return motion_figures(seen, np.concatenate([start.motion[part] for start in starts])[: len(seen)])


def seed_figures(
    measures: Sequence[Measures], starts: Sequence[Start], reference: Reference
) -> tuple[Figures, list[Figures]]:
    """Figures of all videos of one seed, and the same by section."""
    whole: Figures = {
        "frechet": _distance(np.concatenate([m.features for m in measures]), reference, reference.windows),
        "imagenet": imagenet_distance(measures, reference),
        **control_figures(measures, starts),
        **picture_figures(measures, starts, reference),
    }
    by_section = []
    parts = list(sections(measures[0].latent_frames))
    count = section_windows(measures[0].latent_frames, len(measures))
    for part in parts:
        by_section.append(
            {
                "seconds_from": part.start / 6,
                "seconds_to": part.stop / 6,
                "frechet": _distance(section_features(measures, part), reference, count),
                **control_figures(measures, starts, part),
                **picture_figures(measures, starts, reference, part),
            }
        )
    first, last = by_section[0]["frechet"], by_section[-1]["frechet"]
    drift = last / first if len(parts) > 1 else NOT_MEASURED
    return whole | {"frechet_first_section": first, "frechet_last_section": last, "drift": drift}, by_section


def without_control(figures: Figures) -> Figures:
    """The figures of a model that nothing steers: what depends on controls is not measured."""
    steered = ("rotation_error", "translation_error", "direction_agreement", "flicker")
    return figures | {name: NOT_MEASURED for name in steered if name in figures}


def imagenet_distance(measures: Sequence[Measures], reference: Reference) -> float:
    """Fréchet distance of single pictures to real ones, where ImageNet features were asked for."""
    features, halves = np.concatenate([m.imagenet for m in measures]), reference.halves("imagenet")
    if min(len(features), *map(len, halves)) <= features.shape[1]:
        return NOT_MEASURED
    return distance_to_halves(thinned(features, reference.windows), halves)


def section_features(measures: Sequence[Measures], part: slice) -> Features:
    """Features of the windows that lie within a section."""
    each = 4 // STRIDE
    stop = (part.stop - WINDOW // 4) * each + 1
    return np.concatenate([m.features[part.start * each : max(stop, 0)] for m in measures])


def section_windows(latent_frames: int, videos: int) -> int:
    """Windows that every section has in all videos: distances of unequal counts are not comparable."""
    shortest = int(min(part.stop - part.start for part in sections(latent_frames)))
    return max(shortest - WINDOW // 4 + 1, 0) * (4 // STRIDE) * videos


def spread(values: Sequence[Figures]) -> dict[str, Any]:
    """Mean and deviation (n - 1) of each figure over seeds; a deviation of one seed is not a number."""

    def over(function: Callable[[list[float]], float]) -> Figures:
        return {name: function([value[name] for value in values]) for name in values[0]}

    return {
        "mean": over(lambda each: float(np.mean(each))),
        "deviation": over(lambda each: float(np.std(each, ddof=1)) if len(each) > 1 else NOT_MEASURED),
    }


def _distance(features: Features, reference: Reference, windows: int) -> float:
    if min(len(features), windows, reference.windows) <= FEATURES:
        return NOT_MEASURED
    return distance_to_halves(thinned(features, min(windows, reference.windows)), reference.halves())


def _mean(values: NDArray[np.floating]) -> float:
    return float(values.mean()) if len(values) else NOT_MEASURED
