"""Between the codec's videos and pictures of bytes."""

import torch
from torch import Tensor


def to_uint8(video: Tensor) -> Tensor:
    """[..., 3, n, H, W] float in [-1, 1] (beyond is clipped) -> [..., n, H, W, 3] uint8."""
    levels = video.float().add(1).mul_(127.5).round_().clamp_(0, 255)
    return levels.to(torch.uint8).movedim(-4, -1)


def from_uint8(frames: Tensor) -> Tensor:
    """[..., n, H, W, 3] uint8 -> [..., 3, n, H, W] float32 in [-1, 1]; `to_uint8` inverts it exactly."""
    if frames.dtype != torch.uint8 or frames.ndim < 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames is {frames.dtype} {list(frames.shape)}; it must be uint8 [..., n, H, W, 3]")
    return frames.movedim(-1, -4).float().div_(127.5).sub_(1)
