"""All phases by one command: what each begins from, what is left alone, and what comes out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aapt_video import load
from aapt_video.cli import main
from aapt_video.train.recipe import Phase, Recipe, phases_of
from aapt_video.train.shapes import ShapesConfig, make_shapes

CONFIGS = Path(__file__).parents[2] / "configs"


def phases(recipe: Path, out: Path = Path("out")) -> dict[str, Phase]:
    return {phase.name: phase for phase in phases_of(Recipe(recipe, Path("data"), Path("test"), out))}


def written(folder: Path, *names: str) -> Path:
    """A recipe of these phases, with the settings that the tests of the stages have."""
    for name in names:
        stage = name.split("-")[0]
        settings = CONFIGS / "ci" / f"{stage}.toml"
        (folder / f"{name}.toml").write_text(settings.read_text() if settings.is_file() else "")
    (folder / "recipe.toml").write_text(f"phases = {json.dumps(names)}")
    return folder / "recipe.toml"


def test_each_phase_of_the_shipped_recipe_begins_from_the_one_before():
    found = phases(CONFIGS / "doom" / "recipe.toml")
    names = list(found)
    assert {file.stem for file in (CONFIGS / "doom").glob("*.toml")} == {*names, "recipe", "adversarial-sweep"}
    before = {name: phase.places.init and phase.places.init.name for name, phase in found.items()}
    assert before == dict(zip(names, [None, None, *names[1:-1]], strict=True))
    assert all(phase.places.codec == (None if name == "codec" else Path("out/codec")) for name, phase in found.items())
    judges = {name: phase.places.discriminator for name, phase in found.items() if phase.stage.name == "adversarial"}
    adversarial = [name for name in names if name.startswith("adversarial")]
    assert [judge.name for judge in judges.values()] == ["adapt-noise", *adversarial[:-1]]
    assert all(phase.places.discriminator is None for name, phase in found.items() if name not in judges)


@pytest.mark.parametrize(
    "names, message",
    [
        (["codec", "render"], "'render' begins with no stage's name"),
        (["diffusion"], "'diffusion' needs phases of codec before it"),
        (["codec", "diffusion", "adversarial"], "'adversarial' needs phases of adapt, distill before it"),
        (["codec", "diffusion"], "the last becomes the model, so it must be of adapt, distill, adversarial"),
        ([], "the last becomes the model"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_anything_begins(tmp_path, capsys, names, message):
    recipe = written(tmp_path, *names)
    words = ["train", "recipe", "--recipe", str(recipe), "--data", "none", "--held-out", "none", "--out"]
    with pytest.raises(SystemExit) as end:
        main([*words, str(tmp_path / "out")])
    assert end.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_recipe_ends_in_a_model_and_what_is_done_is_left_alone(tmp_path, capsys):
    make_shapes(tmp_path / "data", ShapesConfig(clips=4, frames=33, width=32, height=32))
    make_shapes(tmp_path / "test", ShapesConfig(clips=2, frames=33, width=32, height=32, seed=9000))
    recipe, out = written(tmp_path, "codec", "diffusion", "adapt"), tmp_path / "out"
    words = ["train", "recipe", "--recipe", str(recipe), "--data", str(tmp_path / "data"), "--device", "cpu"]
    words += ["--held-out", str(tmp_path / "test"), "--out", str(out), "--quiet"]
    main(words)
    assert "adapt: phase 3 of 3" in capsys.readouterr().out
    made = [file for name in ("codec", "diffusion", "adapt") for file in (out / name).rglob("*")]
    before = {file: file.stat().st_mtime_ns for file in made}

    written(tmp_path, "codec", "diffusion", "adapt", "distill")
    main(words)
    shown = capsys.readouterr().out
    assert "distill: phase 4 of 4" in shown and "phase 3" not in shown
    assert before == {file: file.stat().st_mtime_ns for file in before}
    with load(out / "model").open(seed=1) as stream:
        assert stream.step().shape == (4, 32, 32, 3)

    settings = tmp_path / "diffusion.toml"
    settings.write_text(settings.read_text().replace("[run]", "[run]\nseed = 5"))
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2 and "another configuration" in capsys.readouterr().err


def test_a_batch_that_cannot_be_divided_is_refused_before_the_phases_before_it_train(tmp_path, capsys):
    make_shapes(tmp_path / "data", ShapesConfig(clips=2, frames=33, width=32, height=32))
    recipe = written(tmp_path, "codec", "diffusion", "adapt")
    settings = tmp_path / "adapt.toml"
    settings.write_text(settings.read_text().replace("batch = 2", "batch = 3\naccumulate = 2"))
    words = ["train", "recipe", "--recipe", str(recipe), "--data", str(tmp_path / "data"), "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--held-out", str(tmp_path / "data"), "--out", str(tmp_path / "out")])
    assert end.value.code == 2 and "batch=3 must be a multiple" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
