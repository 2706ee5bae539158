"""The codec stage: both halves at first, the decoder alone later."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aapt_video.codec import CodecConfig, NetConfig, load_codec
from aapt_video.train.clips import codec_fingerprint
from aapt_video.train.codec import CodecStage, CodecStageConfig
from aapt_video.train.loop import Trainer
from aapt_video.train.parallel import Processes
from aapt_video.train.places import Places
from aapt_video.train.shapes import ShapesConfig, make_shapes
from aapt_video.train.stage import RunConfig

NET = NetConfig(((4, 2), (1, 2), (1, 2)), widths=(8, 8, 8), blocks=(1, 1, 1), taps=(1, 2, 2))
CODEC = CodecConfig(NET, NET, channels=4, shortcut=True)


def settings(steps: int, **changes: object) -> CodecStageConfig:
    run = RunConfig(steps, 2, precision="fp32", ema=0)
    return CodecStageConfig(run, CODEC, crop=32, fit_clips=8, held_out_clips=1, **changes)  # type: ignore[arg-type]


def train(config: CodecStageConfig, places: Places, out: Path) -> None:
    processes = Processes.start("cpu")
    Trainer(CodecStage(config, places, processes, quiet=True), out, processes, quiet=True).fit()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codec") / "shapes"
    make_shapes(folder, ShapesConfig(clips=4, seed=0))
    return folder


def test_a_decoder_that_is_trained_alone_keeps_every_latent(data: Path, tmp_path: Path) -> None:
    train(settings(2), Places(data), tmp_path / "both")
    train(settings(3, train="decoder"), Places(data, init=tmp_path / "both"), tmp_path / "decoder")
    before, after = load_codec(tmp_path / "both"), load_codec(tmp_path / "decoder")
    video = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    latents = before.encode(video)
    assert torch.equal(latents, after.encode(video))
    assert not torch.equal(before.decode(latents), after.decode(latents))
    assert codec_fingerprint(tmp_path / "both") == codec_fingerprint(tmp_path / "decoder")

    train(settings(3), Places(data, init=tmp_path / "both"), tmp_path / "other")
    assert codec_fingerprint(tmp_path / "both") != codec_fingerprint(tmp_path / "other")


def test_a_decoder_alone_needs_the_codec_that_it_belongs_to(data: Path) -> None:
    with pytest.raises(ValueError, match="--init"):
        CodecStage(settings(1, train="decoder"), Places(data), Processes.start("cpu"), quiet=True)
