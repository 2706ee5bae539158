"""The dataset format: shards appear whole or not at all, windows stay inside clips, seeds decide everything."""

import json
from pathlib import Path

import numpy as np
import pytest

from aapt_video.files import write_json
from aapt_video.worlds.dataset import VideoDataset, WindowSampler, caption_of
from aapt_video.worlds.shards import (
    FORMAT,
    Caption,
    ShardWriter,
    finished_shards,
    remove_unfinished,
    shard_folder,
)

SIZE = (32, 24)


def numbered(first: int, frames: int) -> np.ndarray:
    """Frames that show their own number, as grey."""
    values = (first + np.arange(frames)).astype(np.uint8)
    return np.tile(values[:, None, None, None], (1, SIZE[1], SIZE[0], 3))


def make(root: Path, lengths: list[list[int]], compress: bool = False, track: str = "camera") -> VideoDataset:
    """One shard per list; frame numbers run on through the dataset, and the track's first column holds them."""
    root.mkdir(exist_ok=True)
    first = 0
    for number, clips in enumerate(lengths):
        with ShardWriter(root, number, SIZE, compress) as writer:
            for clip, frames in enumerate(clips):
                camera = np.zeros((frames, 6))
                camera[:, 0] = first + np.arange(frames)
                captions = (Caption(0, frames // 2, "early"), Caption(frames // 2, frames, "late"))
                video = numbered(first, frames)
                writer.add_clip(video, {track: camera}, f"source {number}.{clip}", captions)
                first += frames
    index = {"format": FORMAT, "size": SIZE, "tracks": {track: []}, "maker": "doom", "split": "train"}
    write_json(root / "index.json", index)
    return VideoDataset(root)


@pytest.mark.parametrize("compress", [False, True])
def test_windows_hold_the_frames_and_tracks_that_were_written(tmp_path: Path, compress: bool) -> None:
    dataset = make(tmp_path, [[60, 31], [9]], compress)
    assert (dataset.frames, len(dataset.clips)) == (100, 3)
    for clip, start, first in ((0, 0, 0), (0, 41, 41), (1, 7, 67), (2, 0, 91)):
        window = dataset.window(clip, start, 9)
        expected = numbered(first, 9)
        assert np.abs(window.video.astype(int) - expected).max() <= (3 if compress else 0)
        assert window.tracks["camera"][:, 0].tolist() == list(range(first, first + 9))


def test_random_windows_never_cross_clips(tmp_path: Path, seed: int) -> None:
    dataset = make(tmp_path, [[20, 13], [12, 40, 5]])
    seen = set()
    for step in range(400):
        window = dataset.sample(12, seed, step)
        numbers = window.video[:, 0, 0, 0].astype(int)
        assert (np.diff(numbers) == 1).all()
        assert window.start + 12 <= len(dataset.clips[window.clip])
        seen.add((window.clip, window.start))
    assert len(seen) <= dataset.count(12) == 9 + 2 + 1 + 29
    assert {clip for clip, _ in seen} == {0, 1, 2, 3}  # never the clip of 5 frames


def test_every_window_is_equally_likely() -> None:
    sampler = WindowSampler(np.array([3, 10, 4]))
    draws = [sampler.draw(3, 5, step) for step in range(3300)]
    counts = [draws.count(window) for window in {(0, 0), *((1, s) for s in range(8)), (2, 0), (2, 1)}]
    assert sum(counts) == 3300
    assert min(counts) > 220  # 300 expected, standard deviation 16.5


def test_a_seed_and_a_step_decide_the_window(tmp_path: Path) -> None:
    dataset = make(tmp_path, [[50, 50]])
    again = VideoDataset(tmp_path)
    drawn = [(w.clip, w.start) for w in (dataset.sample(8, 3, step) for step in range(30))]
    assert drawn == [(w.clip, w.start) for w in (again.sample(8, 3, step) for step in range(30))]
    assert drawn != [(w.clip, w.start) for w in (dataset.sample(8, 4, step) for step in range(30))]


def test_the_first_frame_of_a_window_has_no_motion(tmp_path: Path) -> None:
    window = make(tmp_path, [[50]]).window(0, 20, 5)
    assert window.motion is not None
    assert window.motion[0].tolist() == [0.0] * 5
    assert window.motion[1:, 0] == pytest.approx([0.4] * 4)  # one map unit per frame, in units of 2.5


def test_too_long_windows_are_refused(tmp_path: Path) -> None:
    dataset = make(tmp_path, [[8, 9]])
    with pytest.raises(ValueError, match="length=10: the longest clip has 9"):
        dataset.sample(10, 0, 0)
    with pytest.raises(ValueError, match="clip 0 has 8 frames: no window of 5 from 4"):
        dataset.window(0, 4, 5)


def test_the_caption_that_covers_most_of_a_window_is_its_caption() -> None:
    captions = (Caption(0, 10, "a"), Caption(10, 20, "b"))
    assert caption_of(captions, 4, 15) == "a"
    assert caption_of(captions, 8, 15) == "b"
    assert caption_of(captions, 20, 25) == ""
    assert caption_of((), 0, 5) == ""


def test_a_shard_that_failed_half_way_never_appears(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="engine"), ShardWriter(tmp_path, 0, SIZE) as writer:
        writer.add_clip(numbered(0, 5), {}, "map")
        raise RuntimeError("the engine died")
    assert finished_shards(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_maker_left_is_removed_and_finished_shards_stay(tmp_path: Path) -> None:
    make(tmp_path, [[5]])
    killed = ShardWriter(tmp_path, 1, SIZE).__enter__()
    killed.add_clip(numbered(0, 5), {"camera": np.zeros((5, 6))}, "map")
    assert finished_shards(tmp_path) == [0]
    assert remove_unfinished(tmp_path) == 1
    assert finished_shards(tmp_path) == [0]
    assert VideoDataset(tmp_path).frames == 5


def test_clips_that_do_not_fit_the_shard_are_refused(tmp_path: Path) -> None:
    def add(video: np.ndarray, tracks: dict[str, np.ndarray]) -> None:
        with ShardWriter(tmp_path, 0, SIZE) as writer:
            writer.add_clip(numbered(0, 4), {"camera": np.zeros((4, 6))}, "first")
            writer.add_clip(video, tracks, "second")

    with pytest.raises(ValueError, match=r"video is uint8 \(4, 32, 24, 3\)"):
        add(np.zeros((4, 32, 24, 3), np.uint8), {"camera": np.zeros((4, 6))})
    with pytest.raises(ValueError, match="'camera' has 3 rows for 4 frames"):
        add(numbered(0, 4), {"camera": np.zeros((3, 6))})
    with pytest.raises(ValueError, match="tracks"):
        add(numbered(0, 4), {})


def test_a_dataset_of_another_format_is_refused(tmp_path: Path) -> None:
    make(tmp_path, [[5]])
    header = shard_folder(tmp_path, 0) / "header.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), "format": FORMAT + 1}))
    with pytest.raises(ValueError, match="another version"):
        VideoDataset(tmp_path)


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="aapt-video data make"):
        VideoDataset(tmp_path)
