"""The Fréchet distance in closed form, and between real and spoilt video."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from aapt_video.evaluate.figures import seed_figures
from aapt_video.evaluate.frechet import distance_to_halves, frechet, thinned
from aapt_video.evaluate.measures import features, measure
from aapt_video.evaluate.networks import FEATURES, WINDOW, prepared
from aapt_video.evaluate.rollouts import real_start

from .made import camera_controls, made


def gaussian(mean, deviation, seed, count=4000):
    return np.asarray(mean) + np.asarray(deviation) * np.random.default_rng(seed).standard_normal((count, len(mean)))


def test_the_distance_of_two_gaussians_is_the_closed_form():
    """Independent dimensions: squared distance of the means plus that of the deviations."""
    a, b = gaussian([0, 0, 0], [1, 2, 0.5], 0, 200_000), gaussian([1, 0, -2], [1, 1, 1.5], 1, 200_000)
    assert frechet(a, b) == pytest.approx(1 + 4 + 0 + 1 + 1, rel=0.02)


def test_the_distance_sees_how_dimensions_hang_together():
    """Equal means and variances, opposite correlations c: 4 - 4 sqrt(1 - c²) in two dimensions."""
    x = gaussian([0, 0], [1, 1], 2, 200_000)
    c = 0.8
    mix = np.array([[1, 0], [c, math.sqrt(1 - c * c)]])
    assert frechet(x @ mix.T, x @ (mix * [[1], [-1]]).T) == pytest.approx(4 - 4 * math.sqrt(1 - c * c), rel=0.02)


def test_the_distance_is_symmetric_and_zero_to_itself():
    a, b = gaussian([0, 1], [1, 1], 3), gaussian([0, 0], [2, 1], 4)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a))


def test_too_few_features_for_a_covariance_are_refused():
    with pytest.raises(ValueError, match=r"3 features of 3 dimensions.*measure longer"):
        frechet(np.zeros((3, 3)), np.zeros((9, 3)))


def test_thinning_keeps_both_ends_and_the_count():
    kept = thinned(np.arange(100.0)[:, None], 7)
    assert len(kept) == 7 and kept[0] == 0 and kept[-1] == 99


def test_real_video_is_near_real_video_and_blurred_or_shuffled_video_is_not(reference):
    """Measured: 4 and 1.15 times the floor, after 60 updates in a world of few rooms, where hardly anything moves."""
    floor = reference.floor()
    assert reference.windows > 2 * FEATURES
    assert reference.control("blurred") > 1.5 * floor
    assert reference.control("shuffled") > 1.05 * floor


def test_a_fading_clip_drifts_and_a_real_one_does_not(reference, networks, held_out):
    fading, real, begun = [], [], []
    for clip in range(24):
        start, video = real_start(held_out, clip)
        shade = torch.linspace(1, 0.1, len(video))[:, None, None, None]
        fading.append(measure((video * shade).to(torch.uint8), networks))
        real.append(reference.measures[clip])
        begun.append(start)
    # Sections of ten seconds are longer than these clips: the halves of each stand for them.
    first, last = slice(0, 12), slice(12, 24)

    def ratio(measures):
        distances = [
            distance_to_halves(np.concatenate([m.features[s.start : s.stop - 3] for m in measures]), reference.halves())
            for s in (first, last)
        ]
        return distances[1] / distances[0]

    assert ratio(fading) > 2
    assert ratio(real) < 1.5


def test_a_seeds_figures_have_a_section_for_every_ten_seconds(reference):
    videos = [made(T=180) for _ in range(3)]
    begun = [replace(reference.starts[0], controls=camera_controls(np.ones((720, 5)))) for _ in videos]
    whole, parts = seed_figures(videos, begun, reference)
    assert [(part["seconds_from"], part["seconds_to"]) for part in parts] == [(0, 10), (10, 20), (20, 30)]
    assert whole["frechet_last_section"] == parts[-1]["frechet"] > 0
    assert whole["drift"] == pytest.approx(1)


def test_features_depend_on_the_order_of_frames(networks, held_out):
    _, video = real_start(held_out, 0)
    assert not np.allclose(features(video[:WINDOW], networks), features(video[:WINDOW].flip(0), networks), atol=1e-2)


def test_larger_pictures_are_averaged_down_before_they_are_measured():
    assert prepared(torch.zeros(2, 416, 736, 3, dtype=torch.uint8)).shape == (2, 3, 80, 144)
    assert prepared(torch.zeros(2, 96, 128, 3, dtype=torch.uint8)).shape == (2, 3, 96, 128)
