"""Every figure of an evaluation on cases whose answer is known, and the command on a tiny world."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import TINY, TINY_CODEC, random_model, tiny_generator

from aapt_video.cli import main
from aapt_video.codec import Codec, save_codec
from aapt_video.evaluate.chart import Line, Panel, chart
from aapt_video.evaluate.command import Evaluate, evaluate
from aapt_video.evaluate.evaluation import Setting, evaluate_player, real_figures
from aapt_video.evaluate.figures import motion_figures, picture_figures, seed_figures, spread, without_control
from aapt_video.evaluate.fitting import FitConfig, Networks, measuring_networks
from aapt_video.evaluate.flow import flow, largest, moving
from aapt_video.evaluate.frechet import distance_to_halves, frechet, thinned
from aapt_video.evaluate.lessons import blurred
from aapt_video.evaluate.measures import Measures, features, flows, measure, motions
from aapt_video.evaluate.motion import at_rest, latent_motion
from aapt_video.evaluate.networks import FEATURES, WINDOW, MotionNet, prepared
from aapt_video.evaluate.obedience import judge
from aapt_video.evaluate.players import StreamPlayer, open_player
from aapt_video.evaluate.reference import measure_reference, soften
from aapt_video.evaluate.rollouts import frame_at, real_start, sections, shown_seconds, starts
from aapt_video.evaluate.words import Vocabulary, average_precision, vocabulary
from aapt_video.model.conditions import Camera
from aapt_video.stream import save_generator
from aapt_video.train.clips import controls
from aapt_video.train.export import to_generator
from aapt_video.train.losses import shifted_grid
from aapt_video.train.predictor import Predictor, PredictorConfig, load_predictor, save_predictor
from aapt_video.train.record import write_record
from aapt_video.train.shapes import ShapesConfig, make_shapes
from aapt_video.worlds.camera import integrate_motion, relative_se3
from aapt_video.worlds.dataset import VideoDataset

CPU = torch.device("cpu")
SIZE = {"width": 48, "height": 32}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Real video of a small world: the training split, and the held-out one."""
    root = tmp_path_factory.mktemp("world")
    make_shapes(root / "train", ShapesConfig(clips=120, frames=49, seed=0, **SIZE))
    make_shapes(root / "test", ShapesConfig(clips=24, frames=97, seed=9000, **SIZE))
    return root


@pytest.fixture(scope="module")
def held_out(world):
    return VideoDataset(world / "test")


@pytest.fixture(scope="module")
def networks(world) -> Networks:
    fit = FitConfig(motion_updates=90, look_updates=60)
    return measuring_networks(VideoDataset(world / "train"), world / "networks", fit, CPU, quiet=True)


@pytest.fixture(scope="module")
def reference(held_out, networks, world):
    return measure_reference(held_out, networks, world / "kept", windows=1000, quiet=True)


# -- Fréchet distance --


def gaussian(mean, deviation, seed, count=4000):
    return np.asarray(mean) + np.asarray(deviation) * np.random.default_rng(seed).standard_normal((count, len(mean)))


def test_the_distance_of_two_gaussians_is_the_closed_form():
    """Independent dimensions: squared distance of the means plus that of the deviations."""
    a, b = gaussian([0, 0, 0], [1, 2, 0.5], 0, 200_000), gaussian([1, 0, -2], [1, 1, 1.5], 1, 200_000)
    assert frechet(a, b) == pytest.approx(1 + 4 + 0 + 1 + 1, rel=0.02)


def test_the_distance_sees_how_dimensions_hang_together():
    """Equal means and variances, opposite correlations c: 4 - 4 sqrt(1 - c²) in two dimensions."""
    x = gaussian([0, 0], [1, 1], 2, 200_000)
    c = 0.8
    mix = np.array([[1, 0], [c, math.sqrt(1 - c * c)]])
    assert frechet(x @ mix.T, x @ (mix * [[1], [-1]]).T) == pytest.approx(4 - 4 * math.sqrt(1 - c * c), rel=0.02)


def test_the_distance_is_symmetric_and_zero_to_itself():
    a, b = gaussian([0, 1], [1, 1], 3), gaussian([0, 0], [2, 1], 4)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a))


def test_too_few_features_for_a_covariance_are_refused():
    with pytest.raises(ValueError, match=r"3 features of 3 dimensions.*measure longer"):
        frechet(np.zeros((3, 3)), np.zeros((9, 3)))


def test_thinning_keeps_both_ends_and_the_count():
    kept = thinned(np.arange(100.0)[:, None], 7)
    assert len(kept) == 7 and kept[0] == 0 and kept[-1] == 99


# -- motion --


def camera_controls(motion):
    """[T, 4, 4, 4] of per-frame motions [4 T, 5]: forward, strafe, up, yaw, pitch."""
    path = integrate_motion(np.array([10.0, 20, 0, 300, 0, 90]), np.concatenate([np.zeros((1, 5)), motion]))
    return relative_se3(path)[1:].reshape(-1, 4, 4, 4)


def test_a_latent_frames_motion_is_what_its_four_controls_add_up_to():
    ahead = camera_controls(np.tile([3.0, 0, 0, 0, 0], (4, 1)))
    aside = camera_controls(np.tile([0, 2.0, 0, 0, 0], (4, 1)))
    left = camera_controls(np.tile([0, 0, 0, 1.5, 0], (4, 1)))
    assert latent_motion(ahead)[0] == pytest.approx([12, 0, 0], abs=1e-6)
    assert latent_motion(aside)[0] == pytest.approx([0, 8, 0], abs=1e-6)
    assert latent_motion(left)[0] == pytest.approx([0, 0, 6], abs=1e-6)


def test_rest_is_told_frame_by_frame():
    motion = np.zeros((8, 5))
    motion[3, 0], motion[6, 3] = 1.0, -0.5
    assert at_rest(camera_controls(motion)).tolist() == [True, True, True, False, True, True, False, True]


def test_a_turn_to_the_wrong_side_is_no_agreement_and_slow_turns_are_not_asked():
    asked = np.array([[0, 0, 6.0], [0, 0, -6], [0, 0, 1], [0, 0, 3]])
    seen = asked * [1, 1, -1]
    seen[3] = asked[3]
    figures = motion_figures(seen, asked)
    assert figures["turning"] == 3
    assert figures["direction_agreement"] == pytest.approx(1 / 3)
    assert figures["rotation_error"] == pytest.approx((12 + 12 + 2 + 0) / 4)
    assert motion_figures(asked, asked)["direction_agreement"] == 1


def test_translation_error_is_a_length():
    assert motion_figures(np.array([[3.0, 0, 0]]), np.array([[0, 4.0, 0]]))["translation_error"] == pytest.approx(5)


def test_the_motion_network_answers_a_mirrored_picture_by_the_mirrored_motion():
    net = MotionNet(32, 48).eval()
    pictures = torch.randn(2, 5, 32, 48)
    mirrored = torch.tensor([1.0, -1, -1])
    assert torch.allclose(net.read(pictures.flip(-1)), net.read(pictures) * mirrored, atol=1e-5)


def test_the_motion_network_reads_real_turns_and_reports_a_clip_that_turns_the_wrong_way(held_out, networks):
    right, wrong = [], []
    for clip in range(4):
        start, video = real_start(held_out, clip)
        right.append(motion_figures(motions(video, networks), start.motion)["direction_agreement"])
        wrong.append(motion_figures(motions(video.flip(2), networks), start.motion)["direction_agreement"])
    assert np.mean(right) > 0.9
    assert np.mean(wrong) < 0.1


# -- flow --


def texture(seed=0, height=64, width=96):
    noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return blurred(noise, 3.0) * 4


@pytest.mark.parametrize(("across", "down"), [(0, 0), (3, 0), (-2, 1), (6, -2)])
def test_flow_finds_how_far_a_picture_was_shifted(across, down):
    picture = texture()
    found = flow(picture, picture.roll((down, across), (2, 3)))[0, :, 8:-8, 8:-8]
    assert found.flatten(1).median(1).values.tolist() == pytest.approx([across, down], abs=0.3)


def test_the_largest_flow_is_that_of_the_fastest_twentieth():
    still = torch.zeros(1, 2, 10, 20)
    still[0, 0, 0, :10] = 5.0
    assert largest(still).tolist() == [5.0]
    still[0, 0, 0, :5] = 0.0
    assert largest(still).tolist() == [2.5]


def test_a_clip_is_dynamic_when_a_quarter_of_its_pairs_move():
    assert moving(np.array([0.03] * 10 + [0.0] * 30))
    assert not moving(np.array([0.03] * 9 + [0.0] * 31))
    assert not moving(np.full(40, 0.023))


# -- one video --


def made(networks, edges=1.0, change=0.0, flow=1.0, T=60):
    """Measures of a made-up video of T latent frames."""
    return Measures(
        np.zeros((T - 3, FEATURES), np.float32), np.zeros((T, 3), np.float32),
        np.full(4 * T // 3 - 1, flow, np.float32), np.full(T, edges, np.float32),
        np.full(4 * T, change, np.float32), np.zeros((0, 512), np.float32),
    )  # fmt: skip


def test_a_constant_video_does_not_flicker_and_is_not_dynamic(held_out, networks):
    _, video = real_start(held_out, 0)
    frozen = measure(video[:1].expand(len(video), -1, -1, -1).contiguous(), networks)
    assert frozen.change.max() == 0
    assert frozen.flow.max() < 1e-3
    assert np.abs(frozen.motion).max() < 3


def test_flicker_counts_only_frames_that_were_asked_to_stand_still(reference):
    start = reference.starts[0]
    motion = np.zeros((240, 5))
    motion[100:, 0] = 3.0
    start = replace(start, controls=camera_controls(motion))
    video = made(None)
    video.change[:100], video.change[100:] = 2.0, 50.0
    assert picture_figures([video], [start], reference)["flicker"] == pytest.approx(2.0)
    assert math.isnan(picture_figures([video], [start], reference, slice(30, 60))["flicker"])


def test_sharpness_and_dynamic_degree_are_one_for_real_video_and_less_behind_a_blur(reference, networks, held_out):
    whole = picture_figures(reference.measures, reference.starts, reference)
    assert whole["sharpness"] == pytest.approx(1)
    assert whole["dynamic_degree"] == pytest.approx(1)
    _, video = real_start(held_out, 1)
    soft = measure(soften(video), networks)
    assert soft.edges.mean() < 0.6 * reference.measures[1].edges.mean()


def test_flow_of_a_slowed_video_is_smaller(held_out):
    _, video = real_start(held_out, 0)
    slow = video[:80].repeat_interleave(2, 0)
    assert flows(slow, CPU).mean() < 0.8 * flows(video, CPU).mean()


def test_measures_come_back_from_the_file(tmp_path, networks):
    before = made(networks, edges=2.0, change=3.0)
    before.save(tmp_path / "m.npz")
    after = Measures.load(tmp_path / "m.npz")
    assert after.latent_frames == 60 and np.array_equal(after.change, before.change)


def test_a_video_of_another_length_is_refused(networks):
    with pytest.raises(ValueError, match=r"video has 20 frames; it must be 1 \+ a multiple of 4"):
        measure(torch.zeros(20, 32, 48, 3, dtype=torch.uint8), networks)


# -- features of real video --


def test_real_video_is_near_real_video_and_blurred_or_shuffled_video_is_not(reference):
    """Measured: 4 and 1.15 times the floor, after 60 updates in a world of few rooms, where hardly anything moves."""
    floor = reference.floor()
    assert reference.windows > 2 * FEATURES
    assert reference.control("blurred") > 1.5 * floor
    assert reference.control("shuffled") > 1.05 * floor


def test_a_fading_clip_drifts_and_a_real_one_does_not(reference, networks, held_out):
    fading, real, begun = [], [], []
    for clip in range(24):
        start, video = real_start(held_out, clip)
        shade = torch.linspace(1, 0.1, len(video))[:, None, None, None]
        fading.append(measure((video * shade).to(torch.uint8), networks))
        real.append(reference.measures[clip])
        begun.append(start)
    # Sections of ten seconds are longer than these clips: the halves of each stand for them.
    first, last = slice(0, 12), slice(12, 24)

    def ratio(measures):
        distances = [
            distance_to_halves(np.concatenate([m.features[s.start : s.stop - 3] for m in measures]), reference.halves())
            for s in (first, last)
        ]
        return distances[1] / distances[0]

    assert ratio(fading) > 2
    assert ratio(real) < 1.5


def test_a_seeds_figures_have_a_section_for_every_ten_seconds(reference):
    videos = [made(None, T=180) for _ in range(3)]
    begun = [replace(reference.starts[0], controls=camera_controls(np.ones((720, 5)))) for _ in videos]
    whole, parts = seed_figures(videos, begun, reference)
    assert [(part["seconds_from"], part["seconds_to"]) for part in parts] == [(0, 10), (10, 20), (20, 30)]
    assert whole["frechet_last_section"] == parts[-1]["frechet"] > 0
    assert whole["drift"] == pytest.approx(1)


def test_features_depend_on_the_order_of_frames(networks, held_out):
    _, video = real_start(held_out, 0)
    assert not np.allclose(features(video[:WINDOW], networks), features(video[:WINDOW].flip(0), networks), atol=1e-2)


def test_larger_pictures_are_averaged_down_before_they_are_measured():
    assert prepared(torch.zeros(2, 416, 736, 3, dtype=torch.uint8)).shape == (2, 3, 80, 144)
    assert prepared(torch.zeros(2, 96, 128, 3, dtype=torch.uint8)).shape == (2, 3, 96, 128)


# -- where videos begin, and what is shown --


def test_starts_are_spread_over_the_clips_and_borrow_controls_where_a_clip_ends(held_out):
    chosen = starts(held_out, 3, 60, "camera")
    assert [start.clip for start in chosen] == [0, 8, 16]
    assert all(start.controls.shape == (60, 4, 4, 4) for start in chosen)
    assert np.allclose(chosen[1].controls[24:48], controls(held_out, 9, 0, 24, "camera"))


def test_more_starts_than_clips_are_refused(held_out):
    with pytest.raises(ValueError, match=r"clips=25, but the data in .* has 24"):
        starts(held_out, 25, 10, "camera")


def test_sections_cover_a_video_and_none_is_short():
    assert list(sections(360)) == [slice(i, i + 60) for i in range(0, 360, 60)]
    assert list(sections(75)) == [slice(0, 75)]
    assert list(sections(95)) == [slice(0, 60), slice(60, 95)]
    assert list(sections(12)) == [slice(0, 12)]


def test_pictures_are_shown_after_1_10_and_60_seconds_as_far_as_the_video_goes():
    assert shown_seconds(1440) == [1, 10, 60]
    assert shown_seconds(48) == [1, 2]
    assert frame_at(60) == 1440


# -- words --


def test_the_vocabulary_leaves_out_what_says_nothing_and_what_is_everywhere(held_out):
    words = vocabulary(held_out)
    assert "room" not in words.words and "a" not in words.words
    assert set(words.words) <= {"red", "green", "blue", "grey"}


def test_captions_differ_by_the_words_that_only_one_has():
    words = Vocabulary(("dim", "brick", "steel"), (0.5, 0.5, 0.5))
    assert words.marks("a dim room of brick").tolist() == [1, 1, 0]
    assert words.differing("a dim room of brick", "a dim hall of steel") == 2


def test_average_precision_of_a_perfect_and_of_a_reversed_order():
    marks = np.array([1.0, 1, 0, 0])
    assert average_precision(np.array([4.0, 3, 2, 1]), marks) == 1
    assert average_precision(np.array([1.0, 2, 3, 4]), marks) == pytest.approx((1 / 3 + 2 / 4) / 2)


# -- players --


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


def test_many_steps_that_are_one_make_the_video_that_a_stream_makes(stage, held_out, networks):
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


# -- the report --


def test_spread_over_one_seed_is_not_a_number():
    one, two = spread([{"x": 1.0}]), spread([{"x": 1.0}, {"x": 3.0}])
    assert math.isnan(one["deviation"]["x"])
    assert (two["mean"]["x"], two["deviation"]["x"]) == (2.0, pytest.approx(math.sqrt(2)))


def test_the_chart_leaves_out_what_was_not_measured():
    nan = math.nan
    text = chart([Panel("a & b", (Line("m<1>", (1.0, nan), (0.1, nan)),), 0.5), Panel("none", (), nan)], [5, 15])
    assert "a &amp; b" in text and "m&lt;1&gt;" in text
    assert "not measured" in text
    assert "nan" not in text


# -- the command --


@pytest.fixture(scope="module")
def model(world):
    save_generator(tiny_generator(text_tokens=20), world / "tiny")
    return world / "tiny"


@pytest.fixture(scope="module")
def asked(world, model) -> Evaluate:
    return Evaluate(
        (model,), world / "train", world / "test", world / "out", networks=world / "networks", frames=96, clips=5,
        seeds=2, fit=FitConfig(motion_updates=90, look_updates=60), device="cpu", quiet=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(asked, networks):
    return evaluate(asked)


def test_a_report_holds_every_figure_of_the_model_beside_that_of_real_video(report, asked):
    model, real = report["models"]["tiny"], report["real"]
    for name in ("frechet", "rotation_error", "translation_error", "direction_agreement", "sharpness", "dynamic_degree",
                 "next_latent_psnr", "codec_psnr", "copying_psnr", "obedience"):  # fmt: skip
        assert math.isfinite(model["mean"][name]), name
    assert model["mean"]["frechet"] > 3 * real["figures"]["frechet"], "random weights look like nothing real"
    assert model["videos"] == 10 and model["passes"] == 1
    written = json.loads((asked.out / "evaluation.json").read_text())
    assert written["models"]["tiny"]["seeds"].keys() == {"0", "1"}
    assert written["finished"]


def test_a_chart_and_a_sheet_are_left(report, asked):
    assert (asked.out / "evaluation.svg").read_text().startswith("<svg")
    assert (asked.out / "sheet-tiny.png").stat().st_size > 0


def test_a_second_run_makes_no_video_again_and_a_fresh_one_finds_the_same(report, asked, world, monkeypatch):
    fresh = evaluate(replace(asked, out=world / "again", seeds=1))
    assert fresh["models"]["tiny"]["seeds"]["0"] == pytest.approx(report["models"]["tiny"]["seeds"]["0"], nan_ok=True)
    monkeypatch.setattr("aapt_video.evaluate.players.StreamPlayer.play", None)
    monkeypatch.setattr("aapt_video.evaluate.reference.measure", None)
    kept = evaluate(asked)
    assert kept["models"]["tiny"]["mean"] == pytest.approx(report["models"]["tiny"]["mean"], nan_ok=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frames", "90"], "frames=90 must be a multiple of 4"),
        (["--clips", "0"], "clips=0 must be >= 1"),
        (["--held-out", "{train}"], "is the training data"),
        (["--data", "{nowhere}"], "no dataset"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(words, said, asked, world, capsys):
    places = {"{train}": str(world / "train"), "{nowhere}": str(world / "nowhere")}
    usual = {"--data": str(asked.data), "--held-out": str(asked.held_out)}
    usual |= dict(zip(words[::2], (places.get(word, word) for word in words[1::2]), strict=True))
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(asked.models[0]), *(word for pair in usual.items() for word in pair)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2
    assert len(lines) == 1 and said in lines[0]


def test_a_folder_without_a_model_is_named(asked, world, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(world / "none"), "--data", str(asked.data), "--held-out", str(asked.held_out)])
    assert "none" in capsys.readouterr().err
