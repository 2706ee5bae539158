"""Codecs and videos that the codec's tests share."""

import torch
from torch import Tensor

from aapt_video.codec import Codec, CodecConfig, NetConfig, named_config

_GROUPED = NetConfig(((4, 2), (1, 4)), widths=(6, 5), blocks=(1, 2), taps=(1, 2))
_STEPWISE = NetConfig(((1, 1), (1, 2), (2, 2), (2, 2)), widths=(4, 4, 5, 6), blocks=(1, 0, 1, 1), taps=(3, 3, 3, 3))
_SPATIAL = NetConfig(((4, 8),), widths=(5,), blocks=(1,), taps=(1,))
_LONG = NetConfig(((2, 2), (2, 4)), widths=(5, 4), blocks=(1, 1), taps=(6, 4))

CONFIGS = {
    "test": named_config("test"),
    "grouped": CodecConfig(_GROUPED, _GROUPED, channels=3, shortcut=True),
    "stepwise": CodecConfig(_STEPWISE, _STEPWISE, channels=3),
    "more taps than frames": CodecConfig(_LONG, _LONG, channels=3),
    "no state": CodecConfig(_SPATIAL, _SPATIAL, channels=3),
    "two frames, four pixels": CodecConfig(
        NetConfig(((2, 4),), widths=(4,), blocks=(1,), taps=(2,)),
        NetConfig(((2, 2), (1, 2)), widths=(4, 4), blocks=(1, 1), taps=(3, 1)),
        channels=2,
        shortcut=True,
    ),
}


def make_codec(config: CodecConfig, dtype: torch.dtype = torch.float64, seed: int = 0) -> Codec:
    """A codec of random weights, none of them zero, with a latent scale that is not the identity."""
    codec = Codec(config).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in codec.parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.normal_(0, spread, generator=generator)
        codec.latent_mean.uniform_(-1, 1, generator=generator)
        codec.latent_std.uniform_(0.5, 2, generator=generator)
    return codec.requires_grad_(False)


def make_video(
    config: CodecConfig, latents: int, batch: int = 2, dtype: torch.dtype = torch.float64, seed: int = 1
) -> Tensor:
    """Noise [B, 3, 1 + time·(latents - 1), 2·space, 3·space] in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 3, 1 + config.time * (latents - 1), 2 * config.space, 3 * config.space)
    return torch.rand(shape, generator=generator, dtype=dtype) * 2 - 1


def split_frames(video: Tensor, time: int) -> list[Tensor]:
    """The pictures of each latent frame: one, then `time` each."""
    return [video[:, :, :1], *(video[:, :, k : k + time] for k in range(1, video.shape[2], time))]
