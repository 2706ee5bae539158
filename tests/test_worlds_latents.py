"""Latents beside the video: rows belong to frames, windows begin with a still or a moving latent frame."""

from pathlib import Path

import numpy as np
import pytest
from test_worlds_dataset import make

from aapt_video.worlds.latents import LatentDataset, encode_dataset


def encode(video: np.ndarray) -> np.ndarray:
    """A causal codec: channel 0 is the number of the newest frame, channel 1 says that four frames were packed."""
    newest = video[::4, 0, 0, 0].astype(np.float32)
    packed = np.arange(len(newest)) > 0
    return np.tile(np.stack([newest, packed], axis=1)[:, :, None, None], (1, 1, 3, 4))


def encode_pictures(video: np.ndarray) -> np.ndarray:
    """Each picture as the first of a video."""
    return np.concatenate([encode(picture[None]) for picture in video])


def test_latent_rows_show_the_frames_that_they_stand_for(tmp_path: Path) -> None:
    dataset = make(tmp_path, [[21, 9], [14]])
    assert encode_dataset(dataset, "toy", "v1", encode, encode_pictures, quiet=True) == 2
    latents = LatentDataset(dataset, "toy")
    assert latents.rows == 6 + 3 + 4  # 1 + n from 1 + 4n frames; one frame of the 14 is left over
    window = latents.window(1, 0, 3, still=False)
    assert window.latents[:, 0, 0, 0].tolist() == [21, 25, 29]
    assert window.latents[:, 1, 0, 0].tolist() == [0, 1, 1]


def test_a_window_can_begin_with_a_picture_encoded_alone(tmp_path: Path) -> None:
    dataset = make(tmp_path, [[21]])
    encode_dataset(dataset, "toy", "v1", encode, encode_pictures, quiet=True)
    latents = LatentDataset(dataset, "toy")
    assert latents.window(0, 2, 3, still=True).latents[:, :, 0, 0].tolist() == [[8, 0], [12, 1], [16, 1]]
    assert latents.window(0, 2, 3, still=False).latents[:, :, 0, 0].tolist() == [[8, 1], [12, 1], [16, 1]]


def test_motion_of_a_latent_frame_leads_through_its_four_video_frames(tmp_path: Path) -> None:
    dataset = make(tmp_path, [[21]])
    encode_dataset(dataset, "toy", "v1", encode, encode_pictures, quiet=True)
    window = LatentDataset(dataset, "toy").window(0, 1, 3)
    assert window.motion is not None
    assert window.motion.shape == (3, 4, 5)
    assert not window.motion[0].any()  # the given picture: the identity four times
    assert window.motion[1:, :, 0] == pytest.approx(np.full((2, 4), 0.4))
    assert window.tracks["camera"][:, :, 0].tolist() == [[4] * 4, [5, 6, 7, 8], [9, 10, 11, 12]]


def test_nothing_was_commanded_for_the_first_latent_frame(tmp_path: Path) -> None:
    dataset = make(tmp_path, [[21]], track="control")
    encode_dataset(dataset, "toy", "v1", encode, encode_pictures, quiet=True)
    window = LatentDataset(dataset, "toy").window(0, 1, 2)
    assert window.tracks["control"][:, :, 0].tolist() == [[0] * 4, [5, 6, 7, 8]]
    assert window.motion is None


def test_other_phases_start_other_runs(tmp_path: Path) -> None:
    dataset = make(tmp_path, [[21]])
    encode_dataset(dataset, "toy", "v1", encode, encode_pictures, phases=(0, 2), quiet=True)
    latents = LatentDataset(dataset, "toy")
    window = latents.window(1, 1, 2, still=False)
    assert (window.frame, window.latents[:, 0, 0, 0].tolist()) == (6, [6, 10])
    assert latents.rows == 6 + 5


def test_finished_shards_are_not_encoded_again(tmp_path: Path) -> None:
    dataset = make(tmp_path, [[9], [9]])

    def dies(video: np.ndarray) -> np.ndarray:
        if video[0, 0, 0, 0] >= 9:
            raise KeyboardInterrupt
        return encode(video)

    with pytest.raises(KeyboardInterrupt):
        encode_dataset(dataset, "toy", "v1", dies, encode_pictures, quiet=True)
    assert LatentDataset(dataset, "toy").rows == 3
    assert encode_dataset(dataset, "toy", "v1", encode, encode_pictures, quiet=True) == 1
    assert LatentDataset(dataset, "toy").rows == 6


def test_latents_of_another_codec_are_refused(tmp_path: Path) -> None:
    dataset = make(tmp_path, [[9]])
    encode_dataset(dataset, "toy", "v1", encode, encode_pictures, quiet=True)
    with pytest.raises(ValueError, match="holds other latents"):
        encode_dataset(dataset, "toy", "v2", encode, encode_pictures, quiet=True)


def test_a_codec_that_returns_another_number_of_latents_is_refused(tmp_path: Path) -> None:
    dataset = make(tmp_path, [[9]])
    with pytest.raises(ValueError, match=r"encode returned shape \(9, 2, 3, 4\): must be \[3, C, h, w\]"):
        encode_dataset(dataset, "toy", "v1", encode_pictures, encode_pictures, quiet=True)
