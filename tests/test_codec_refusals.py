"""What a codec refuses: argument, value and remedy are named before anything is computed or changed."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from codec_samples import CONFIGS, make_codec

from aapt_video.codec import Codec, fit_scale, load_codec, named_config, pca_init, save_codec, state_bytes

WORLD = named_config("world")


def test_a_video_that_does_not_fit_is_refused_with_a_remedy() -> None:
    codec = make_codec(WORLD, torch.float32)
    with pytest.raises(ValueError, match=r"video is 20x24; height and width .* multiples of 8: crop or resize"):
        codec.encode(torch.zeros(1, 3, 5, 20, 24))
    with pytest.raises(ValueError, match=r"video has 7 frames; .* 1 \+ 4·T: cut it to 5 or go on to 9"):
        codec.encode(torch.zeros(1, 3, 7, 16, 24))
    with pytest.raises(ValueError, match=r"video has shape \[1, 4, 5, 16, 24\]; it must be \[B, 3, frames, H, W\]"):
        codec.encode(torch.zeros(1, 4, 5, 16, 24))
    with pytest.raises(ValueError, match=r"video is torch.uint8; .* from_uint8"):
        codec.encode(torch.zeros(1, 3, 5, 16, 24, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"latents has shape \[1, 8, 2, 2, 3\]; .* \[B, 16, T, h, w\]"):
        codec.decode(torch.zeros(1, 8, 2, 2, 3))


def test_a_step_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    codec = make_codec(WORLD, torch.float32)
    state = codec.open_decoder(1, 16, 24)
    codec.decode_step(torch.ones(1, 16, 2, 3), state)
    before = state.clone()
    with pytest.raises(ValueError, match=r"latent has shape \[1, 8, 2, 3\]; .* \[B, 16, h, w\]"):
        codec.decode_step(torch.zeros(1, 8, 2, 3), state)
    with pytest.raises(ValueError, match=r"latent asks for .* \(2, 16, 24\); state was opened for \(1, 16, 24\)"):
        codec.decode_step(torch.zeros(2, 16, 2, 3), state)
    with pytest.raises(ValueError, match=r"state is torch.float32 .* torch.bfloat16 .*: move it with state.to"):
        make_codec(WORLD, torch.bfloat16).decode_step(torch.zeros(1, 16, 2, 3), state)
    assert all(map(torch.equal, state.late, before.late))

    encoder = codec.open_encoder(1, 16, 24)
    with pytest.raises(ValueError, match=r"frames holds 4 frames; this step takes 1"):
        codec.encode_step(torch.zeros(1, 3, 4, 16, 24), encoder)
    assert not encoder.started
    with pytest.raises(ValueError, match=r"or by the other half"):
        codec.encode_step(torch.zeros(1, 3, 1, 16, 24), codec.open_decoder(1, 16, 24))


def test_a_state_of_impossible_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"height=100 must be a positive multiple of 8"):
        state_bytes(WORLD, 100, 128)
    with pytest.raises(ValueError, match=r"batch=0 must be >= 1"):
        Codec(WORLD).open_decoder(0, 96, 128)
    with pytest.raises(ValueError, match=r"stream=2 must be in 0\.\.1"):
        Codec(WORLD).open_decoder(2, 96, 128).row(2)
    with pytest.raises(ValueError, match=r"copy between states of one net"):
        Codec(WORLD).open_decoder(2, 96, 128).copy_(Codec(WORLD).open_decoder(1, 96, 128))


def test_a_configuration_that_cannot_work_is_refused() -> None:
    net = WORLD.decoder
    with pytest.raises(ValueError, match=r"widths=\(48,\) must have one entry per stage"):
        dataclasses.replace(net, widths=(48,))
    with pytest.raises(ValueError, match=r"taps=\(1, 0, 2\)"):
        dataclasses.replace(net, taps=(1, 0, 2))
    with pytest.raises(ValueError, match=r"decoder folds to \(time, space\) \(2, 8\), the encoder to \(4, 8\)"):
        dataclasses.replace(WORLD, decoder=dataclasses.replace(net, folds=((2, 2), (1, 2), (1, 2))))
    with pytest.raises(ValueError, match=r"channels=0 must be >= 1"):
        dataclasses.replace(WORLD, channels=0)
    with pytest.raises(ValueError, match=r"name='huge' is no codec configuration; choose one of test, world"):
        named_config("huge")


def test_data_that_cannot_start_a_codec_is_refused() -> None:
    codec = Codec(WORLD)
    with pytest.raises(ValueError, match=r"videos hold 6 blocks; a PCA of 16 channels needs more"):
        pca_init(codec, [torch.zeros(1, 3, 1, 16, 24)])
    with pytest.raises(ValueError, match=r"shortcut=True"):
        pca_init(make_codec(CONFIGS["stepwise"], torch.float32), [])
    with pytest.raises(ValueError, match=r"videos is empty"):
        fit_scale(codec, [])
    with pytest.raises(ValueError, match=r"channels \[0, .*15\] constant"):
        fit_scale(codec, [torch.zeros(1, 3, 1, 16, 24)])


def test_a_folder_without_a_codec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no codec.json; save_codec writes it"):
        load_codec(tmp_path)
    save_codec(make_codec(CONFIGS["test"]), tmp_path)
    (tmp_path / "codec.json").write_text(json.dumps(WORLD.to_dict()))
    with pytest.raises(ValueError, match=r"codec.safetensors does not fit codec.json"):
        load_codec(tmp_path)
