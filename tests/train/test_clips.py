"""Clips: a function of their number, with the conditions that the data's tracks say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aapt_video.codec import Codec, fit_scale, from_uint8, named_config, pca_init, save_codec
from aapt_video.files import write_json
from aapt_video.model.conditions import Camera, Plain, Pose
from aapt_video.train.clips import ClipConfig, LatentClips, controls, fit_condition, latents_of
from aapt_video.train.shapes import ShapesConfig, make_shapes
from aapt_video.train.stage import Noise
from aapt_video.worlds.dataset import VideoDataset
from aapt_video.worlds.shards import FORMAT, ShardWriter

CONFIG = ClipConfig(frames=3, phases=(0, 2))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root: Path = tmp_path_factory.mktemp("clips")
    make_shapes(root / "data", ShapesConfig(clips=6, frames=41, width=32, height=32))
    data = VideoDataset(root / "data")
    codec = Codec(named_config("test"))
    videos = [from_uint8(torch.from_numpy(data.sample(9, 0, i).video))[None] for i in range(6)]
    pca_init(codec, videos)
    fit_scale(codec, videos)
    save_codec(codec, root / "codec")
    latents, codec = latents_of(data, root / "codec", CONFIG.phases, CPU, "fp32", quiet=True)
    return data, latents, codec


def clips_of(world, **changes) -> LatentClips:
    data, latents, _ = world
    return LatentClips(latents, fit_condition(data, "camera"), "camera", replace(CONFIG, **changes), seed=3)


def test_a_clip_depends_on_its_number_alone(world):
    together, alone = clips_of(world)(range(4, 8)), clips_of(world)(range(6, 7))
    assert torch.equal(together.latents[2], alone.latents[0])
    assert torch.equal(together.condition[2], alone.condition[0])
    assert together.prompts[2] == alone.prompts[0]
    assert not torch.equal(together.latents[0], together.latents[1])


def test_latents_are_those_of_the_clips_video(world):
    data, latents, codec = world
    window = latents.window(0, 2, 4, still=True)
    video = data.window(window.clip, 0, window.frame + 13).video
    whole = codec.encode(from_uint8(torch.from_numpy(video))[None])[0].transpose(0, 1)
    np.testing.assert_allclose(window.latents[1:], whole[3:7], atol=4e-3)
    alone = codec.encode(from_uint8(torch.from_numpy(video[window.frame : window.frame + 1]))[None])[0, :, 0]
    np.testing.assert_allclose(window.latents[0], alone, atol=4e-3)


def test_previous_is_one_behind(world):
    clips = clips_of(world)(range(2))
    assert clips.x0.shape == clips.previous.shape == (2, 3, 4, 4, 4)
    assert torch.equal(clips.previous[:, 1:], clips.x0[:, :-1])


def test_what_is_dropped_is_dropped(world):
    clips = clips_of(world, drop_text=1.0, drop_condition=1.0)
    assert clips(range(4)).prompts == ("",) * 4 and clips(range(4)).condition.abs().max() == 0
    shown = clips.without_dropout(4)
    assert (
        all(prompt.endswith("room") for prompt in shown.prompts) and shown.condition.abs().amax((1, 2, 3, 4)).min() > 0
    )


def test_the_share_of_still_first_latents_is_what_was_asked_for(world):
    always, never, some = (clips_of(world, still=share)(range(60)).latents[:, 0] for share in (1.0, 0.0, 0.3))
    differs = (always != never).flatten(1).any(1)
    still = (some == always).flatten(1).all(1)[differs]
    assert 0.1 < still.float().mean() < 0.5


def test_commands_that_nothing_blocked_are_the_cameras_motion(world):
    data, *_ = world
    camera, control = (controls(data, 1, 4, 3, source) for source in ("camera", "control"))
    assert camera.shape == (3, 4, 4, 4)
    np.testing.assert_allclose(camera, control, atol=1e-3)
    assert np.abs(camera - np.eye(4)).max() > 1e-3


def test_a_fitted_condition_has_about_unit_deviation(world):
    data, *_ = world
    condition = fit_condition(data, "camera")
    packed = condition.pack(
        np.stack([controls(data, clip, i, 1, "camera") for clip in range(6) for i in range(0, 36, 4)]), 6, 8
    )
    directions = packed.reshape(54, 1, 4, 6, 6, 8)[:, :, :, 3:]
    assert 0.8 < directions.std() < 1.2
    assert isinstance(fit_condition(data, "none"), Plain) and isinstance(condition, Camera)


def test_clips_longer_than_the_data_and_missing_tracks_are_refused(world, tmp_path):
    data, latents, _ = world
    with pytest.raises(ValueError, match="frames=50"):
        LatentClips(latents, Plain(), "none", replace(CONFIG, frames=50), 0)
    del data.index["tracks"]["control"]
    try:
        with pytest.raises(ValueError, match="condition='control'"):
            fit_condition(data, "control")
    finally:
        data.index["tracks"]["control"] = ["forward", "strafe right", "yaw left (degrees)"]


def test_noise_is_a_function_of_seed_clip_and_purpose():
    both, one = Noise(1, range(5, 7), CPU).normal(4), Noise(1, range(6, 7), CPU).normal(4)
    assert torch.equal(both[1], one[0])
    others = [Noise(2, range(6, 7), CPU), Noise(1, range(6, 7), CPU, purpose=1), Noise(1, range(7, 8), CPU)]
    assert not any(torch.equal(other.normal(4), one) for other in others)
    many = Noise(0, range(400), CPU)
    assert abs(float(many.normal(50).std()) - 1) < 0.02 and abs(float(many.uniform(50).mean()) - 0.5) < 0.02


def test_a_pose_is_learned_with_the_skeleton_of_the_data(tmp_path: Path) -> None:
    """The controls of a position are the joints in its own four frames; what has left the picture is hidden."""
    skeleton = {"lines": [[0, 1]], "rest": [[0.5, 0.2], [0.5, 0.8]]}
    index = {"format": FORMAT, "size": [32, 32], "tracks": {"pose": []}, "skeleton": skeleton}
    write_json(tmp_path / "index.json", index)
    pose = np.random.default_rng(0).uniform(0, 1, (13, 2, 3))
    pose[5, 1, 0] = 1.5
    with ShardWriter(tmp_path, 0, (32, 32)) as writer:
        writer.add_clip(np.zeros((13, 32, 32, 3), np.uint8), {"pose": pose}, "clip", ())
    data = VideoDataset(tmp_path)
    condition = fit_condition(data, "pose")
    assert condition == Pose(2, lines=((0, 1),), rest=((0.5, 0.2), (0.5, 0.8)))
    steps = controls(data, 0, 4, 2, "pose")
    assert steps.shape == (2, 4, 2, 3)
    assert np.allclose(steps[1, 0, :, :2], pose[9, :, :2], atol=1e-6) and (steps[1, ..., 2] == 1).all()
    assert steps[0, 0, 1].tolist() == [0, 0, 0] and steps[0, 0, 0, 2] == 1
    assert condition.pack(steps, 4, 4).shape == (2, condition.channels, 4, 4)
