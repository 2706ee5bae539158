"""The parts of both nets.

Inside a net, frames are [n, B, H, W, C]: time first, so that a run of frames is one piece of memory; channels
last, so that normalisation, folding and the 2-D convolutions (which take the same memory as channels_last)
copy nothing.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fold(x: Tensor, time: int, space: int, first: bool) -> Tensor:
    """Space-time blocks into channels: [n·time, B, H·space, W·space, C] -> [n, B, H, W, time·space·space·C].

    With `first`, x starts at the first frame of a video, which fills a block of its own (repeated `time`
    times): 1 + n·time frames give 1 + n.
    """
    if time > 1 and first:
        x = torch.cat([x[:1].expand(time - 1, *x.shape[1:]), x])
    frames, batch, height, width, channels = x.shape
    x = x.reshape(frames // time, time, batch, height // space, space, width // space, space, channels)
    return x.permute(0, 2, 3, 5, 1, 4, 6, 7).flatten(4)


def unfold(x: Tensor, time: int, space: int, first: bool) -> Tensor:
    """The inverse of `fold`; with `first`, the first block gives its last frame alone."""
    frames, batch, height, width, _ = x.shape
    x = x.reshape(frames, batch, height, width, time, space, space, -1).permute(0, 4, 1, 2, 5, 3, 6, 7)
    x = x.reshape(frames * time, batch, height * space, width * space, -1)
    return x[time - 1 :] if first else x


class FrameConv(nn.Conv2d):
    """A 2-D convolution of every frame, same size in and out: [n, B, H, W, C] -> [n, B, H, W, C']."""

    bias: Tensor

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return y.reshape(*x.shape[:2], *y.shape[1:])


class CausalConv(FrameConv):
    """A 3-D convolution [taps, 3, 3] that sees the present frame and taps - 1 before it.

    It is computed in transposed form: one 2-D convolution gives all that a frame adds to itself and to the
    taps - 1 frames after it (weight [taps · C', C, 3, 3], the present first). What is meant for frames yet to
    come waits in `late` [taps - 1, B, H, W, C'], and that is the whole state: no past frame is kept, padded
    or concatenated.
    """

    def __init__(self, inputs: int, outputs: int, taps: int) -> None:
        super().__init__(inputs, outputs * taps, 3)
        self.outputs, self.taps = outputs, taps

    def forward(self, x: Tensor, late: Tensor | None = None) -> Tensor:
        """x: [n, B, H, W, C] -> [n, B, H, W, C']. `late` is read, then overwritten; None: none before x."""
        y = super().forward(x)
        if self.taps == 1:
            return y
        frames = len(x)
        present, *rest = y.chunk(self.taps, dim=-1)
        sums = F.pad(present, (0, 0) * 4 + (0, self.taps - 1))  # [n + taps - 1, B, H, W, C']
        if late is not None:
            sums[: self.taps - 1] += late
        for delay, part in enumerate(rest, start=1):
            sums[delay : delay + frames] += part
        if late is not None:
            late.copy_(sums[frames:])
        return sums[:frames]


Late = Mapping[CausalConv, Tensor]
"""What past frames left to each convolution; empty where x begins the video and nobody asks for its end."""


class PixelNorm(nn.LayerNorm):
    """Normalisation of each pixel over its channels, then SiLU.

    Per pixel, so that statistics on a training crop are those on a whole picture. LayerNorm rather than RMSNorm
    because every torch has it as one kernel, forward and backward.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


def activation(width: int, norm: bool) -> nn.Module:
    """What stands before a convolution."""
    return PixelNorm(width) if norm else nn.SiLU()


class Block(nn.Module):
    """x + conv(act(conv(act(x))))."""

    def __init__(self, width: int, taps: int, norm: bool) -> None:
        super().__init__()
        self.act1, self.conv1 = activation(width, norm), CausalConv(width, width, taps)
        self.act2, self.conv2 = activation(width, norm), CausalConv(width, width, taps)

    def forward(self, x: Tensor, late: Late) -> Tensor:
        y: Tensor = self.conv1(self.act1(x), late.get(self.conv1))
        y = self.conv2(self.act2(y), late.get(self.conv2))
        return x + y
