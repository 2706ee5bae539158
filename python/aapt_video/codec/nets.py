"""The two halves of the codec, over frames [n, B, H, W, C]."""

from itertools import accumulate, repeat
from operator import mul

from torch import Tensor, nn

from .config import NetConfig
from .layers import Block, CausalConv, FrameConv, Late, activation, fold, unfold


class Stage(nn.Module):
    """Residual blocks at one resolution."""

    def __init__(self, width: int, blocks: int, taps: int, norm: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, taps, norm) for _ in range(blocks))

    def forward(self, x: Tensor, late: Late) -> Tensor:
        for block in self.blocks:
            x = block(x, late)
        return x


class Net(nn.Module):
    """What both halves have: stages, a stem into the first that is visited and a head after the last."""

    causal: list[tuple[CausalConv, int]]
    """The convolutions with a state, in a fixed order, and the picture pixels per pixel of each."""

    def __init__(self, config: NetConfig, inputs: int, outputs: int, start: int, end: int) -> None:
        super().__init__()
        self.config = config
        widths, taps = config.widths, config.taps
        self.stem = CausalConv(inputs, widths[start], taps[start])
        self.stages = nn.ModuleList(map(Stage, widths, config.blocks, taps, repeat(config.norm)))
        self.act = activation(widths[end], config.norm)
        self.head = CausalConv(widths[end], outputs, taps[end])

        spaces = list(accumulate((space for _, space in config.folds), mul))
        found = [(self.stem, spaces[start]), (self.head, spaces[end])]
        for stage, space in zip(self.stages, spaces, strict=True):
            found += [(module, space) for module in stage.modules() if isinstance(module, CausalConv)]
        self.causal = [(conv, space) for conv, space in found if conv.taps > 1]


class Encoder(Net):
    """Pictures [n, B, H, W, 3] -> [n', B, h, w, outputs]: each stage folds, mixes and refines."""

    def __init__(self, config: NetConfig, outputs: int) -> None:
        blocks = _block_sizes(config)
        super().__init__(config, blocks[0], outputs, start=0, end=-1)
        self.downs = nn.ModuleList(
            FrameConv(block, width, 1) for block, width in zip(blocks[1:], config.widths[1:], strict=True)
        )

    def forward(self, x: Tensor, late: Late, first: bool) -> Tensor:
        for i, (time, space) in enumerate(self.config.folds):
            x = fold(x, time, space, first)
            x = self.downs[i - 1](x) if i else self.stem(x, late.get(self.stem))
            x = self.stages[i](x, late)
        x = self.head(self.act(x), late.get(self.head))
        return x


class Decoder(Net):
    """Latents [n', B, h, w, inputs] -> pictures [n, B, H, W, 3]: the encoder's way back."""

    def __init__(self, config: NetConfig, inputs: int) -> None:
        blocks = _block_sizes(config)
        super().__init__(config, inputs, blocks[0], start=-1, end=0)
        self.ups = nn.ModuleList(
            FrameConv(width, block, 1) for width, block in zip(config.widths[1:], blocks[1:], strict=True)
        )

    def forward(self, x: Tensor, late: Late, first: bool) -> Tensor:
        x = self.stem(x, late.get(self.stem))
        for i, (time, space) in reversed(list(enumerate(self.config.folds))):
            x = self.stages[i](x, late)
            x = self.ups[i - 1](x) if i else self.head(self.act(x), late.get(self.head))
            x = unfold(x, time, space, first)
        return x


def _block_sizes(config: NetConfig) -> list[int]:
    """Channels of each stage's folded input."""
    before = (3, *config.widths[:-1])
    return [width * time * space**2 for width, (time, space) in zip(before, config.folds, strict=True)]
