"""The doom maker with the real engine: the camera's truth, determinism, resuming, hangs."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from aapt_video.stream import Speeds
from aapt_video.worlds.camera import project, relative_motion
from aapt_video.worlds.dataset import VideoDataset
from aapt_video.worlds.making import MakeOptions, ShardsFailed, make_dataset
from aapt_video.worlds.shards import finished_shards, shard_folder

pytest.importorskip("vizdoom", reason="ViZDoom is not installed: pip install 'aapt-video[worlds]'")

from aapt_video.worlds.doom import DoomConfig, DoomMaker
from aapt_video.worlds.doom_engine import DoomEngine
from aapt_video.worlds.doom_maps import choose_maps, wad_path
from aapt_video.worlds.doom_path import Command, PathConfig, Pose

QUIET = MakeOptions(quiet=True)
SMALL = DoomConfig(
    frames=4 * 121,
    seed=3,
    maps=("freedoom2/MAP01", "freedoom1/E1M2"),
    width=64,
    height=48,
    clip_frames=121,
    clips_per_shard=2,
    path=PathConfig(push=0.3),
)


def contents(root: Path) -> dict[str, bytes]:
    """Every file of the finished shards."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.glob("shard-*/*"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("doom") / "data"
    assert make_dataset(DoomMaker(SMALL), root, QUIET) == 2
    return root


def test_a_dataset_holds_clips_of_the_maps_with_camera_control_and_captions(made: Path) -> None:
    dataset = VideoDataset(made)
    assert (dataset.frames, len(dataset.clips), dataset.size) == (484, 4, (64, 48))
    assert {clip.source for clip in dataset.clips} == {"freedoom2/MAP01", "freedoom1/E1M2"}
    for number, clip in enumerate(dataset.clips):
        window = dataset.window(number, 0, 121)
        assert window.tracks["camera"].shape == (121, 6)
        assert window.tracks["control"].shape == (121, 3)
        assert window.video.std() > 5  # a picture, not a blank
        assert window.caption
        assert [c.start for c in clip.captions] == [0]
        assert clip.captions[-1].stop == 121
    index = dataset.index
    assert index["versions"]["vizdoom"].startswith("1.3")
    assert "Freedoom" in index["licences"]["pictures"]
    assert Speeds(**index["speeds"]).move == PathConfig().speed
    assert "One engine tic is one frame" in (made / "card.md").read_text()


def test_where_nothing_blocks_the_camera_moves_as_commanded(made: Path) -> None:
    dataset = VideoDataset(made)
    motion = np.concatenate([relative_motion(dataset.track(clip, "camera"))[1:] for clip in range(4)])
    control = np.concatenate([dataset.track(clip, "control")[1:] for clip in range(4)])
    miss = np.hypot(motion[:, 0] - control[:, 0], motion[:, 1] - control[:, 1])
    assert np.median(miss) < 0.02  # the engine's legs count in steps of 1/32 unit
    assert np.abs(motion[:, 3] - control[:, 2]).max() < 0.01
    assert np.hypot(motion[:, 0], motion[:, 1]).max() < 5.1
    assert np.abs(motion[:, 3]).max() < 2.01


def test_the_same_seed_gives_the_same_bytes_whoever_makes_them(made: Path, tmp_path: Path) -> None:
    make_dataset(DoomMaker(SMALL), tmp_path / "again", MakeOptions(quiet=True, workers=2))
    assert contents(tmp_path / "again") == contents(made)
    other = DoomConfig(**{**vars(SMALL), "seed": 4, "frames": 121})
    make_dataset(DoomMaker(other), tmp_path / "other", QUIET)
    assert contents(tmp_path / "other")["shard-00000/video.npy"] != contents(made)["shard-00000/video.npy"]


def test_a_killed_maker_is_continued_to_the_same_bytes(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    command = [sys.executable, "-m", "aapt_video.cli", "data", "make", "doom", "--out", str(root), "--frames", "484"]
    command += ["--seed", "3", "--maps", "freedoom2/MAP01", "freedoom1/E1M2", "--width", "64", "--height", "48"]
    command += ["--clip-frames", "121", "--clips-per-shard", "2", "--push", "0.3"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(finished_shards(root)) < 1 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (root / ".making-00001-1").mkdir(exist_ok=True)  # whether or not the kill came in time to leave one
    (root / ".making-00001-1" / "video.npy").write_bytes(b"half")
    make_dataset(DoomMaker(SMALL), root, QUIET)
    assert contents(root) == contents(made)
    assert not list(root.glob(".making-*"))


def test_a_lost_shard_is_made_again_and_the_others_are_left_alone(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(made, root)
    kept = (shard_folder(root, 0) / "header.json").stat().st_mtime_ns
    shutil.rmtree(shard_folder(root, 1))
    assert make_dataset(DoomMaker(SMALL), root, QUIET) == 1
    assert contents(root) == contents(made)
    assert (shard_folder(root, 0) / "header.json").stat().st_mtime_ns == kept
    assert make_dataset(DoomMaker(SMALL), root, QUIET) == 0


def test_another_configuration_is_not_mixed_in(made: Path) -> None:
    with pytest.raises(ValueError, match="holds another dataset"):
        make_dataset(DoomMaker(DoomConfig(**{**vars(SMALL), "gamma": 1.0})), made, QUIET)


def test_a_worker_that_gives_no_sign_of_life_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ShardsFailed, match=r"no sign of life for 0\.02 s"):
        make_dataset(DoomMaker(SMALL), tmp_path / "data", MakeOptions(quiet=True, timeout=0.02, attempts=1))
    assert time.monotonic() - began < 20
    assert finished_shards(tmp_path / "data") == []
    assert not list((tmp_path / "data").glob(".making-*"))


def test_a_hung_engine_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    """The engine's process is stopped while it works; its parent then waits for it in vain."""
    root, stopped = tmp_path / "data", threading.Event()

    def stop() -> None:
        while not stopped.is_set():
            for link in Path("/proc").glob("[0-9]*/cwd"):
                with contextlib.suppress(OSError):
                    ours = (
                        link.resolve().parent == root and b"vizdoom/vizdoom" in (link.parent / "cmdline").read_bytes()
                    )
                    if ours and list(link.resolve().glob("leftovers")):
                        os.kill(int(link.parent.name), signal.SIGSTOP)
                        stopped.set()

    watcher = threading.Thread(target=stop, daemon=True)
    watcher.start()
    config = DoomConfig(**{**vars(SMALL), "frames": 1210, "clip_frames": 1210})
    with pytest.raises(ShardsFailed, match="no sign of life for 5 s"):
        make_dataset(DoomMaker(config), root, MakeOptions(quiet=True, timeout=5, attempts=1))
    assert stopped.is_set()
    assert not list(root.glob(".making-*"))
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            assert not str(os.readlink(link)).startswith(str(root))


def test_the_engine_leaves_nothing_in_the_working_directory(made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aapt_video.cli", "data", "inspect", str(made), "--sheet", "sheet.png"]
    before = set(os.listdir("."))
    maker = DoomMaker(DoomConfig(**{**vars(SMALL), "frames": 121}))
    make_dataset(maker, tmp_path / "data", QUIET)
    assert set(os.listdir(".")) == before
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "484 frames, 4 clips, 2 shards, 2 sources" in done.stdout
    assert "commanded motion blocked by a wall in" in done.stdout
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_reserved_seeds_are_refused_by_the_command() -> None:
    command = [sys.executable, "-m", "aapt_video.cli", "data", "make", "doom", "--out", "never", "--seed", "9000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "seed=9000" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("never").exists()


@pytest.mark.parametrize("size", [(200, 240), (320, 180)])
def test_objects_appear_where_the_camera_says(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own labels against our projection: angle, position, field of view and crop mean what we say."""
    monkeypatch.chdir(tmp_path)
    places = [(x, y, angle) for x, y in ((-64, -96), (768, 1280), (448, -1136)) for angle in range(0, 360, 45)]
    compared = 0
    with DoomEngine(choose_maps(("freedoom2/MAP01",), 0, False)[0], size, 1, 1.0, False) as engine:
        for place in places:
            view = engine.place(Pose(*place))
            state = engine._game.get_state()
            height, width = state.screen_buffer.shape[:2]
            scale = max(size[0] / width, size[1] / height)
            cut = (width * scale - size[0]) / 2
            for label in state.labels:
                left, right = label.x * scale - cut, (label.x + label.width) * scale - cut
                point = np.array([label.object_position_x, label.object_position_y, label.object_position_z])
                column, _, depth = project(view.camera, point, size)
                small = left > 2 and right < size[0] - 2 and right - left < 24  # wide ones may be half hidden
                if small and depth > 64 and label.object_name != "DoomPlayer":
                    assert column == pytest.approx((left + right) / 2, abs=5), label.object_name
                    compared += 1
    assert compared >= 5


def test_a_wall_stops_the_camera_but_not_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with DoomEngine(choose_maps(("freedoom2/MAP01",), 0, False)[0], (64, 48), 1, 1.0, False) as engine:
        view = engine.place(Pose(-64.0, -96.0, 180.0))
        for _ in range(120):
            view = engine.step(Command(forward=4.0), view)
        still = engine.step(Command(forward=4.0), view)
        assert np.hypot(*(still.camera[:2] - view.camera[:2])) < 0.5
        back = engine.step(Command(forward=-1.0), engine.step(Command(forward=-1.0), still))
        assert np.hypot(*(back.camera[:2] - still.camera[:2])) > 1.0


def test_the_wads_hold_the_maps_that_we_know() -> None:
    from aapt_video.worlds.doom_maps import all_maps
    from aapt_video.worlds.wad import map_names

    for wad in ("freedoom1.wad", "freedoom2.wad"):
        assert map_names(wad_path(wad)) == [m.name for m in all_maps() if m.wad == wad]


def test_index_and_header_are_plain_json(made: Path) -> None:
    assert json.loads((made / "index.json").read_text())["config"]["seed"] == 3
    header = json.loads((shard_folder(made, 0) / "header.json").read_text())
    assert header["frames"] == 242
    assert {"light", "place", "walls", "liquids", "objects"} == set(header["clips"][0]["captions"][0]["facts"])
