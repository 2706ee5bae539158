"""Ways through a world, in words and by keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aapt_video.serve.path import follow, parse_path
from aapt_video.serve.steering import OwnSpeeds, Rig, Wish, motion
from aapt_video.stream import Speeds
from aapt_video.worlds.camera import camera_to_world, integrate_motion, relative_se3

FPS = 24.0
SPEEDS = Speeds()


def end_of(words: str) -> np.ndarray:
    """[4, 4]: where a way leads, in the axes of its first camera."""
    pose = np.eye(4)
    for step in follow(words, SPEEDS, FPS).reshape(-1, 4, 4):
        pose = pose @ step
    return pose


def turned_left(pose: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(-pose[0, 2], pose[2, 2])))


def test_a_motion_is_the_one_that_the_training_data_was_labelled_with() -> None:
    random = np.random.default_rng(0)
    asked = random.normal(size=(6, 5)) * [3, 3, 3, 10, 10]
    asked[0] = 0
    path = integrate_motion(np.array([1.0, 2, 3, 40, 5, 90]), asked)
    expected = relative_se3(path)
    pitch = path[:, 4]
    pitch = (pitch + 180) % 360 - 180
    for i in range(1, 6):
        forward, right, up, turn, _ = asked[i]
        assert np.allclose(motion(forward, right, up, turn, pitch[i - 1], pitch[i]), expected[i])
    assert camera_to_world(path).shape == (6, 4, 4)


@pytest.mark.parametrize(
    ("words", "degrees"),
    [("left 90 over 3s", 90), ("right 45", -45), ("LEFT 30 DEGREES over 1s", 30), ("left 10° 2 s", 10)],
)
def test_a_turn_is_as_far_as_it_says(words: str, degrees: float) -> None:
    assert turned_left(end_of(words)) == pytest.approx(degrees)


def test_a_square_comes_back_to_where_it_began() -> None:
    side = "forward 100 over 2s, left 90 over 1s"
    assert np.allclose(end_of(", ".join([side] * 4)), np.eye(4), atol=1e-9)
    assert np.allclose(
        end_of("forward 2s\nback 2s; strafe left 1s, strafe right 1s, rise 5, sink 5"), np.eye(4), atol=1e-9
    )


def test_times_are_kept_and_the_last_step_is_filled_with_rest() -> None:
    steps = follow("wait 1s, forward 0.3s", SPEEDS, FPS)  # 24 + 7 frames
    assert steps.shape == (8, 4, 4, 4)
    assert np.array_equal(steps[:6].reshape(-1, 4, 4), np.tile(np.eye(4), (24, 1, 1)))
    assert np.array_equal(steps[-1, -1], np.eye(4))


def test_actions_of_one_piece_happen_together() -> None:
    both = follow("forward 2s and left 30", SPEEDS, FPS).reshape(-1, 4, 4)
    assert both[4, 2, 3] > 0 and both[4, 2, 0] > 0


@given(st.sampled_from(["forward 3s", "forward 200", "strafe left 1s", "left 90", "right 3s", "back 40"]))
def test_a_way_without_a_hurry_is_within_the_speeds(words: str) -> None:
    for step in follow(words, SPEEDS, FPS).reshape(-1, 4, 4):
        assert np.linalg.norm(step[:3, 3]) <= SPEEDS.move * 1.05
        assert abs(turned_left(step)) <= SPEEDS.turn * 1.05


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "empty"),
        (" , ,", "empty"),
        ("jump 2s", "'jump 2s' is no camera motion"),
        ("forward", "neither how far nor how long"),
        ("wait", "neither"),
        ("wait 5", "how long"),
        ("forward 0s", "more than 0"),
        ("forward -2s", "no camera motion"),
        ("forward 9999s", "at most 3600"),
        ("left 99999999", "longer than"),
        ("forward 2s and", "no camera motion"),
        ("vorwärts 2s", "no camera motion"),
    ],
)
def test_what_is_no_way_is_quoted_with_a_remedy(words: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        follow(words, SPEEDS, FPS)


def test_a_camera_that_only_turns_is_not_asked_to_walk() -> None:
    turning = Speeds(move=0)
    assert follow("left 90", turning, FPS).shape[0] > 1
    with pytest.raises(ValueError, match="only turns"):
        follow("forward 2s", turning, FPS)
    rig = Rig(turning)
    assert np.allclose(rig.step(Wish(forward=1, turn=1))[:, :3, 3], 0)


def test_speeds_that_are_given_replace_the_worlds_one_by_one() -> None:
    world = Speeds(move=7, turn=1)
    assert OwnSpeeds().over(world) == world
    assert OwnSpeeds(turn=4, tilt=0.5).over(world) == Speeds(move=7, turn=4, tilt=0.5)
    with pytest.raises(ValueError, match="must be positive"):
        OwnSpeeds(turn=0).over(world)


@given(st.text(max_size=40))
def test_any_words_are_a_way_or_a_value_error(words: str) -> None:
    try:
        assert parse_path(words)
    except ValueError as error:
        assert str(error)


def test_a_rig_reaches_full_speed_smoothly_and_stops_smoothly() -> None:
    rig = Rig(SPEEDS)
    steps = [rig.step(Wish(forward=1, turn=1)) for _ in range(8)] + [rig.step(Wish()) for _ in range(8)]
    frames = np.concatenate(steps)
    speed = np.linalg.norm(frames[:, :3, 3], axis=1)
    turn = np.array([turned_left(frame) for frame in frames])
    assert speed[31] == pytest.approx(SPEEDS.move) and turn[31] == pytest.approx(SPEEDS.turn)
    assert np.abs(np.diff(speed, prepend=0)).max() <= SPEEDS.acceleration + 1e-9
    assert np.abs(np.diff(turn, prepend=0)).max() <= SPEEDS.turn_acceleration + 1e-9
    assert np.allclose(frames[-1], np.eye(4))


def test_two_keys_are_not_faster_than_one_and_a_tilt_has_an_end() -> None:
    rig = Rig(Speeds(tilt=5, turn_acceleration=5))
    for _ in range(20):
        frame = rig.step(Wish(forward=1, right=1, up=1, tilt=1))[-1]
    assert np.linalg.norm(frame[:3, 3]) == pytest.approx(SPEEDS.move)
    assert rig.pitch == pytest.approx(60)
    assert np.allclose(frame[:3, :3], np.eye(3))
