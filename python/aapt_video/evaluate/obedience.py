"""Does a prompt decide what is shown? The caption is exchanged on the same start frame, and a classifier looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .fitting import Networks
from .measures import STRIDE, Measures
from .networks import WINDOW
from .players import Player, Progress
from .reference import Reference
from .rollouts import Start, roll
from .words import mean_precision

LATENT_FRAMES = 24
"""Of the videos that are judged, by their second half: what the start frame shows has had time to leave."""


@dataclass(frozen=True)
class Exchange:
    """A start whose caption is exchanged."""

    start: Start
    """With the other caption, and only as long as is judged."""
    own: str
    """The caption of what the start frame shows."""


@dataclass(frozen=True)
class Classifier:
    """How far the classifier can be believed, on real held-out video."""

    precision: float
    """Mean average precision over the words of the vocabulary."""
    guessing: float
    """The same without looking."""
    own_caption: float
    """Share of real clips whose own caption it finds more fitting than the one it would be exchanged for."""


def exchanges(starts: Sequence[Start], networks: Networks, latent_frames: int = LATENT_FRAMES) -> list[Exchange]:
    """For each start the caption of another that differs from its own in the most words; fewer where none differs."""
    found = []
    for start in starts:
        words = networks.vocabulary
        other = max((s.caption for s in starts), key=lambda caption: words.differing(start.caption, caption))
        if words.differing(start.caption, other):
            shorter = replace(start, caption=other, controls=start.controls[:latent_frames])
            found.append(Exchange(shorter, start.caption))
    return found


def judge(reference: Reference, networks: Networks) -> Classifier | None:
    """The classifier on real held-out video; None where no caption differs from another."""
    long_enough = [
        (start, measures)
        for start, measures in zip(reference.starts, reference.measures, strict=True)
        if measures.latent_frames >= LATENT_FRAMES
    ]
    pairs = exchanges([start for start, _ in long_enough], networks)
    if not pairs:
        return None
    of_clip = {start.clip: measures for start, measures in long_enough}
    scores = np.stack([_words(of_clip[pair.start.clip].features, networks) for pair in pairs])
    marks = np.stack([networks.vocabulary.marks(pair.own) for pair in pairs])
    margins = [_margin(score, pair, networks) for score, pair in zip(scores, pairs, strict=True)]
    precision, guessing = mean_precision(scores, marks)
    return Classifier(precision, guessing, float(np.mean([margin < 0 for margin in margins])))


def obedience(
    player: Player,
    starts: Sequence[Start],
    own: Sequence[Measures],
    seed: int,
    networks: Networks,
    root: Path,
    tick: Progress,
) -> dict[str, float]:
    """`obedience`: share of starts on which the other caption, asked for, fits better than when it was not; half is
    what a model that cannot read reaches. `obedience_margin`: by how much, in nats of log-odds per differing word.

    Args:
        own: what was measured of the videos that this player made of these starts, seed and their own captions.
    """
    measured = {start.clip: measures for start, measures in zip(starts, own, strict=True)}
    gains = []
    for pair in exchanges(starts, networks):
        swapped = roll(player, pair.start, seed, networks, (), root, tick).measures
        before, after = (
            _margin(_words(measures.features, networks), pair, networks)
            for measures in (measured[pair.start.clip], swapped)
        )
        gains.append((after - before) / networks.vocabulary.differing(pair.own, pair.start.caption))
    if not gains:
        return {}
    return {"obedience": float(np.mean(np.array(gains) > 0)), "obedience_margin": float(np.mean(gains))}


def _words(features: NDArray[np.float32], networks: Networks) -> NDArray[np.float64]:
    """Log-odds [words] of each word, the mean over the windows of the judged half of a video."""
    last = (4 * LATENT_FRAMES - WINDOW) // STRIDE + 1
    judged = torch.from_numpy(features[last // 2 : last]).to(networks.device)
    with torch.no_grad():
        log_odds: NDArray[np.float64] = networks.look.say(judged).double().mean(0).cpu().numpy()
    return log_odds


def _margin(log_odds: NDArray[np.float64], pair: Exchange, networks: Networks) -> float:
    """By how much the other caption fits better than the own one: log-odds of the words that only one of them has."""
    marks = networks.vocabulary.marks
    return float(log_odds @ (marks(pair.start.caption) - marks(pair.own)))
