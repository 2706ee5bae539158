"""The codec's parts against independent references; its start, cost and files."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from codec_samples import CONFIGS, make_codec, make_video

from aapt_video.codec import (
    NAMED,
    Codec,
    CodecConfig,
    NetConfig,
    Posterior,
    decoder_cost,
    encoder_cost,
    fit_scale,
    from_uint8,
    load_codec,
    named_config,
    pca_init,
    save_codec,
    to_uint8,
)
from aapt_video.codec.layers import CausalConv, fold, unfold

WORLD = named_config("world")


def make_waves(config: CodecConfig, clips: int, latents: int = 3, size: int = 4) -> torch.Tensor:
    """Moving coloured waves [clips, 3, 1 + time·(latents - 1), size·space, size·space]."""
    generator = torch.Generator().manual_seed(5)
    t = torch.arange(1 + config.time * (latents - 1))[:, None, None] / config.time
    y, x = (torch.arange(size * config.space) / config.space for _ in range(2))
    videos = []
    for _ in range(clips):
        a, b, c, phase = (torch.randn(3, 1, 1, 1, generator=generator) for _ in range(4))
        videos.append(0.8 * torch.sin(a * y[:, None] + b * x + c * t + 3 * phase))
    return torch.stack(videos)


# -- parts --


@pytest.mark.parametrize("taps", [1, 2, 3, 5])
def test_a_causal_convolution_is_conv3d_with_zeros_before_the_first_frame(taps: int) -> None:
    torch.manual_seed(0)
    conv = CausalConv(3, 4, taps).double()
    with torch.no_grad():
        conv.bias[4:] = 0  # conv3d has a bias for the present only
    x = torch.randn(6, 2, 5, 7, 3, dtype=torch.float64)  # [n, B, H, W, C]
    weight = conv.weight.view(taps, 4, 3, 3, 3).flip(0).permute(1, 2, 0, 3, 4)
    padded = F.pad(x.permute(1, 4, 0, 2, 3), (1, 1, 1, 1, taps - 1, 0))
    expected = F.conv3d(padded, weight, conv.bias[:4]).permute(2, 0, 3, 4, 1)
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("time", "space"), [(1, 1), (1, 2), (3, 1), (2, 4)])
def test_a_block_holds_its_own_pixels_and_unfold_puts_them_back(time: int, space: int) -> None:
    x = torch.randn(4 * time, 2, 3 * space, 5 * space, 3)
    blocks = fold(x, time, space, first=False)
    frame, row, column = 2, 1, 3
    own = x[
        frame * time : (frame + 1) * time,
        1,
        row * space : (row + 1) * space,
        column * space : (column + 1) * space,
    ]
    assert torch.equal(blocks[frame, 1, row, column].sort().values, own.flatten().sort().values)
    assert torch.equal(unfold(blocks, time, space, first=False), x)


def test_the_first_frame_fills_a_block_of_its_own() -> None:
    x = torch.randn(1 + 2 * 4, 1, 2, 2, 3)
    blocks = fold(x, 4, 2, first=True)
    assert len(blocks) == 3
    assert torch.equal(unfold(blocks[:1], 4, 2, first=False), x[:1].expand(4, -1, -1, -1, -1))
    assert torch.equal(unfold(blocks, 4, 2, first=True), x)


def test_pictures_of_bytes_come_back_as_they_were() -> None:
    frames = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(2, 8, 16, 3)
    assert torch.equal(to_uint8(from_uint8(frames)), frames)
    video = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0]).reshape(1, 1, 5, 1).expand(3, 2, 5, 1)
    assert to_uint8(video)[0, :, 0, 0].tolist() == [0, 0, 128, 255, 255]
    assert to_uint8(make_video(WORLD, 2, dtype=torch.bfloat16)).shape == (2, 5, 16, 24, 3)


# -- start from data and training --


@pytest.mark.parametrize("name", ["test", "grouped", "two frames, four pixels"])
def test_a_fresh_codec_is_the_best_linear_codec(name: str) -> None:
    config = CONFIGS[name]
    time, space, channels = config.time, config.space, config.channels
    video = make_waves(config, clips=6).double()
    codec = Codec(config).double()
    variances = pca_init(codec, video.split(2))

    padded = np.concatenate([video[:, :, :1].numpy()] * (time - 1) + [video.numpy()], axis=2)
    clips, _, frames, height, width = padded.shape
    grid = padded.reshape(clips, 3, frames // time, time, height // space, space, width // space, space)
    blocks = grid.transpose(0, 2, 4, 6, 1, 3, 5, 7).reshape(-1, 3 * time * space**2)
    centred = blocks - blocks.mean(0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    linear = centred @ rows[:channels].T @ rows[:channels] + blocks.mean(0)
    linear = linear.reshape(grid.transpose(0, 2, 4, 6, 1, 3, 5, 7).shape).transpose(0, 4, 1, 5, 2, 6, 3, 7)
    linear = linear.reshape(padded.shape)[:, :, time - 1 :]

    decoded = codec.decode(codec.encode(video)).detach().numpy()
    np.testing.assert_allclose(decoded, linear, atol=1e-6)
    np.testing.assert_allclose(variances[:channels], singular[:channels] ** 2 / len(blocks), rtol=1e-6)


def test_latents_have_unit_scale_after_pca_and_after_fit_scale() -> None:
    config = CONFIGS["grouped"]
    video = make_waves(config, clips=6).double()
    codec = Codec(config).double()
    pca_init(codec, [video])
    assert codec.posterior(video).mean.square().mean().item() == pytest.approx(1, abs=1e-5)
    for _ in range(2):
        latents = codec.encode(video).transpose(0, 1).flatten(1)
        torch.testing.assert_close(latents.mean(1), torch.zeros_like(latents[:, 0]), rtol=0, atol=1e-6)
        torch.testing.assert_close(latents.std(1, correction=0), torch.ones_like(latents[:, 0]), rtol=0, atol=1e-6)
        codec = make_codec(config)
        fit_scale(codec, video.split(2))


def test_the_scale_of_the_latents_cancels_in_a_round_trip() -> None:
    codec = make_codec(CONFIGS["test"])
    video = make_video(codec.config, latents=2)
    pictures = codec.decode(codec.encode(video))
    codec.latent_mean.zero_()
    codec.latent_std.fill_(1)
    torch.testing.assert_close(codec.decode(codec.encode(video)), pictures, rtol=0, atol=1e-12)


def test_a_posterior_samples_and_measures_like_torch_distributions() -> None:
    mean, logvar = torch.tensor([2.0, -1.0]), torch.tensor([-4.0, 1.0])
    posterior = Posterior(*(x.view(1, 2, 1, 1, 1).expand(1, 2, 3, 40, 50) for x in (mean, logvar)))
    normal = torch.distributions.Normal(posterior.mean, torch.exp(0.5 * posterior.logvar))
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1)).mean()
    torch.testing.assert_close(posterior.kl(), expected, rtol=1e-6, atol=0)

    first, second = (posterior.sample(torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    score = (first - normal.mean) / normal.stddev
    torch.testing.assert_close(score.mean((0, 2, 3, 4)), torch.zeros(2), rtol=0, atol=0.05)
    torch.testing.assert_close(score.std((0, 2, 3, 4)), torch.ones(2), rtol=0, atol=0.05)


def test_training_goes_beyond_the_linear_start_and_reaches_every_weight() -> None:
    torch.manual_seed(0)
    config = CONFIGS["grouped"]
    video = make_waves(config, clips=8)
    codec = Codec(config)
    pca_init(codec, [video])
    start = F.mse_loss(codec.decode(codec.encode(video)), video).item()
    optimizer = torch.optim.Adam(codec.parameters(), lr=3e-3)
    for _ in range(60):
        decoded, posterior = codec(video)
        loss = F.mse_loss(decoded, video) + 1e-4 * posterior.kl()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in codec.parameters())
    assert F.mse_loss(codec.decode(codec.encode(video)), video).item() < 0.7 * start


# -- inference, cost, files --


def test_a_prepared_codec_decodes_in_bfloat16_from_the_same_scale() -> None:
    codec = make_codec(WORLD, torch.float32)
    mean, std = codec.latent_mean.clone(), codec.latent_std.clone()
    latents = torch.randn(1, 16, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = codec.decode(latents)
    codec.prepare_inference(torch.bfloat16)
    assert not codec.training and not any(p.requires_grad for p in codec.parameters())
    assert torch.equal(codec.latent_mean, mean) and torch.equal(codec.latent_std, std)
    state = codec.open_decoder(1, 16, 24)
    streamed = torch.cat([codec.decode_step(latent, state) for latent in latents.unbind(2)], dim=2)
    assert streamed.dtype == torch.bfloat16
    assert (streamed.float() - expected).square().mean() < 1e-3 * expected.square().mean()


@pytest.mark.parametrize("channels", [16, 32])
def test_the_world_decoder_fits_two_cores(channels: int) -> None:
    cost = decoder_cost(dataclasses.replace(WORLD, channels=channels), height=96, width=128)
    assert cost.parameters < 1_000_000
    assert cost.flops < 8e9


def test_cost_is_that_of_the_codec_itself() -> None:
    codec = Codec(WORLD)
    halves = decoder_cost(WORLD, 96, 128), encoder_cost(WORLD, 96, 128)
    assert sum(half.parameters for half in halves) == sum(p.numel() for p in codec.parameters())
    assert halves[0].state_bytes == codec.to(torch.bfloat16).open_decoder(1, 96, 128).bytes


def test_flops_are_those_counted_by_hand() -> None:
    """One stage of two taps at a quarter of the pixels, without blocks: stem and head are all there is."""
    net = NetConfig(((2, 2),), widths=(5,), blocks=(0,), taps=(2,))
    cost = decoder_cost(CodecConfig(net, net, channels=3, shortcut=True), height=8, width=12)
    block, pixels = 3 * 2 * 2 * 2, 4 * 6
    multiplies = pixels * (9 * 3 * 2 * 5 + 9 * 5 * 2 * block + 3 * block)
    assert cost.flops == 2 * multiplies
    assert cost.state_bytes == 2 * pixels * (5 + block)


def test_the_light_decoder_is_several_times_cheaper_and_the_tiny_one_again() -> None:
    full, light, tiny = (decoder_cost(NAMED[name], 416, 736) for name in ("full", "light", "tiny"))
    assert light.flops < full.flops / 3 and tiny.flops < light.flops / 10
    assert NAMED["full"].encoder == NAMED["light"].encoder == NAMED["tiny"].encoder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_saved_codec_is_the_same_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    codec = make_codec(CONFIGS["test"]).prepare_inference(dtype)
    save_codec(codec, tmp_path / "codec")
    loaded = load_codec(tmp_path / "codec")
    assert loaded.config == codec.config
    for name, tensor in codec.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor) and loaded.state_dict()[name].dtype == tensor.dtype
    latents = torch.ones(1, 4, 2, 2, 3)
    assert torch.equal(loaded.prepare_inference(dtype).decode(latents), codec.decode(latents))
    assert sorted(p.name for p in (tmp_path / "codec").iterdir()) == ["codec.json", "codec.safetensors"]


def test_every_named_configuration_survives_json() -> None:
    for config in NAMED.values():
        assert CodecConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
