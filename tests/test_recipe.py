"""The whole recipe in its short form learns: every stage beats a baseline that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aapt_video.train.adversarial import AdversarialConfig, AdversarialStage
from aapt_video.train.clips import ClipConfig
from aapt_video.train.monitor import read_scalars
from aapt_video.train.parallel import Processes
from aapt_video.train.places import Places
from aapt_video.train.quick import Quick, quick
from aapt_video.train.sampling import roll_out
from aapt_video.train.stage import Noise, RunConfig


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("quick")


@pytest.fixture(scope="module")
def report(out) -> dict[str, Any]:
    return quick(Quick(out, world="shapes", effort=0.25, quiet=True))


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_codec_beats_a_still_picture_and_the_linear_codec_that_it_started_from(report, out):
    measured = report["measured"]["codec"]
    assert measured["held_out/psnr"] > measured["held_out/psnr_of_copying_the_first"] + 2
    losses = [row["reconstruction"] for row in read_scalars(out / "codec") if "reconstruction" in row]
    assert sum(losses[-2:]) < sum(losses[:2])


def test_diffusion_falls_below_a_net_that_says_nothing(report, out):
    """Velocities of unit-scale latents and noise have variance 2: the loss of v = 0. Measured: 1.3."""
    losses = [row["loss"] for row in read_scalars(out / "diffusion") if "loss" in row]
    assert sum(losses[-2:]) / 2 < 1.7


def test_adaptation_estimates_from_noise_alone_far_better_than_the_mean(report):
    """Measured: 0.37 of the mean's error."""
    measured = report["measured"]["adapt"]
    assert measured["held_out/error@1"] < 0.6 * measured["held_out/error_of_the_mean"]


def test_adaptation_uses_the_recycled_frame(report):
    measured = {name: report["measured"][name]["held_out/error@1"] for name in ("diffusion", "adapt")}
    assert measured["adapt"] < measured["diffusion"]


def test_one_step_of_the_distilled_model_is_nearer_to_the_teachers_sample_than_one_step_of_the_teacher(report):
    """Measured: 0.48 of the latent error, and 2.1 dB."""
    measured = report["measured"]["distill"]
    assert measured["held_out/latent_error"] < 0.75
    assert measured["held_out/psnr_student"] > measured["held_out/psnr_teacher"] + 0.7


def test_adversarial_training_gives_rollouts_the_energy_of_real_video(out):
    """Their deviation over that of the real latents. Measured: 0.81 before and 0.97 after, 0.82 and 0.90."""
    before, after = (energy_of_rollouts(out, result) for result in ("distill", "adversarial"))
    assert before < 0.9 and before + 0.03 < after < 1.1


def energy_of_rollouts(out: Path, result: str) -> float:
    places = Places(out / "data", codec=out / "codec", init=out / result, discriminator=out / "adapt")
    config = AdversarialConfig(RunConfig(0, precision="fp32"), clips=ClipConfig(frames=8, phases=(0,)))
    stage = AdversarialStage(config, places, Processes.start("cpu"), quiet=True)
    clips = stage.load(range(10**6, 10**6 + 32))
    noise = Noise(0, clips.numbers, torch.device("cpu")).normal(*clips.x0.shape[1:])
    with torch.no_grad():
        return float(roll_out(stage.predictor, clips, noise).std() / clips.x0.std())


def test_a_stream_equals_one_parallel_pass(report):
    assert report["stream_against_parallel"] < 1e-4


def test_a_clip_and_a_report_are_left(report, out):
    for name in ("clip.mp4", "clip.png", "report.json", "model/config.json"):
        assert (out / name).stat().st_size > 0
