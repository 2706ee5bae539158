"""The adversarial stage: what the discriminator sees, what flows where, and when it gives up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from aapt_video.model import NAMED
from aapt_video.model.conditions import Camera
from aapt_video.train.adversarial import DISCRIMINATOR, GENERATOR, AdversarialConfig, AdversarialStage
from aapt_video.train.checkpoint import load_newest
from aapt_video.train.clips import ClipConfig, Clips
from aapt_video.train.codec import CodecStage, CodecStageConfig
from aapt_video.train.collapse import Health, Limits
from aapt_video.train.contest import Segment, motion
from aapt_video.train.discriminator import Discriminator, DiscriminatorConfig, load_discriminator
from aapt_video.train.latent_stage import RecycledConfig
from aapt_video.train.loop import Trainer
from aapt_video.train.losses import approximate_penalty, relativistic_loss
from aapt_video.train.parallel import Processes
from aapt_video.train.places import Places
from aapt_video.train.predictor import Predictor, PredictorConfig, save_predictor
from aapt_video.train.sampling import Roller, one_step, roll_out
from aapt_video.train.shapes import ShapesConfig, make_shapes
from aapt_video.train.stage import Collapsed, Loss, Noise, RunConfig

from .test_codec_stage import CODEC

FRAMES = 5


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module


@pytest.fixture
def model(seed) -> Predictor:
    config = PredictorConfig(replace(NAMED["tiny"], window=2, pinned_cap=3), 1, Camera())
    return randomised(Predictor(config)).double()


@pytest.fixture
def clips(seed) -> Clips:
    latents = torch.randn(2, 1 + FRAMES, 4, 4, 6, dtype=torch.float64)
    condition = torch.randn(2, FRAMES, 24, 4, 6, dtype=torch.float64)
    return Clips(range(2), latents, condition, ("a red room", ""))


def judge(model: Predictor, **changes: object) -> Discriminator:
    return randomised(Discriminator(model, DiscriminatorConfig(**changes), 1 + FRAMES)).double()


def seen_by(discriminator: Discriminator, at: int, of: str) -> torch.Tensor:
    """Which logits change with latent, or condition, number `at`."""
    latents = torch.randn(1, 1 + FRAMES, 4, 4, 6, dtype=torch.float64)
    condition = torch.randn(1, 1 + FRAMES, 24, 4, 6, dtype=torch.float64)
    t = torch.full((1,), 0.3, dtype=torch.float64)
    before = discriminator(latents, condition, ("",), t)
    (latents if of == "latent" else condition)[:, at] += 1
    return (discriminator(latents, condition, ("",), t) != before)[0]


@pytest.mark.parametrize("of", ["latent", "condition"])
def test_logit_k_judges_the_clip_up_to_frame_k_and_latent_0_has_none(model, of):
    for at in range(1 + FRAMES):
        expected = [k >= at for k in range(1, 1 + FRAMES)]
        assert seen_by(judge(model), at, of).tolist() == expected


@pytest.mark.parametrize("changes", [{"sees": "clip"}, {"logits": "clip"}, {"sees": "clip", "logits": "clip"}])
def test_the_other_heads_see_the_whole_clip(model, changes):
    seen = seen_by(judge(model, **changes), FRAMES, "latent")
    assert seen.all() and len(seen) == (1 if changes.get("logits") == "clip" else FRAMES)


def test_a_new_head_knows_nothing_and_its_first_loss_is_ln_2(model, clips):
    discriminator = Discriminator(model, DiscriminatorConfig(), 1 + FRAMES).double()
    condition = torch.cat([clips.condition[:, :1], clips.condition], 1)
    logits = discriminator(clips.latents, condition, clips.prompts, torch.rand(2).double())
    assert logits.shape == (2, FRAMES) and logits.abs().max() == 0
    assert relativistic_loss(logits, logits).item() == pytest.approx(0.6931472)
    kept = discriminator.backbone.state_dict()
    assert all(torch.equal(kept[name].double(), value) for name, value in model.state_dict().items())


def test_the_penalty_is_the_squared_gradient_times_the_noises_variance():
    weight = torch.randn(64, dtype=torch.float64)
    x, noise = (torch.randn(20000, 64, dtype=torch.float64) for _ in range(2))
    penalty = approximate_penalty(x @ weight, (x + 0.1 * noise) @ weight)
    assert penalty.item() == pytest.approx(0.01 * weight.square().sum().item(), rel=0.05)


def test_the_winner_is_paid_for_being_more_real():
    high, low = torch.tensor([2.0, 3.0]), torch.tensor([-1.0, 0.5])
    assert relativistic_loss(high, low).item() == pytest.approx(-F.logsigmoid(high - low).mean().item())
    assert relativistic_loss(high, low) < relativistic_loss(low, high)


def test_a_cut_lets_gradients_go_and_changes_no_number(model, clips):
    whole = roll_out(model, clips, noise := torch.randn_like(clips.x0))
    noise = noise.requires_grad_()
    roller = Roller(model, clips.latents[:, 0], clips.prompts)
    roller(noise[:, :3], clips.condition[:, :3])
    roller.cut()
    rest = roller(noise[:, 3:], clips.condition[:, 3:])
    torch.testing.assert_close(rest, whole[:, 3:], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(rest.sum(), noise)
    assert gradient[:, :3].abs().max() == 0 and gradient[:, 3].abs().max() > 0


# -- the stage, on a world of moving shapes --


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    root = tmp_path_factory.mktemp("adversarial")
    make_shapes(root / "data", ShapesConfig(clips=6, seed=0))
    processes = Processes.start("cpu")
    run = RunConfig(1, 2, precision="fp32")
    stage = CodecStage(
        CodecStageConfig(run, CODEC, crop=32, fit_clips=4, held_out_clips=1), Places(root / "data"), processes
    )
    Trainer(stage, root / "codec", processes, quiet=True).fit()
    torch.manual_seed(0)
    transformer = replace(NAMED["tiny"], window=4, pinned_cap=FRAMES, text="none")
    predictor = randomised(Predictor(PredictorConfig(transformer, 1, Camera())))
    save_predictor(root / "adapt", predictor.config, predictor.state_dict())
    return Places(root / "data", codec=root / "codec", init=root / "adapt", discriminator=root / "adapt")


CONFIG = AdversarialConfig(
    RunConfig(6, 2, precision="fp32", checkpoint_every=2, log_every=1),
    clips=ClipConfig(frames=FRAMES, phases=(0,)),
    warmup=1,
    held_out_clips=2,
    limits=Limits(motion=(0.0, 1e6)),
)


def stage_of(places: Places, **changes: object) -> AdversarialStage:
    return AdversarialStage(replace(CONFIG, **changes), places, Processes.start("cpu"), quiet=True)


def test_the_discriminator_begins_alone_and_then_moves_as_often_as_asked(places):
    stage = stage_of(places, warmup=2, generator_every=3)
    both = [step for step in range(11) if GENERATOR in stage.turns(step)]
    assert both == [4, 7, 10] and all(DISCRIMINATOR in stage.turns(step) for step in range(11))


def test_each_turn_leaves_gradients_in_its_own_player_alone(places):
    stage = stage_of(places)
    randomised(stage.discriminator)
    for turn, other in ((GENERATOR, DISCRIMINATOR), (DISCRIMINATOR, GENERATOR)):
        for module in stage.modules.values():
            module.zero_grad()
        stage.loss(0, stage.load(range(2)), turn).total.backward()
        own, others = ([p.grad for p in stage.modules[name].parameters()] for name in (turn, other))
        assert sum(g is not None and bool(g.abs().max() > 0) for g in own) > 10
        assert all(g is None for g in others)
        assert all(p.requires_grad for module in stage.modules.values() for p in module.parameters())


def test_segments_overlap_and_every_real_window_is_as_long_as_the_generated_one(places):
    stage = stage_of(places, segments=3, overlap=2)
    judged = []

    class Spy(torch.nn.Module):
        def forward(self, latents, condition, prompts, t, recompute=False):
            judged.append((latents, condition))
            return latents.flatten(2).mean(-1)[:, 1:]

    stage.discriminator = Spy()
    clips = stage.load(range(2))
    assert clips.latents.shape[1] == 1 + FRAMES + 2 * (1 + FRAMES - 2)
    parts = list(stage.losses(0, clips, DISCRIMINATOR))
    assert len(parts) == len(judged) == 3
    before = None
    for segment, (latents, condition) in enumerate(judged):
        real, fake, *_ = latents.chunk(4)
        begin = segment * (1 + FRAMES - 2)
        torch.testing.assert_close(real, clips.latents[:, begin : begin + 1 + FRAMES])
        wanted = clips.condition[:, begin - 1 : begin + FRAMES] if segment else clips.condition[:, :FRAMES]
        torch.testing.assert_close(condition[:2] if segment else condition[:2, 1:], wanted)
        if before is None:
            assert torch.equal(fake[:, 0], clips.latents[:, 0])
        else:
            assert torch.equal(fake[:, :2], before[:, -2:])
        before = fake


def test_a_long_video_is_the_same_rollout_as_a_short_one(places):
    """Segment by segment with cuts between them, or at once: the last latents are equal."""
    stage = stage_of(places, segments=2, overlap=2)
    clips = stage.load(range(2))
    made = []

    def keep(step: int, segment: Segment, noise: Noise) -> Loss:
        made.append(segment.fake)
        return Loss(torch.zeros(()), {})

    stage._discriminator_loss = keep
    list(stage.losses(0, clips, DISCRIMINATOR))
    epsilon = Noise(0, clips.numbers, torch.device("cpu"), purpose=4).normal(*clips.x0.shape[1:])
    with torch.no_grad():
        whole = roll_out(stage.predictor, clips, epsilon)
    torch.testing.assert_close(made[1][:, 2:], whole[:, -4:], rtol=1e-5, atol=1e-5)


def test_both_players_see_the_same_crop_and_the_squared_distance_sees_the_whole(places):
    """Seams between the generator's patches, which begin at even rows and columns, lie inside the discriminator's."""
    stage = stage_of(places, crop=True, regression=1.0)
    judged = []

    class Spy(torch.nn.Module):
        def forward(self, latents, condition, prompts, t, recompute=False):
            judged.append((latents, condition))
            return latents.flatten(2).mean(-1)[:, 1:]

    stage.discriminator = Spy()
    clips = stage.load(range(2))
    height, width = clips.latents.shape[-2:]
    crops = set()
    for step in range(16):
        judged.clear()
        stage.loss(step, clips, DISCRIMINATOR)
        distance = stage.loss(step, clips, GENERATOR).scalars["distance"]
        rows, columns = stage._crop(step)
        seen = (..., slice(rows, height - rows), slice(columns, width - columns))
        (both, condition), (real, own), (fake, _) = judged
        assert torch.equal(both[:2], clips.latents[seen]) and torch.equal(real, both[:2]) and fake.shape == real.shape
        assert torch.equal(condition[:2, 1:], clips.condition[seen]) and torch.equal(own, condition[:2])
        torch.testing.assert_close(distance, whole_distance(stage, clips))
        crops.add((rows, columns))
    assert crops == {(0, 0), (0, 1), (1, 0), (1, 1)}


def whole_distance(stage: AdversarialStage, clips: Clips) -> torch.Tensor:
    noise = Noise(0, clips.numbers, torch.device("cpu"), purpose=5).normal(*clips.x0.shape[1:])
    with torch.no_grad():
        return (roll_out(stage.predictor, clips, noise) - clips.x0)[:, : stage.config.regressed].square().mean()


def test_latents_that_are_too_small_to_crop_are_refused(places, monkeypatch):
    monkeypatch.setattr("aapt_video.train.adversarial.CROPPED_AT_LEAST", 100)
    with pytest.raises(ValueError, match=r"crop: latents of .* are too small"):
        stage_of(places, crop=True)


def test_a_rare_penalty_weighs_as_much_as_one_in_every_update(places):
    stage = stage_of(places, penalty=7.0, penalty_every=3)
    randomised(stage.discriminator)
    clips = stage.load(range(2))
    losses = [stage.loss(step, clips, DISCRIMINATOR) for step in range(6)]
    assert ["r1" in loss.scalars for loss in losses] == [True, False, False] * 2
    for loss in losses:
        extra = 3 * 7.0 * (loss.scalars["r1"] + loss.scalars["r2"]) if "r1" in loss.scalars else 0.0
        torch.testing.assert_close(loss.total, loss.scalars["contest"] + extra)
        torch.testing.assert_close(loss.scalars["contest"], losses[0].scalars["contest"])


@pytest.mark.parametrize("power, expected", [(1, 1.0), (2, 0.25)])
def test_a_sigma_within_which_the_discriminator_bends_is_told(places, power, expected):
    """Of D(x) = (n - x)^p around n = x, 4 D(sigma/2)^2 / D(sigma)^2 is 4^(1 - p)."""
    stage = stage_of(places)
    real = stage.held_out.latents[:, : 1 + FRAMES]

    class Power(torch.nn.Module):
        def forward(self, latents, condition, prompts, t, recompute=False):
            return ((latents - real) ** power).flatten(2).sum(-1)[:, 1:]

    stage.discriminator = Power()
    with torch.no_grad():
        assert stage.measure()["held_out/linear"] == pytest.approx(expected, rel=1e-3)


def test_regression_pulls_the_first_latents_to_the_real_clip_and_leaves_the_rest_alone(places):
    """Of later latents the past says little; the real window of a later segment is not what it leads to at all."""
    plain, pulled = (stage_of(places, segments=2, overlap=2, regression=weight) for weight in (0.0, 5.0))
    pulled.discriminator.load_state_dict(plain.discriminator.state_dict())
    pairs = zip(*(stage.losses(0, stage.load(range(2)), GENERATOR) for stage in (plain, pulled)), strict=True)
    for segment, (without, with_it) in enumerate(pairs):
        added = 5.0 * with_it.scalars["distance"] if segment == 0 else torch.zeros(())
        torch.testing.assert_close(with_it.total - without.total, added)
        assert with_it.scalars["distance"] > 0

    stage = stage_of(places, regression=5.0, regressed=3)
    clips, distances = stage.load(range(2)), {}
    condition = stage._condition(clips, slice(0, 1 + FRAMES))
    for at in range(1, 1 + FRAMES):
        fake = clips.latents.clone()
        fake[:, at] += 2
        loss = stage._generator_loss(0, Segment(clips.latents, fake, condition, clips.prompts, torch.zeros(2)), 5.0)
        distances[at] = float(loss.scalars["distance"])
    assert distances == pytest.approx({at: 4 / 3 if at <= 3 else 0 for at in range(1, 1 + FRAMES)})


def test_unjudged_segments_bring_the_judged_one_to_late_latents(places):
    """Their videos began before the clip did, under its controls again and again; the judged latents are its own."""
    stage = stage_of(places, unjudged=3, overlap=2)
    step, count = stage.config.step, stage.config.positions
    clips = stage.load(range(2))
    assert clips.x0.shape[1] == FRAMES + step and count == FRAMES + 3 * step
    purposes = {"both": 8, GENERATOR: 5, DISCRIMINATOR: 4}
    noise = {of: Noise(0, clips.numbers, torch.device("cpu"), purpose) for of, purpose in purposes.items()}
    epsilon = {of: noise[of].normal(count, *clips.x0.shape[2:]) for of in noise}

    def video(skipped: int, turn: str) -> torch.Tensor:
        """Of a video that goes through so many segments unjudged, from the clip's latent 0 on."""
        before, frames = max(0, skipped - 1) * step, clips.x0.shape[1]
        unjudged = before + FRAMES if skipped else 0
        steering = torch.cat([clips.condition] * 3, 1)[:, 2 * frames - before :][:, : before + frames]
        own = epsilon[turn][:, FRAMES:frames] if skipped else epsilon[turn][:, :frames]
        roller = Roller(stage.predictor, clips.latents[:, 0], clips.prompts)
        with torch.no_grad():
            made = roller(torch.cat([epsilon["both"][:, :unjudged], own], 1), steering)
        return torch.cat([clips.latents[:, :1], made], 1)[:, before:]

    skipped, turn, judged = 0, "", []

    def keep(update: int, segment: Segment, *_: object) -> Loss:
        span = slice(min(1, skipped) * step, min(1, skipped) * step + 1 + FRAMES)
        torch.testing.assert_close(segment.fake, video(skipped, turn)[:, span], rtol=1e-5, atol=1e-5)
        assert torch.equal(segment.real, clips.latents[:, span])
        judged.append(skipped)
        return Loss(segment.fake.square().mean(), {})

    stage._generator_loss = stage._discriminator_loss = keep
    for update in range(24):
        skipped = stage._skipped(update)
        stage.predictor.zero_grad()
        turn = DISCRIMINATOR
        assert not stage.loss(update, clips, turn).total.requires_grad, "the rollout left gradients"
        turn = GENERATOR
        stage.loss(update, clips, turn).total.backward()
        assert any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in stage.predictor.parameters())
    assert set(judged) == {0, 1, 2, 3} and judged.count(0) > judged.count(3)
    with torch.no_grad():
        assert {"held_out/motion_late", "held_out/edges_late"} <= stage.measure().keys()


def test_a_run_that_was_stopped_goes_on_bit_for_bit_and_a_later_phase_continues_both_players(places, tmp_path):
    def run(out: Path, steps: int, break_at: int = -1) -> None:
        stage = stage_of(places)
        trainer = Trainer(stage, out, Processes.start("cpu"), quiet=True)
        if break_at >= 0:
            real = stage.load
            stage.load = lambda clips: 1 / 0 if clips.start >= 2 * break_at else real(clips)
        trainer.fit()

    run(tmp_path / "whole", 6)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "parts", 6, break_at=4)
    run(tmp_path / "parts", 6)
    whole, parts = (load_newest(tmp_path / name / "checkpoints") for name in ("whole", "parts"))
    for file, tensors in whole.tensors.items():
        assert all(torch.equal(value, parts.tensors[file][name]) for name, value in tensors.items()), file
    assert whole.tensors["kept"]["health"].abs().max() > 0

    later = replace(places, init=tmp_path / "whole", discriminator=tmp_path / "whole")
    stage = stage_of(later)
    average = load_newest(tmp_path / "whole" / "checkpoints").tensors["ema"]
    for name, module in stage.modules.items():
        for key, value in module.named_parameters():
            torch.testing.assert_close(value.detach(), average[f"{name}/{key}"])
    with pytest.raises(ValueError, match="the configuration asks for"):
        load_discriminator(tmp_path / "whole", DiscriminatorConfig(logits="clip"), 1 + FRAMES)


@pytest.mark.parametrize(
    "values, word",
    [
        ({"discriminator/gap": 50.0, "discriminator/motion": 1.0}, "has won"),
        ({"discriminator/gap": 0.0, "discriminator/motion": 0.01}, "stands still"),
        ({"discriminator/gap": 0.0, "discriminator/motion": 90.0}, "moves wildly"),
        ({"held_out/spread": 1e-6}, "noise is ignored"),
    ],
)
def test_what_has_collapsed_is_said_and_what_is_healthy_goes_on(values, word):
    health = Health(Limits())
    for _ in range(200):
        health.check({"discriminator/gap": 1.0, "discriminator/motion": 0.8})
    health.check({"held_out/spread": 0.3})
    if "discriminator/gap" in values:
        health.check(values)  # one bad update alone is no collapse
    with pytest.raises(Collapsed, match=word):
        for _ in range(60):
            health.check(values)


def test_a_collapse_ends_the_run_before_it_changes_a_weight(places, tmp_path):
    stage = stage_of(places, limits=Limits(motion=(1e5, 1e6)))
    before = {name: p.clone() for name, p in stage.discriminator.named_parameters()}
    with pytest.raises(Collapsed, match="stands still"):
        Trainer(stage, tmp_path, Processes.start("cpu"), quiet=True).fit()
    assert all(torch.equal(p, before[name]) for name, p in stage.discriminator.named_parameters())


def test_motion_is_the_mean_step():
    assert motion(torch.arange(4.0)[None, :, None].expand(2, 4, 3)).item() == 1


def test_what_is_recycled_is_noised_or_ones_own_and_never_what_the_user_gave(places):
    stage = stage_of(places)
    clips = stage.load(range(64))
    assert torch.equal(stage.recycled(clips, RecycledConfig()), clips.previous)
    noise = stage.recycled(clips, RecycledConfig(noise=0.4)) - clips.previous
    assert noise[:, 0].abs().max() == 0
    deviations = noise[:, 1:].flatten(2).std(-1)
    assert deviations.max() < 0.5 and deviations.mean().item() == pytest.approx(0.2, rel=0.2)

    own = stage.recycled(clips, RecycledConfig(own=0.5))
    assert torch.equal(own[:, 0], clips.previous[:, 0])
    truth = (own == clips.previous).flatten(1).all(1)
    assert 16 < truth.sum() < 48
    with torch.no_grad():
        noise = Noise(0, clips.numbers, torch.device("cpu"), purpose=6)
        noise.uniform()
        estimate = one_step(stage.predictor, clips, noise.normal(*clips.previous.shape[1:]))
    torch.testing.assert_close(own[~truth, 1:], estimate[~truth, :-1])
    assert not own.requires_grad
