"""Camera paths: relative motion, its inverse, rigid transforms, projection."""

import numpy as np
import pytest

from aapt_video.worlds.camera import camera_to_world, integrate_motion, project, relative_motion, relative_se3


def random_path(seed: int, frames: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    path = np.zeros((frames, 6))
    path[:, :3] = np.cumsum(rng.normal(0.0, 3.0, (frames, 3)), axis=0) + rng.uniform(-4000, 4000, 3)
    path[:, 3] = np.cumsum(rng.normal(0.0, 40.0, frames)) % 360.0  # crosses 0 = 360 many times
    path[:, 4] = rng.uniform(-30, 30, frames)
    path[:, 5] = 90.0
    return path


def test_integrating_relative_motion_gives_the_path_back(seed: int) -> None:
    path = random_path(seed)
    again = integrate_motion(path[0], relative_motion(path))
    assert np.abs(again[:, :3] - path[:, :3]).max() < 0.02  # float32 motions, summed over 200 frames
    assert np.abs((again[:, 3] - path[:, 3] + 180) % 360 - 180).max() < 0.01
    assert np.abs(again[:, 4:] - path[:, 4:]).max() < 1e-3


@pytest.mark.parametrize("angle", [0.0, 90.0, 217.0])
def test_motion_is_measured_in_the_frame_of_the_previous_camera(angle: float) -> None:
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    ahead_and_right = [3 * c + 2 * s, 3 * s - 2 * c, 1.0, angle + 5.0, -2.0, 90.0]
    motion = relative_motion(np.array([[0, 0, 0, angle, 0, 90.0], ahead_and_right]))
    assert motion[0].tolist() == [0.0] * 5
    assert motion[1] == pytest.approx([3.0, 2.0, 1.0, 5.0, -2.0], abs=1e-4)


def test_a_turn_through_zero_is_short() -> None:
    path = np.array([[0, 0, 0, 359.0, 0, 90.0], [0, 0, 0, 1.0, 0, 90.0]])
    assert relative_motion(path)[1, 3] == pytest.approx(2.0)


def test_chaining_relative_transforms_gives_the_absolute_ones_back(seed: int) -> None:
    path = random_path(seed, 30)
    pose = camera_to_world(path)
    chained = pose[0]
    for step, expected in zip(relative_se3(path)[1:], pose[1:], strict=True):
        chained = chained @ step
        assert np.abs(chained - expected).max() < 1e-6


def test_camera_axes_are_right_down_forward() -> None:
    pose = camera_to_world(np.array([[10.0, 20.0, 30.0, 90.0, 0.0, 90.0]]))[0]
    assert pose[:3, 0] == pytest.approx([1, 0, 0])  # looking north, east is on the right
    assert pose[:3, 1] == pytest.approx([0, 0, -1])
    assert pose[:3, 2] == pytest.approx([0, 1, 0])
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)


def test_a_pitched_camera_looks_up() -> None:
    pose = camera_to_world(np.array([[0.0, 0.0, 0.0, 0.0, 30.0, 90.0]]))[0]
    assert pose[2, 2] == pytest.approx(0.5)
    assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3))


def test_a_point_at_the_edge_of_the_field_of_view_lies_at_the_edge_of_the_picture() -> None:
    camera = np.array([0.0, 0.0, 41.0, 0.0, 0.0, 90.0])
    column, row, depth = project(camera, np.array([100.0, -100.0, 41.0]), (128, 96))
    assert (column, row, depth) == pytest.approx((128.0, 48.0, 100.0))


def test_a_record_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"camera has shape \(4, 5\)"):
        relative_motion(np.zeros((4, 5)))
