"""The folder maker: shots, sizes, rates, captions; and files that cannot be read."""

from pathlib import Path

import av
import numpy as np
import pytest

from aapt_video.worlds.dataset import VideoDataset
from aapt_video.worlds.folder import FolderConfig, FolderMaker, ShotCuts
from aapt_video.worlds.making import MakeOptions, make_dataset


def scene(number: int, frames: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """A drifting pattern; each number has its own brightness and stripes."""
    x = np.arange(width)[None, :] + np.zeros((height, 1))
    pictures = []
    for frame in range(frames):
        wave = 40 * np.sin((x + 3 * frame) * (0.1 + 0.05 * number)) + 40 + 120 * (number % 2)
        pictures.append(np.repeat(np.clip(wave, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return pictures


def write(path: Path, pictures: list[np.ndarray], rate: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def make(source: Path, root: Path, **settings: int) -> VideoDataset:
    config = FolderConfig(str(source), **{"width": 48, "height": 36, **settings})  # type: ignore[arg-type]
    make_dataset(FolderMaker(config), root, MakeOptions(quiet=True))
    return VideoDataset(root)


def test_a_directory_becomes_clips_of_shots(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write(source / "b.mp4", scene(0, 40) + scene(1, 30) + scene(2, 35))
    write(source / "deep" / "a.mkv", scene(3, 60), rate=12)
    (source / "b.txt").write_text("stripes that\ndrift\n")
    (source / "broken.mp4").write_bytes(b"this is no video" * 100)
    whole = (source / "b.mp4").read_bytes()
    (source / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index, at the end, is missing
    (source / "notes.pdf").write_bytes(b"not looked at")
    dataset = make(source, tmp_path / "out")

    found = [(clip.source, len(clip)) for clip in dataset.clips]
    assert found == [("b.mp4", 40), ("b.mp4", 30), ("b.mp4", 35), ("deep/a.mkv", 120)]  # 60 frames at 12 per second
    assert dataset.clips[1].captions[0].text == "stripes that drift"
    window = dataset.sample(25, 0, 0)
    assert window.video.shape == (25, 36, 48, 3)
    assert window.motion is None
    assert not window.tracks
    notes = [note.split(":")[0] for shard in dataset.shards.values() for note in shard.notes]
    assert notes == ["broken.mp4", "cut.mp4"]
    card = (tmp_path / "out" / "card.md").read_text()
    assert "broken.mp4" in card
    assert "there is no camera" in card


def test_long_shots_are_divided_and_short_ones_dropped(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.mp4", scene(0, 70) + scene(1, 10) + scene(0, 30))
    dataset = make(tmp_path / "in", tmp_path / "out", shortest=20, clip_frames=33)
    assert [len(clip) for clip in dataset.clips] == [33, 33, 30]  # 70 = 33 + 33 + 4


@pytest.mark.parametrize("pace", [1, 4])
def test_a_cut_is_found_and_motion_is_not_taken_for_one(pace: int) -> None:
    rng = np.random.default_rng(0)
    wall = rng.integers(0, 256, (3, 24)).astype(np.uint8).repeat(40, axis=0).repeat(40, axis=1)
    panned = [np.stack([wall[:, 4 * pace * i : 4 * pace * i + 160]] * 3, axis=2) for i in range(40)]
    bright = [255 - picture // 2 for picture in panned]
    cuts = ShotCuts()
    found = [number for number, frame in enumerate(panned + bright) if cuts.starts_with(np.ascontiguousarray(frame))]
    assert found == [40]


def test_a_folder_that_changed_is_not_continued(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.mp4", scene(0, 30))
    make(tmp_path / "in", tmp_path / "out")
    write(tmp_path / "in" / "b.mp4", scene(1, 30))
    with pytest.raises(ValueError, match="holds another dataset"):
        make(tmp_path / "in", tmp_path / "out")


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such directory"):
        FolderConfig(str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="no videos there"):
        FolderMaker(FolderConfig(str(tmp_path)))
