"""Which words of the captions can be seen: the vocabulary of the classifier that judges obedience to a prompt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aapt_video.worlds.dataset import VideoDataset

_NOTHING = "a an and at by for from in into its of on or over some the their to under with"  # to be seen
_MOST = 48  # words
_RARE, _COMMON = 0.01, 0.95  # shares of the frames: others cannot be learnt, or tell nothing


@dataclass(frozen=True)
class Vocabulary:
    """Words in a fixed order."""

    words: tuple[str, ...]
    shares: tuple[float, ...]
    """Of the frames of the training data that carry each word in their caption."""

    def marks(self, caption: str) -> NDArray[np.float32]:
        """[words]: 1 for those in the caption, else 0."""
        present = set(_split(caption))
        return np.array([word in present for word in self.words], np.float32)

    def differing(self, one: str, other: str) -> int:
        """Number of words that stand in one of two captions only."""
        return int(np.abs(self.marks(one) - self.marks(other)).sum())


def vocabulary(data: VideoDataset) -> Vocabulary:
    """The commonest words of a dataset's captions; empty where it has none."""
    counts: Counter[str] = Counter()
    for clip in data.clips:
        for caption in clip.captions:
            for word in set(_split(caption.text)):
                counts[word] += caption.stop - caption.start
    shares = {word: count / data.frames for word, count in counts.items()}
    chosen = [word for word, share in shares.items() if _RARE <= share <= _COMMON]
    chosen = sorted(chosen, key=lambda word: (-shares[word], word))[:_MOST]
    return Vocabulary(tuple(chosen), tuple(shares[word] for word in chosen))


def _split(caption: str) -> list[str]:
    return [word for word in re.findall(r"\w+", caption.lower()) if word not in _NOTHING.split()]


def average_precision(scores: NDArray[np.floating], marks: NDArray[np.floating]) -> float:
    """Area under precision over recall of one word, [n] each: 1 is perfect, the word's share is guessing."""
    order = np.argsort(-scores, kind="stable")
    hits = marks[order]
    if not hits.any():
        return float("nan")
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())


def mean_precision(scores: NDArray[np.floating], marks: NDArray[np.floating]) -> tuple[float, float]:
    """Mean average precision over the words that occur in marks [n, words], and what guessing gives."""
    present: Sequence[int] = [i for i in range(marks.shape[1]) if marks[:, i].any()]
    if not present:
        return float("nan"), float("nan")
    found: Iterable[float] = (average_precision(scores[:, i], marks[:, i]) for i in present)
    return float(np.mean(list(found))), float(marks[:, list(present)].mean())
