"""Real video as a model, and models that play."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import TINY, TINY_CODEC, random_model

from aapt_video.codec import Codec, save_codec
from aapt_video.evaluate.evaluation import Setting, evaluate_player, real_figures
from aapt_video.evaluate.figures import without_control
from aapt_video.evaluate.obedience import judge
from aapt_video.evaluate.players import StreamPlayer, open_player
from aapt_video.evaluate.reference import soften
from aapt_video.evaluate.rollouts import starts
from aapt_video.model.conditions import Camera
from aapt_video.train.export import to_generator
from aapt_video.train.losses import shifted_grid
from aapt_video.train.predictor import Predictor, PredictorConfig, load_predictor, save_predictor
from aapt_video.train.record import write_record
from aapt_video.train.shapes import ShapesConfig, make_shapes
from aapt_video.worlds.dataset import VideoDataset

CPU = torch.device("cpu")


class Projector:
    """Plays real held-out video: of the start's own clip, or, if it reads, of the first clip with the caption."""

    fingerprint, grid, condition, predictor = "projector", torch.tensor([0.0, 1.0]), Camera(), None

    def __init__(self, data, reads=False, change=lambda video: video):
        self.data, self.reads, self.change, self.knows_text = data, reads, change, True
        self.name = f"projector-{reads}-{change.__name__}"

    def play(self, start, prompt, controls, seed, tick):
        clips = range(len(self.data.clips))
        if self.reads:
            clip = next(i for i in clips if self.data.clips[i].captions[0].text == prompt)
        else:
            clip = next(i for i in clips if np.array_equal(self.data.window(i, 0, 1).video[0], start))
        tick(len(controls))
        return self.change(torch.from_numpy(self.data.window(clip, 0, 1 + 4 * len(controls)).video))


@pytest.fixture(scope="module")
def setting(held_out, networks, reference, world):
    return Setting(held_out, "camera", starts(held_out, 16, 24, "camera"), [0], networks, reference, world / "kept")


@pytest.fixture(scope="module")
def projected(held_out, setting):
    return evaluate_player(Projector(held_out), setting, lambda done: None)[0]["mean"]


def test_real_video_as_a_model_scores_what_real_video_scores(projected, setting):
    real = real_figures(setting)["figures"]
    assert projected["frechet"] < 1.5 * real["frechet"]
    assert projected["direction_agreement"] > 0.9
    assert projected["sharpness"] == pytest.approx(1, abs=0.2)
    assert projected["dynamic_degree"] == pytest.approx(1, abs=0.3)


def test_blurred_video_as_a_model_is_softer_and_further_away(projected, held_out, setting):
    soft = evaluate_player(Projector(held_out, change=soften), setting, lambda done: None)[0]["mean"]
    assert soft["sharpness"] < 0.6 * projected["sharpness"]
    assert soft["frechet"] > projected["frechet"]


def test_mirrored_video_as_a_model_turns_the_wrong_way(held_out, setting):
    def mirror(video):
        return video.flip(2)

    mirrored = evaluate_player(Projector(held_out, change=mirror), setting, lambda done: None)[0]["mean"]
    assert mirrored["direction_agreement"] < 0.1


def test_a_model_that_reads_obeys_and_one_that_does_not_read_does_not(projected, held_out, setting, networks):
    reading = evaluate_player(Projector(held_out, reads=True), setting, lambda done: None)[0]["mean"]
    assert judge(setting.reference, networks).own_caption > 0.7
    assert reading["obedience"] > 0.7
    assert projected["obedience"] == 0


@pytest.fixture(scope="module")
def stage(world):
    """A result of the stage adapt, with random weights, and its codec."""
    config = replace(TINY, text_tokens=20)
    torch.manual_seed(0)
    predictor = Predictor(PredictorConfig(config, 0, Camera()))
    predictor.transformer.load_state_dict(random_model(config, dtype=torch.float32).state_dict())
    save_predictor(world / "adapt", predictor.config, predictor.state_dict())
    write_record(world / "adapt", {"stage": "adapt", "config": {"shift": 3.0}})
    save_codec(Codec(TINY_CODEC), world / "codec")
    return world / "adapt", world / "codec"


def test_many_steps_that_are_one_make_the_video_that_a_stream_makes(stage, held_out):
    folder, codec = stage
    stepping = open_player("adapt", folder, codec, held_out, 1, CPU)
    streaming = StreamPlayer("stream", to_generator(load_predictor(folder), codec, held_out, 0))
    start = starts(held_out, 1, 6, "camera")[0]
    videos = [p.play(start.picture, start.caption, start.controls, 5, lambda done: None) for p in (stepping, streaming)]
    assert videos[0].shape == (25, 32, 48, 3)
    assert (videos[0].int() - videos[1].int()).abs().max() <= 1
    assert len(stepping.grid) == 2


def test_more_steps_take_the_grid_of_the_training(stage, held_out):
    player = open_player("adapt", *stage, held_out, 4, CPU)
    assert torch.allclose(player.grid, shifted_grid(4, 3.0))


def test_a_stages_result_needs_its_codec(stage, held_out):
    with pytest.raises(ValueError, match="--codec"):
        open_player("adapt", stage[0], None, held_out, 4, CPU)


def test_a_bidirectional_model_is_refused(stage, held_out, tmp_path):
    predictor = load_predictor(stage[0]).recast(causal=False)
    save_predictor(tmp_path, predictor.config, predictor.state_dict())
    with pytest.raises(ValueError, match="bidirectional"):
        open_player("diffusion", tmp_path, stage[1], held_out, 4, CPU)


def test_a_model_of_another_size_is_refused(model, tmp_path):
    make_shapes(tmp_path, ShapesConfig(clips=1, frames=5, width=64, height=48))
    with pytest.raises(ValueError, match="makes pictures of 48x32, and held_out has 64x48"):
        open_player("tiny", model, None, VideoDataset(tmp_path), 4, CPU)


def test_what_nothing_steers_is_not_judged_by_controls():
    left = without_control({"rotation_error": 3.0, "sharpness": 1.0})
    assert math.isnan(left["rotation_error"]) and left["sharpness"] == 1.0
