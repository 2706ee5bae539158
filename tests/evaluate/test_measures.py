"""Flow, flicker, sharpness and dynamic degree of one video."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from aapt_video.evaluate.figures import picture_figures
from aapt_video.evaluate.flow import flow, largest, moving
from aapt_video.evaluate.lessons import blurred
from aapt_video.evaluate.measures import Measures, flows, measure
from aapt_video.evaluate.reference import soften
from aapt_video.evaluate.rollouts import real_start

from .made import camera_controls, made

CPU = torch.device("cpu")


def texture(seed=0, height=64, width=96):
    noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return blurred(noise, 3.0) * 4


@pytest.mark.parametrize(("across", "down"), [(0, 0), (3, 0), (-2, 1), (6, -2)])
def test_flow_finds_how_far_a_picture_was_shifted(across, down):
    picture = texture()
    found = flow(picture, picture.roll((down, across), (2, 3)))[0, :, 8:-8, 8:-8]
    assert found.flatten(1).median(1).values.tolist() == pytest.approx([across, down], abs=0.3)


def test_the_largest_flow_is_that_of_the_fastest_twentieth():
    still = torch.zeros(1, 2, 10, 20)
    still[0, 0, 0, :10] = 5.0
    assert largest(still).tolist() == [5.0]
    still[0, 0, 0, :5] = 0.0
    assert largest(still).tolist() == [2.5]


def test_a_clip_is_dynamic_when_a_quarter_of_its_pairs_move():
    assert moving(np.array([0.03] * 10 + [0.0] * 30))
    assert not moving(np.array([0.03] * 9 + [0.0] * 31))
    assert not moving(np.full(40, 0.023))


def test_a_constant_video_does_not_flicker_and_is_not_dynamic(held_out, networks):
    _, video = real_start(held_out, 0)
    frozen = measure(video[:1].expand(len(video), -1, -1, -1).contiguous(), networks)
    assert frozen.change.max() == 0
    assert frozen.flow.max() < 1e-3
    assert np.abs(frozen.motion).max() < 3


def test_flicker_counts_only_frames_that_were_asked_to_stand_still(reference):
    start = reference.starts[0]
    motion = np.zeros((240, 5))
    motion[100:, 0] = 3.0
    start = replace(start, controls=camera_controls(motion))
    video = made()
    video.change[:100], video.change[100:] = 2.0, 50.0
    assert picture_figures([video], [start], reference)["flicker"] == pytest.approx(2.0)
    assert math.isnan(picture_figures([video], [start], reference, slice(30, 60))["flicker"])


def test_sharpness_and_dynamic_degree_are_one_for_real_video_and_less_behind_a_blur(reference, networks, held_out):
    whole = picture_figures(reference.measures, reference.starts, reference)
    assert whole["sharpness"] == pytest.approx(1)
    assert whole["dynamic_degree"] == pytest.approx(1)
    _, video = real_start(held_out, 1)
    soft = measure(soften(video), networks)
    assert soft.edges.mean() < 0.6 * reference.measures[1].edges.mean()


def test_flow_of_a_slowed_video_is_smaller(held_out):
    _, video = real_start(held_out, 0)
    slow = video[:80].repeat_interleave(2, 0)
    assert flows(slow, CPU).mean() < 0.8 * flows(video, CPU).mean()


def test_measures_come_back_from_the_file(tmp_path):
    before = made(edges=2.0, change=3.0)
    before.save(tmp_path / "m.npz")
    after = Measures.load(tmp_path / "m.npz")
    assert after.latent_frames == 60 and np.array_equal(after.change, before.change)


def test_a_video_of_another_length_is_refused(networks):
    with pytest.raises(ValueError, match=r"video has 20 frames; it must be 1 \+ a multiple of 4"):
        measure(torch.zeros(20, 32, 48, 3, dtype=torch.uint8), networks)
