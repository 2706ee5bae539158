"""The humanoid maker: joints lie where the picture shows them, feet do not slip, a seed decides everything."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from aapt_video.model.conditions import Pose
from aapt_video.worlds.dataset import VideoDataset
from aapt_video.worlds.humanoid import HumanoidConfig, HumanoidMaker, Stage
from aapt_video.worlds.humanoid_body import ANGLES, JOINTS, Look
from aapt_video.worlds.humanoid_motion import ACTIONS, Performer
from aapt_video.worlds.making import MakeOptions, make_dataset

LOOK = Look("red", "blue", "green", "plain", "white", 0, 1.0)


@pytest.fixture(scope="module")
def stage() -> Stage:
    if find_spec("mujoco") is None:  # not imported here: the maker first chooses how MuJoCo draws
        pytest.skip("MuJoCo is not installed: pip install 'aapt-video[worlds]'")
    try:
        return Stage(LOOK, (128, 128), np.random.default_rng(0))
    except Exception as error:
        pytest.skip(f"MuJoCo cannot draw on this machine (no EGL): {error}")


def test_joints_lie_on_the_clothes_that_cover_them(stage: Stage) -> None:
    """Chest on the red shirt, knees on the blue trousers, whichever way the figure faces."""
    size = 128
    for heading in np.linspace(0.0, 2 * np.pi, 8, endpoint=False):
        posture = np.zeros(len(ANGLES))
        posture[[ANGLES.index("left raise"), ANGLES.index("right raise")]] = 70.0  # arms out of the way
        posture[[ANGLES.index("left spread"), ANGLES.index("right spread")]] = 15.0
        stage.set(posture, float(heading))
        picture, pose = stage.picture().astype(int), stage.pose()
        assert picture.shape == (size, size, 3)

        def pixel(name: str, picture: np.ndarray = picture, pose: np.ndarray = pose) -> np.ndarray:
            x, y, depth = pose[JOINTS.index(name)]
            assert 2.0 < depth < 6.0
            return picture[int(y * size), int(x * size)]

        for name in ("left knee", "right knee"):
            red, _, blue = pixel(name)
            assert blue > 1.5 * red, (heading, name)
        middle = (pose[JOINTS.index("left shoulder")] + pose[JOINTS.index("right shoulder")]) / 2
        chest = (2 * middle + pose[JOINTS.index("chest")]) / 3
        red, green, blue = picture[int(chest[1] * size), int(chest[0] * size)]
        assert red > 1.5 * max(green, blue), heading


def test_the_foot_that_carries_does_not_slip_and_the_body_does_not_float(stage: Stage) -> None:
    performer = Performer(np.random.default_rng(4))
    toes = [JOINTS.index(f"{side} toe") for side in ("left", "right")]
    ids = [stage._bodies[toe] for toe in toes]
    before = None
    for _ in range(200):
        angles, heading, _ = performer.step(stage.place)
        stage.set(angles, heading)
        feet = stage._data.xpos[ids].copy()
        if before is not None:
            slip = np.hypot(*(feet - before)[:, :2].T)
            assert slip.min() < 0.08
        assert feet[:, 2].min() < 0.12
        before = feet


def test_postures_change_without_a_jolt() -> None:
    for seed in range(5):
        performer = Performer(np.random.default_rng(seed))
        angles = np.stack([performer.step((0.0, 0.0))[0] for _ in range(400)])
        assert np.abs(np.diff(angles, axis=0)).max() < 40.0  # degrees per frame: the shin of a runner
        assert np.isfinite(angles).all()


def test_all_actions_occur_and_differ() -> None:
    postures = {name: tuple(sorted(action(1.0).items())) for name, (action, _) in ACTIONS.items()}
    assert len(set(postures.values())) == len(ACTIONS)
    assert all(name in ANGLES for posture in postures.values() for name, _ in posture)
    performer = Performer(np.random.default_rng(0))
    assert {performer.step((0.0, 0.0))[2] for _ in range(20_000)} == set(ACTIONS)


def test_a_walker_stays_in_the_picture(stage: Stage) -> None:
    performer = Performer(np.random.default_rng(8))
    far = 0
    for _ in range(1500):
        angles, heading, _ = performer.step(stage.place)
        stage.set(angles, heading)
        far += np.hypot(*stage.place) > 1.5
    assert far < 75


def test_a_dataset_holds_poses_and_captions_and_a_seed_decides_it(stage: Stage, tmp_path: Path) -> None:
    config = HumanoidConfig(frames=2 * 49, seed=5, width=64, height=64, clip_frames=49, clips_per_shard=1)
    for name in ("a", "b"):
        assert make_dataset(HumanoidMaker(config), tmp_path / name, MakeOptions(quiet=True)) == 2
    a, b = VideoDataset(tmp_path / "a"), VideoDataset(tmp_path / "b")
    window = a.window(1, 0, 49)
    assert window.tracks["pose"].shape == (49, len(JOINTS), 3)
    assert window.motion is None
    assert window.caption.startswith("a person in ")
    assert window.video.std() > 5
    again = b.window(1, 0, 49)
    assert np.array_equal(window.tracks["pose"], again.tracks["pose"])
    assert np.array_equal(window.video, again.video)
    assert window.caption == again.caption


def test_the_skeleton_of_a_dataset_is_a_body_that_stands(stage: Stage) -> None:
    skeleton = HumanoidMaker(HumanoidConfig()).describe()["skeleton"]
    pose = Pose(len(JOINTS), **skeleton)
    place = dict(zip(JOINTS, pose.rest, strict=True))
    rows = [place[name][1] for name in ("head", "chest", "pelvis", "left knee", "left ankle")]
    assert rows == sorted(rows) and 0 < rows[0] < 0.35 and 0.65 < rows[-1] < 1
    assert place["left hand"][0] > 0.5 > place["right hand"][0]  # it looks at us
    assert place["left hand"][0] + place["right hand"][0] == pytest.approx(1, abs=1e-3)
    assert len(pose.lines) == len(JOINTS) - 1 and {joint for line in pose.lines for joint in line} == set(range(17))


def test_reserved_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="training data takes seeds below 9000"):
        HumanoidConfig(seed=9000)
    with pytest.raises(ValueError, match="test data takes seeds from 9000"):
        HumanoidConfig(seed=1, test=True)
