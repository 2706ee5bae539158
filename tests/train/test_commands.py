"""The commands, one after the other, on configurations that take seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aapt_video.cli import main
from aapt_video.train.adapt import AdaptConfig
from aapt_video.train.adversarial import AdversarialConfig
from aapt_video.train.clips import codec_fingerprint
from aapt_video.train.codec import CodecStageConfig
from aapt_video.train.diffusion import DiffusionConfig
from aapt_video.train.distill import DistillConfig
from aapt_video.train.predictor import load_predictor
from aapt_video.train.record import read_record
from aapt_video.train.settings import load_settings
from aapt_video.train.shapes import ShapesConfig, make_shapes

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = {
    "codec": CodecStageConfig,
    "diffusion": DiffusionConfig,
    "adapt": AdaptConfig,
    "distill": DistillConfig,
    "adversarial": AdversarialConfig,
}


SETTINGS = sorted(file for file in CONFIGS.rglob("*.toml") if file.stem != "recipe")


@pytest.mark.parametrize("file", SETTINGS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_shipped_configuration_loads(file):
    assert load_settings(KINDS[file.stem.split("-")[0]], file).run.steps > 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with data, held-out data and the results of all stages."""
    root = tmp_path_factory.mktemp("commands")
    make_shapes(root / "data", ShapesConfig(clips=4, frames=33, width=32, height=32))
    make_shapes(root / "test", ShapesConfig(clips=2, frames=33, width=32, height=32, seed=9000))
    before = None
    for stage in KINDS:
        words = ["train", stage, "--config", str(CONFIGS / "ci" / f"{stage}.toml"), "--data", str(root / "data")]
        words += ["--held-out", str(root / "test"), "--out", str(root / stage), "--quiet", "--device", "cpu"]
        words += ["--codec", str(root / "codec")] if stage != "codec" else []
        words += ["--init", str(root / before)] if stage not in ("codec", "diffusion") else []
        words += ["--discriminator", str(root / "adapt")] if stage == "adversarial" else []
        main(words)
        before = stage
    return root


@pytest.mark.parametrize("stage", KINDS)
def test_a_stage_leaves_weights_a_record_scalars_and_pictures(trained, stage):
    record = read_record(trained / stage)
    assert record["stage"] == stage and record["updates"] == record["config"]["run"]["steps"]
    assert record["sources"]["data"]["maker"] == "shapes" and record["sources"]["held_out"]["split"] == "test"
    assert all(value == value for value in record["measured"].values()) and record["measured"]
    assert (trained / stage / ("codec" if stage == "codec" else "model")).with_suffix(".safetensors").is_file()
    assert list((trained / stage / "samples").glob("*.mp4")) and list((trained / stage / "samples").glob("*.png"))
    assert (trained / stage / "scalars.jsonl").is_file()


def test_a_record_names_the_stage_before_by_its_contents(trained):
    sources = read_record(trained / "distill")["sources"]
    assert sources["init"]["stage"] == "adapt" and len(sources["codec"]) == 12
    assert str(trained) not in str(sources)


def test_a_result_becomes_a_model_that_streams_and_keeps_half_its_size(trained):
    from aapt_video.stream import load

    places = {"result": "adversarial", "codec": "codec", "data": "test", "out": "model"}
    main(
        [
            "train",
            "export",
            *(word for k, v in places.items() for word in (f"--{k}", str(trained / v))),
            "--starts",
            "2",
        ]
    )
    generator = load(trained / "model", device="cpu")
    assert (generator.speeds.move, generator.speeds.turn, generator.fps) == (0, 3, 24)  # as the shapes' camera moved
    with generator.open(seed=1) as stream:
        assert tuple(stream.step().shape) == (4, 32, 32, 3)
    small = sum(path.stat().st_size for path in (trained / "model").glob("*.safetensors"))
    assert small < 0.65 * (trained / "adversarial" / "model.safetensors").stat().st_size


@pytest.mark.parametrize("stage", KINDS)
def test_what_is_kept_of_a_run_can_be_gone_on_from(trained, tmp_path, stage):
    main(["train", "keep", "--result", str(trained / stage), "--out", str(tmp_path / "kept")])
    assert read_record(tmp_path / "kept") == read_record(trained / stage)
    assert (tmp_path / "kept" / "samples.png").stat().st_size > 0
    if stage == "codec":
        assert codec_fingerprint(tmp_path / "kept") == codec_fingerprint(trained / stage)
        return
    kept, original = (load_predictor(folder).state_dict() for folder in (tmp_path / "kept", trained / stage))
    for name, value in original.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "words,said",
    [
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--config", str(CONFIGS / "ci/codec.toml")], "unknown settings"),
        (["--config", str(CONFIGS / "ci/adapt.toml")], "--init"),
    ],
)
def test_a_users_mistake_is_one_line(trained, capsys, words, said):
    places = ["--data", str(trained / "data"), "--codec", str(trained / "codec"), "--out", str(trained / "new")]
    with pytest.raises(SystemExit) as ended:
        main(["train", "adapt", *words, *places, "--quiet", "--device", "cpu"])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
