"""What steered, and what the motion network sees of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aapt_video.evaluate.figures import motion_figures
from aapt_video.evaluate.measures import motions
from aapt_video.evaluate.motion import at_rest, latent_motion
from aapt_video.evaluate.networks import MotionNet
from aapt_video.evaluate.rollouts import real_start

from .made import camera_controls


def test_a_latent_frames_motion_is_what_its_four_controls_add_up_to():
    ahead = camera_controls(np.tile([3.0, 0, 0, 0, 0], (4, 1)))
    aside = camera_controls(np.tile([0, 2.0, 0, 0, 0], (4, 1)))
    left = camera_controls(np.tile([0, 0, 0, 1.5, 0], (4, 1)))
    assert latent_motion(ahead)[0] == pytest.approx([12, 0, 0], abs=1e-6)
    assert latent_motion(aside)[0] == pytest.approx([0, 8, 0], abs=1e-6)
    assert latent_motion(left)[0] == pytest.approx([0, 0, 6], abs=1e-6)


def test_rest_is_told_frame_by_frame():
    motion = np.zeros((8, 5))
    motion[3, 0], motion[6, 3] = 1.0, -0.5
    assert at_rest(camera_controls(motion)).tolist() == [True, True, True, False, True, True, False, True]


def test_a_turn_to_the_wrong_side_is_no_agreement_and_slow_turns_are_not_asked():
    asked = np.array([[0, 0, 6.0], [0, 0, -6], [0, 0, 1], [0, 0, 3]])
    seen = asked * [1, 1, -1]
    seen[3] = asked[3]
    figures = motion_figures(seen, asked)
    assert figures["turning"] == 3
    assert figures["direction_agreement"] == pytest.approx(1 / 3)
    assert figures["rotation_error"] == pytest.approx((12 + 12 + 2 + 0) / 4)
    assert motion_figures(asked, asked)["direction_agreement"] == 1


def test_translation_error_is_a_length():
    assert motion_figures(np.array([[3.0, 0, 0]]), np.array([[0, 4.0, 0]]))["translation_error"] == pytest.approx(5)


def test_the_motion_network_answers_a_mirrored_picture_by_the_mirrored_motion():
    net = MotionNet(32, 48).eval()
    pictures = torch.randn(2, 5, 32, 48)
    mirrored = torch.tensor([1.0, -1, -1])
    assert torch.allclose(net.read(pictures.flip(-1)), net.read(pictures) * mirrored, atol=1e-5)


def test_the_motion_network_reads_real_turns_and_reports_a_clip_that_turns_the_wrong_way(held_out, networks):
    right, wrong = [], []
    for clip in range(4):
        start, video = real_start(held_out, clip)
        right.append(motion_figures(motions(video, networks), start.motion)["direction_agreement"])
        wrong.append(motion_figures(motions(video.flip(2), networks), start.motion)["direction_agreement"])
    assert np.mean(right) > 0.9
    assert np.mean(wrong) < 0.1
