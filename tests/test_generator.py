"""One call to a clip, a model in a folder, and what a configuration costs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from models import CONFIGS, TINY, camera, picture, tiny_generator
from PIL import Image

import aapt_video
from aapt_video.codec import state_bytes
from aapt_video.inspection import Inspect, lines
from aapt_video.model import NAMED, Transformer, TransformerConfig, named_config
from aapt_video.model.size import size
from aapt_video.model.text import ByteEncoder
from aapt_video.stream import Limits, Speeds, Start, load, save_generator
from aapt_video.stream.history import SNAPSHOT_EVERY

pytestmark = pytest.mark.usefixtures("one_thread")


def test_one_call_makes_a_clip_of_exactly_that_length_and_a_record_that_makes_it_again(tmp_path: Path) -> None:
    generator = tiny_generator()
    clip = generator("a maze", picture(), frames=10, seed=4, progress=False)
    assert clip.frames.shape == (10, 32, 48, 3) and clip.frames.dtype == np.uint8
    with generator.open("a maze", picture(), seed=4) as stream:
        expected = np.concatenate([stream.step() for _ in range(3)])[:10]
    assert np.array_equal(clip.frames, expected)

    path = clip.save(tmp_path / "out.mp4")
    with av.open(str(path)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 10
    record = json.loads(path.with_suffix(".json").read_text())
    assert (record["seed"], record["prompt"], record["frames"], record["interrupted"]) == (4, "a maze", 10, False)
    assert TransformerConfig.from_dict(record["model"]["transformer"]) == TINY
    assert 0 < record["seconds"]["p50"] <= record["seconds"]["p95"] <= record["seconds"]["total"]
    assert generator("a", picture(), frames=20, controls=[camera(0)] * 2, progress=False).frames.shape[0] == 8
    with pytest.raises(ValueError, match="at least 1"):
        generator("a", picture(), frames=0)


def test_ctrl_c_keeps_what_is_done() -> None:
    def controls() -> Iterator[np.ndarray]:
        yield from (camera(i) for i in range(3))
        raise KeyboardInterrupt

    generator = tiny_generator()
    clip = generator("a", picture(), frames=100, controls=controls(), progress=False)
    assert len(clip.frames) == 12 and clip.record["interrupted"]
    pool = generator.engine(generator.height, generator.width).pool
    assert pool.pages_free == pool.pages


def test_a_long_generation_shows_its_rate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    tiny_generator()("a", picture(), frames=8)
    shown = capsys.readouterr().err
    assert "latent frame" in shown and "fps" in shown and "x real time" in shown


def test_a_folder_gives_the_same_bits_back(tmp_path: Path) -> None:
    generator = tiny_generator()
    generator.gallery = (Start(Image.fromarray(picture(1)), "one"), Start(Image.fromarray(picture(2)), None))
    generator.speeds = Speeds(move=1.5, tilt=2)
    save_generator(generator, tmp_path / "tiny")
    loaded = load(tmp_path / "tiny", device="cpu", dtype=torch.float32, limits=Limits(1, 0))
    assert aapt_video.load is load
    assert loaded.fingerprint() == generator.fingerprint() and loaded.speeds == generator.speeds
    for seed in range(3):
        shown = []
        for one in (generator, loaded):
            with one.open(seed=seed) as stream:
                assert stream.prompt == ("one", "")[seed % 2]
                shown.append(np.concatenate([stream.step(camera(i)) for i in range(3)]))
        assert np.array_equal(*shown)


def test_a_folder_that_is_not_a_model_raises_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="shipped models"):
        load(tmp_path)
    save_generator(tiny_generator(), tmp_path / "tiny")
    save_generator(tiny_generator(width=64), tmp_path / "other")
    (tmp_path / "other" / "transformer.safetensors").replace(tmp_path / "tiny" / "transformer.safetensors")
    with pytest.raises(ValueError, match="does not fit"):
        load(tmp_path / "tiny")


def test_parts_that_do_not_fit_are_refused() -> None:
    generator = tiny_generator()
    model, codec = generator.weights.model, generator.codec
    with pytest.raises(ValueError, match="condition 'none' has 0 channels"):
        aapt_video.Generator(model, codec, height=32, width=48)
    with pytest.raises(ValueError, match="4 channels"):
        other = Transformer(replace(TINY, channels=8))
        aapt_video.Generator(other, codec, generator.condition, height=32, width=48)


def test_memory_is_what_the_estimate_says() -> None:
    generator = tiny_generator()
    engine = generator.engine(generator.height, generator.width)
    cost = size(TINY, *engine.latent_shape[1:], torch.float32)
    assert cost.page_bytes == engine.pool.bytes_per_page
    assert cost.text_page_bytes == engine.text_pool.bytes_per_page
    with generator.open("a", picture(), history=12) as stream:
        for _ in range(30):
            stream.step()
        held = engine.pool.pages - engine.pool.pages_free
        assert held + 1 == cost.pages + 12
        decoder = stream.state.decoder.bytes
    assert decoder == state_bytes(generator.codec.config, generator.height, generator.width, torch.float32)
    expected = cost.stream_bytes(12, decoder, SNAPSHOT_EVERY)
    assert generator.memory(1, 12)["streams"] == expected


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_are_those_of_the_model(name: str) -> None:
    config = CONFIGS[name]
    cost = size(config, 4, 6, torch.float32)
    model = Transformer(config)
    assert cost.parameters == model.parameter_count()
    assert cost.weight_bytes == sum(p.numel() * p.element_size() for p in model.parameters())
    weights = [p for n, p in model.named_parameters() if p.ndim > 1 and "table" not in n and "text" not in n]
    once = [p for n, p in model.named_parameters() if n.startswith("time_") or ".cross.kv" in n]
    matrices = sum(p.numel() for p in weights) - sum(p.numel() for p in once if p.ndim > 1)
    assert cost.linear_flops == 2 * cost.tokens * matrices


def test_named_configurations_have_the_sizes_that_they_are_named_for() -> None:
    million = {name: size(config, 12, 16).parameters / 1e6 for name, config in NAMED.items()}
    assert million["world"] <= 4.0
    assert 1_300 < million["wan-1.3b"] < 1_500
    assert 14_000 < million["wan-14b"] < 14_500
    assert 8_100 < million["aapt-8b"] < 8_300
    assert 8_000 < million["aapt-8b-4096"] < 8_400
    eight = size(named_config("aapt-8b"), 52, 92)
    assert eight.tokens == 1196 and 4.0e9 < eight.frame_parameters < 4.2e9
    assert size(named_config("world"), 12, 16).tokens == 48


@pytest.mark.parametrize("name", NAMED)
def test_inspect_prints_the_estimate_of_every_configuration(name: str) -> None:
    report = "\n".join(lines(Inspect(name, history=30)))
    for word in ("parameters", "FLOP", "memory of one stream", "history of 30", "window"):
        assert word in report


def test_inspect_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="one of tiny, world"):
        list(lines(Inspect("wan-2b")))
    with pytest.raises(ValueError, match="multiples of 16"):
        list(lines(Inspect("world", height=100)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"width": 33}, "multiple of heads"),
        ({"heads": 8}, "even and >= 6"),
        ({"pinned_cap": 3}, "at least window"),
        ({"text": "both"}, "none, joint or cross"),
        ({"text_tokens": 0}, "where there is text"),
        ({"window": 0}, "at least 1"),
    ],
)
def test_an_impossible_configuration_is_refused_by_name(change: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        replace(TINY, **change)
    with pytest.raises(ValueError, match="unknown names"):
        TransformerConfig.from_dict({**TINY.to_dict(), "depth": 3})


def test_a_configuration_survives_json() -> None:
    config = replace(TINY, rope_grid=(3, 4))
    assert TransformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_byte_encoder_reads_one_prompt_as_it_reads_a_batch() -> None:
    torch.manual_seed(0)
    encoder = ByteEncoder(64, 16, layers=2).double().eval()
    batch, lengths = encoder(["steel", "grün", ""])
    assert lengths == [6, 6, 1]
    for i, prompt in enumerate(("steel", "grün", "")):
        assert torch.allclose(batch[i, : lengths[i]], encoder.encode(prompt), atol=1e-12)
    assert not torch.allclose(encoder.encode("ab"), encoder.encode("ba"))
    with pytest.raises(ValueError, match="at most 15"):
        encoder.encode("sixteen letters!")
