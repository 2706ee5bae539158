"""`aapt-video generate`: from words and files to a video and its record."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from live_server import tiny_world
from models import camera, picture
from PIL import Image

from aapt_video.cli import main
from aapt_video.serve.generate import in_steps, listen, read_image
from aapt_video.serve.path import follow
from aapt_video.stream import Speeds, load, save_generator
from aapt_video.video import write_mp4

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("worlds") / "tiny"
    save_generator(tiny_world(), folder)
    return str(folder)


def count(path: Path) -> int:
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


def test_words_become_a_video_of_their_length_and_a_record(world: str, tmp_path: Path) -> None:
    out = tmp_path / "hall.mp4"
    main(["generate", world, "--path", "forward 1s, left 20 over 0.5s", "--prompt", "迷宮 é", "--seed", "3",
          "--out", str(out), "--device", "cpu"])  # fmt: skip
    assert count(out) == 36
    record = json.loads(out.with_suffix(".json").read_text())
    assert (record["seed"], record["prompt"], record["frames"]) == (3, "迷宮 é", 36)


@pytest.mark.parametrize("frames", [1, 4, 9])
def test_frames_are_as_many_as_were_asked_for(world: str, tmp_path: Path, frames: int) -> None:
    out = tmp_path / "out.mp4"
    main(["generate", world, "--frames", str(frames), "--path", "forward 0.2s", "--out", str(out)])
    assert count(out) == frames


@pytest.mark.parametrize(("width", "height"), [(90, 160), (3840, 2160)])
def test_any_photo_is_a_start(world: str, tmp_path: Path, width: int, height: int) -> None:
    photo, out = tmp_path / "photo.jpg", tmp_path / "out.mp4"
    Image.new("RGB", (width, height), (10, 200, 90)).save(photo)
    main(["generate", world, "--image", str(photo), "--frames", "4", "--out", str(out)])
    assert count(out) == 4


def test_a_moment_of_a_video_is_a_start(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    shades = np.repeat(np.arange(0, 240, 5, dtype=np.uint8), 32 * 48 * 3).reshape(-1, 32, 48, 3)
    write_mp4(path, [shades], 24)
    assert np.asarray(read_image(path, 0)).mean() < 20
    assert abs(np.asarray(read_image(path, 1.0)).mean() - 120) < 15
    with pytest.raises(ValueError, match="over before that"):
        read_image(path, 9)


def test_controls_come_from_files(world: str, tmp_path: Path) -> None:
    transforms = np.stack([camera(i) for i in range(6)])
    np.save(tmp_path / "way.npy", transforms)
    (tmp_path / "way.json").write_text(json.dumps(transforms.tolist()))
    (tmp_path / "way.txt").write_text("# a tour\nforward 0.1s\nleft 5\n")
    for name, frames in (
        ("way.npy", 8),
        ("way.json", 8),
        ("way.txt", len(follow("forward 0.1s, left 5", Speeds(), 24)) * 4),
    ):
        out = tmp_path / "out.mp4"
        main(["generate", world, "--path-file", str(tmp_path / name), "--out", str(out)])
        assert count(out) == frames
    with pytest.raises(ValueError, match="one per video frame"):
        in_steps(np.zeros(3), load(world, device="cpu").condition)


def test_controls_come_from_standard_input(world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.mp4"
    lines = f"forward 0.5s\n\n# rest\nnonsense\n{json.dumps(camera(1).tolist())}\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    main(["generate", world, "--controls-from-stdin", "--out", str(out)])
    assert count(out) == 16


def test_a_line_that_is_none_is_reported_and_passed_over(world: str, capsys: pytest.CaptureFixture[str]) -> None:
    condition = load(world, device="cpu").condition
    made = list(listen(["hop 2s", "[[1]]", "{", "forward 0.1s"], condition, Speeds(), 24))
    assert len(made) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frames", "0"], "frames is 0; it must be at least 1"),
        (["--out", "a.avi"], "must end in .mp4"),
        (["--path", "hop"], "no camera motion"),
        (["--path", "forward 1s", "--path-file", "x.txt"], "give one of them"),
        (["--path-file", "/nowhere.txt"], "no such file"),
        (["--pose-file", "pose.npy"], "steered by 'camera'"),
        (["--image", "/nowhere.png"], "no such file"),
        (["--image", __file__], "cannot be read as a picture"),
        (["--at", "-1"], "at is -1"),
        (["--height", "33"], "multiple of"),
        (["--seed", "-1"], "seed"),
        (["--prompt", "x" * 5000], "prompt"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy_and_status_2(
    world: str, words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", world, "--out", str(tmp_path / "out.mp4"), *words])
    assert ended.value.code == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert said in shown[-1] and shown[-1].startswith("aapt-video generate: ")
    assert not list(tmp_path.iterdir())


def test_a_world_that_is_none_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("generate", "play"):
        with pytest.raises(SystemExit) as ended:
            main([command, "atlantis"])
        assert ended.value.code == 2
        assert "shipped models" in capsys.readouterr().err


def test_a_picture_of_the_gallery_is_chosen_by_the_seed(world: str) -> None:
    generator = load(world, device="cpu")
    for seed in range(2):
        with generator.open(seed=seed) as stream, generator.open("a maze", picture(seed), seed=seed) as same:
            assert torch.equal(stream.state.latent, same.state.latent)
