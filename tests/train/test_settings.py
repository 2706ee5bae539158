"""Settings: what TOML may say, and how a mistake is named."""

from __future__ import annotations

import pytest

from aapt_video.codec import NAMED as CODECS
from aapt_video.model import NAMED as TRANSFORMERS
from aapt_video.train.adapt import AdaptConfig
from aapt_video.train.codec import CodecStageConfig
from aapt_video.train.diffusion import DiffusionConfig
from aapt_video.train.distill import DistillConfig
from aapt_video.train.settings import from_values, load_settings, to_toml, to_values
from aapt_video.train.stage import RunConfig

STAGES = [CodecStageConfig, DiffusionConfig, AdaptConfig, DistillConfig]


@pytest.mark.parametrize("kind", STAGES)
def test_what_is_printed_is_read_back(kind, tmp_path):
    config = kind(run=RunConfig(steps=5, clip=0.5))
    path = tmp_path / "stage.toml"
    path.write_text(to_toml(config))
    assert load_settings(kind, path) == config
    assert from_values(kind, to_values(config)) == config


def test_a_named_network_may_be_changed():
    values = {"run": {"steps": 1}, "transformer": {"named": "world", "blocks": 3}}
    transformer = from_values(DiffusionConfig, values).transformer
    assert transformer.blocks == 3 and transformer.width == TRANSFORMERS["world"].width
    assert from_values(CodecStageConfig, {"run": {"steps": 1}, "codec": "test", "crop": 64}).codec == CODECS["test"]


@pytest.mark.parametrize(
    "values,message",
    [
        ({"run": {"steps": 1}, "sift": 3}, "unknown settings sift"),
        ({"run": {"steps": 1, "bach": 3}}, r"unknown settings run\.bach"),
        ({}, "settings run are missing"),
        ({"run": {}}, r"settings run\.steps are missing"),
        ({"run": {"steps": "many"}}, r"run\.steps is 'many'; it must be int"),
        ({"run": {"steps": True}}, r"run\.steps is True"),
        ({"run": {"steps": 1, "precision": "fp8"}}, r"run\.precision is 'fp8'; it must be one of 'bf16', 'fp32'"),
        ({"run": 3}, "run.* must be a table"),
        ({"run": {"steps": 1}, "clips": {"phases": 1}}, r"clips\.phases is 1; it must be a list"),
        ({"run": {"steps": 1}, "optimiser": {"betas": [0.9]}}, "must hold 2 values"),
        ({"run": {"steps": 1}, "transformer": "wrold"}, "transformer: name is 'wrold'"),
        ({"run": {"steps": 1}, "transformer": {"named": "world", "width": 191}}, "transformer: width is 191"),
        ({"run": {"steps": 1, "batch": 0}}, "batch=0 must be >= 1"),
        ({"run": {"steps": 1}, "clips": {"still": 1.5}}, "still=1.5 must be a share"),
    ],
)
def test_a_mistake_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        from_values(DiffusionConfig, values)


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.toml"):
        load_settings(AdaptConfig, tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(ValueError, match="is not TOML"):
        load_settings(AdaptConfig, tmp_path / "bad.toml")
