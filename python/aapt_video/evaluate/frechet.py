"""The Fréchet distance between two clouds of features (Heusel et al., 1706.08500, equation 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]


def frechet(a: Features, b: Features) -> float:
    """Distance between the Gaussians that fit two sets of features.

    |mean_a - mean_b|² + trace(cov_a + cov_b - 2 (cov_a cov_b)^1/2), in float64.

    Args:
        a, b: [n, d] and [m, d].

    Raises:
        ValueError: a set has no more features than dimensions, so that its covariance means nothing.
    """
    for name, features in (("a", a), ("b", b)):
        if len(features) <= features.shape[1]:
            raise ValueError(
                f"{name} has {len(features)} features of {features.shape[1]} dimensions; a covariance needs more than "
                "that: measure longer clips, or more of them"
            )
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # (cov_a cov_b)^1/2 has the eigenvalues of (root_a cov_b root_a)^1/2, and that product is symmetric.
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    both = np.sqrt(np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(0)).sum()
    distance = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * both
    return float(max(distance, 0.0))


def thinned(features: Features, count: int) -> Features:
    """At most `count` of some features, evenly spread over them: distances of unequal counts are not comparable."""
    if len(features) <= count:
        return features
    spread: Features = features[np.linspace(0, len(features) - 1, count).round().astype(int)]
    return spread


def distance_to_halves(features: Features, halves: tuple[Features, Features]) -> float:
    """Mean distance to each of two sets: every distance of an evaluation is to references of one size."""
    return (frechet(features, halves[0]) + frechet(features, halves[1])) / 2
