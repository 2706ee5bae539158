"""What a codec takes from data without gradients: its linear start and the scale of its latents."""

from collections.abc import Iterable

import torch
from torch import Tensor

from .codec import Codec
from .layers import fold


@torch.no_grad()
def pca_init(codec: Codec, videos: Iterable[Tensor]) -> Tensor:
    """Starts the linear shortcut from the principal components of space-time blocks.

    A fresh codec then is the best linear codec of its size. Channel i keeps a standard deviation that goes as
    the square root of its component's (half whitened), 1 in the mean square, as a KL penalty towards N(0, 1)
    finds comfortable; `latent_mean` and `latent_std` are set to match.

    videos: [B, 3, 1 + time·T, H, W] in [-1, 1] each, whose blocks together outnumber the latent channels.
    Returns the variance of every component, largest first [3·time·space²], float64. Raises ValueError for a
    codec without a shortcut, or too little video.
    """
    config = codec.config
    if codec.block_encoder is None or codec.block_decoder is None:
        raise ValueError("codec has no linear shortcut to start: set shortcut=True in its CodecConfig")
    size = 3 * config.time * config.space**2
    count, total, outer = (
        0,
        torch.zeros(size, dtype=torch.float64),
        torch.zeros(size, size, dtype=torch.float64),
    )
    for video in videos:
        codec.check_video(video)
        frames = video.detach().to("cpu", torch.float64).permute(2, 0, 3, 4, 1)
        blocks = fold(frames, config.time, config.space, first=True).flatten(0, 3)  # [blocks, size]
        count, total, outer = count + len(blocks), total + blocks.sum(0), outer + blocks.T @ blocks
    if count <= config.channels:
        raise ValueError(f"videos hold {count} blocks; a PCA of {config.channels} channels needs more: add video")
    mean = total / count
    variances, components = map(Tensor.contiguous, torch.linalg.eigh(outer / count - mean.outer(mean)))
    variances, components = variances.flip(0).clamp_min(0), components.flip(1)
    std = variances[: config.channels].clamp_min(1e-12).sqrt()
    own_std = (std / std.mean()).sqrt()
    basis = components[:, : config.channels]  # [size, C]
    analysis, synthesis = (basis * (own_std / std)).T, basis * (std / own_std)
    codec.block_encoder.weight.copy_(analysis[:, :, None, None])
    codec.block_encoder.bias.copy_(-analysis @ mean)
    codec.block_decoder.weight.copy_(synthesis[:, :, None, None])
    codec.block_decoder.bias.copy_(mean)
    codec.latent_mean.zero_()
    codec.latent_std.copy_(own_std)
    return variances


@torch.no_grad()
def fit_scale(codec: Codec, videos: Iterable[Tensor]) -> None:
    """Sets the scale of the latents: over these videos, each channel has mean 0 and variance 1.

    videos: [B, 3, 1 + time·T, H, W] in [-1, 1] each. Call it once, after training the codec and before any
    latent is used. Raises ValueError for no video, or for a channel that never varies.
    """
    count = 0
    total = square = torch.zeros(())
    for video in videos:
        mean = codec.posterior(video).mean.double().transpose(0, 1).flatten(1)  # [C, elements]
        count, total, square = count + mean.shape[1], total + mean.sum(1), square + mean.square().sum(1)
    if count == 0:
        raise ValueError("videos is empty; the scale of the latents is measured on video")
    mean = total / count
    std = (square / count - mean.square()).clamp_min(0).sqrt()
    if not (std > 1e-6).all():
        dead = (std <= 1e-6).nonzero().flatten().tolist()
        raise ValueError(f"videos leave latent channels {dead} constant; train the codec, or use fewer channels")
    codec.latent_mean.copy_(mean)
    codec.latent_std.copy_(std)
