"""The report, and the command on a tiny world."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from aapt_video.cli import main
from aapt_video.evaluate.chart import Line, Panel, chart
from aapt_video.evaluate.command import Evaluate, evaluate
from aapt_video.evaluate.figures import spread

from .made import FIT


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


@pytest.fixture(scope="module")
def asked(world, model) -> Evaluate:
    return Evaluate(
        (model,), world / "train", world / "test", world / "out", networks=world / "networks", frames=96, clips=5,
        seeds=2, fit=FIT, device="cpu", quiet=True,
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
