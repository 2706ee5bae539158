"""Cameras and poses: how a control becomes channels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from aapt_video.model.conditions import (
    Camera,
    Plain,
    Pose,
    condition_from_dict,
    condition_to_dict,
    fourth_root,
)

finite = st.floats(-2, 2)


def rigid(axis: NDArray[np.float64], angle: float, place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rodrigues' formula by its exponential series: independent of the code under test."""
    axis = axis / max(np.linalg.norm(axis), 1e-9)
    cross = angle * np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn, term = np.eye(3), np.eye(3)
    for n in range(1, 40):
        term = term @ cross / n
        turn = turn + term
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = turn, place
    return motion


@given(st.tuples(finite, finite, finite), st.floats(0, 3.1), st.tuples(finite, finite, finite))
def test_four_fourth_roots_make_the_motion(axis: tuple, angle: float, place: tuple) -> None:
    motion = rigid(np.array(axis) + 1e-3, angle, np.array(place))
    root = fourth_root(motion)
    assert np.allclose(np.linalg.matrix_power(root, 4), motion, atol=1e-8)
    quarter = np.arccos(np.clip((np.trace(root[:3, :3]) - 1) / 2, -1, 1))
    assert quarter == pytest.approx(angle / 4, abs=1e-6)


def test_half_a_turn_has_no_shorter_way() -> None:
    with pytest.raises(ValueError, match="half a turn"):
        Camera().split(rigid(np.array([0.0, 1, 0]), np.pi, np.zeros(3)))


def test_a_still_camera_has_nothing_to_say() -> None:
    camera = Camera(field_of_view=90)
    packed = camera.pack(camera.still(), 12, 16)
    assert packed.shape == (24, 12, 16) and packed.dtype == np.float32 and (packed == 0).all()


def test_a_turned_camera_says_how_far_each_ray_has_turned() -> None:
    turn = rigid(np.array([0.0, 1, 0]), 0.1, np.zeros(3))
    packed = Camera(field_of_view=90).pack(np.tile(turn, (4, 1, 1)), 12, 16).reshape(4, 6, 12, 16)
    # 90 degrees: the rays through the outer columns are half a pixel inside 45 degrees; pixels are square.
    for row, column, x, y in ((0, 0, -15 / 16, -11 / 16), (11, 15, 15 / 16, 11 / 16), (5, 8, 1 / 16, -1 / 16)):
        ray = np.array([x, y, 1]) / np.linalg.norm([x, y, 1])
        expected = turn[:3, :3] @ ray - ray
        np.testing.assert_allclose(packed[2, 3:, row, column], expected, atol=1e-6)


def test_turning_right_turns_the_rays_right_and_walking_moves_the_origin() -> None:
    camera = Camera()
    turn = rigid(np.array([0.0, 1, 0]), 0.2, np.array([0, 0, 0.5]))  # y points down: this is to the right
    frames = camera.still()
    frames[2] = turn
    packed = camera.pack(frames, 4, 6).reshape(4, 6, 4, 6)
    assert (packed[2, 3] > packed[1, 3]).all()
    assert np.allclose(packed[2, :3, 0, 0], [0, 0, 0.5]) and (packed[[0, 1, 3], :3] == 0).all()


def test_inputs_are_scaled_to_the_training_data() -> None:
    camera = Camera(mean=(0, 0, 1, 0, 0, 0), deviation=(1, 1, 2, 1, 1, 0.5))
    frames = np.tile(rigid(np.array([0.0, 1, 0]), 0.0, np.array([0, 0, 5.0])), (4, 1, 1))
    plain, scaled = (c.pack(frames, 4, 6).reshape(4, 6, 4, 6) for c in (Camera(), camera))
    assert np.allclose(scaled[:, 2], 2) and np.allclose(scaled[:, 5], plain[:, 5] * 2)


def test_a_clip_packs_as_its_frames_do() -> None:
    rng = np.random.default_rng(0)
    for condition, controls in (
        (Camera(), np.stack([np.stack([rigid(rng.normal(size=3), 0.3, rng.normal(size=3))] * 4) for _ in range(5)])),
        (Pose(joints=3), rng.random((5, 4, 3, 3))),
    ):
        whole = condition.pack(controls, 4, 6)
        assert whole.shape == (5, condition.channels, 4, 6)
        for i in range(5):
            assert np.array_equal(whole[i], condition.pack(controls[i], 4, 6))


def test_a_pose_is_a_spot_where_the_joint_is() -> None:
    pose = Pose(joints=2, spread=0.5)
    control = np.array([[4.5 / 16, 2.5 / 12], [0.9, 0.9]])  # the first joint is in the middle of pixel (2, 4)
    packed = pose.pack(pose.split(control), 12, 16)
    assert packed.shape == (8, 12, 16)
    assert packed[0].max() == packed[0, 2, 4] == 1
    assert np.array_equal(packed[0], packed[2]) and np.array_equal(packed[1], packed[7])
    hidden = np.concatenate((control, [[1], [0]]), 1)
    assert (pose.pack(pose.split(hidden), 12, 16)[1::2] == 0).all()
    assert (pose.pack(pose.still(), 12, 16) == 0).all()


def test_a_body_rests_where_the_model_says_and_else_in_a_ring() -> None:
    assert np.array_equal(Pose(2, rest=((0.5, 0.25), (0.5, 0.75))).resting(), [[0.5, 0.25], [0.5, 0.75]])
    ring = Pose(6).resting()
    assert ring.shape == (6, 2) and np.allclose(ring.mean(0), 0.5) and np.unique(ring.round(6), axis=0).shape == (6, 2)
    with pytest.raises(ValueError, match="lines"):
        Pose(2, lines=((0, 2),))
    with pytest.raises(ValueError, match="rest has 1"):
        Pose(2, rest=((0.5, 0.5),))


@pytest.mark.parametrize(
    "control", [None, np.zeros((3, 2)), np.zeros((2, 4)), np.zeros((3, 2, 2)), np.full((2, 2), np.nan)]
)
def test_what_is_no_pose_is_refused(control: NDArray[np.float64] | None) -> None:
    with pytest.raises(ValueError, match="control"):
        Pose(joints=2).split(control)


@pytest.mark.parametrize("motion", [np.diag([1.0, 1, -1, 1]), np.diag([2.0, 1, 1, 1]), np.ones((4, 4))])
def test_what_is_no_rigid_transform_is_refused(motion: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="rigid"):
        Camera().split(motion)


def test_conditions_are_saved_by_name() -> None:
    skeleton = Pose(2, lines=((0, 1),), rest=((0.5, 0.25), (0.5, 0.75)))
    for condition in (Camera(60, mean=(1,) * 6), Pose(5, 1.5), skeleton, Plain()):
        assert condition_from_dict(json.loads(json.dumps(condition_to_dict(condition)))) == condition
    with pytest.raises(ValueError, match="camera, pose, none"):
        condition_from_dict({"name": "keyboard"})
