"""What a transformer costs: counted from its configuration, before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aapt_ext import PagePool
from aapt_ext.layout import Layout

from .config import PATCH, TransformerConfig
from .transformer import Transformer


@dataclass(frozen=True)
class Size:
    """One latent frame of one stream, with a full window."""

    tokens: int
    """L, tokens of a latent frame."""
    keys: int
    """Keys that a frame looks at in self-attention: text of joint attention, pinned position, window, itself."""
    parameters: int
    """Of the whole transformer."""
    frame_parameters: int
    """Of these, what every frame runs through; the rest runs once per prompt or timestep."""
    linear_flops: int
    """Of the projections, per latent frame; a multiply-add is two."""
    attention_flops: int
    """Of self-attention and cross-attention, per latent frame."""
    weight_bytes: int
    """All parameters."""
    fp8_bytes: int
    """What linears in fp8 add: the blocks' projections with their scales; on a CPU what they stand for, in float32."""
    page_bytes: int
    """Keys and values of one latent frame in all blocks."""
    text_page_bytes: int
    """The same for one prompt."""
    pages: int
    """Pages that a stream holds while it steps: pinned position, window, the new one."""

    @property
    def flops(self) -> int:
        """Per latent frame."""
        return self.linear_flops + self.attention_flops

    def frame_bytes(self, itemsize: int) -> int:
        """Least memory traffic of one latent frame: its weights and the keys and values of its window, read once."""
        return self.frame_parameters * itemsize + self.pages * self.page_bytes + self.text_page_bytes

    def stream_bytes(self, history: int = 0, decoder_state: int = 0, snapshot_every: int = 6) -> int:
        """Memory of one stream: pages, its prompt, history, the decoder's state and the copies kept for rewinding."""
        copies = 1 + (history // snapshot_every + 2 if history else 0)
        return (self.pages + history) * self.page_bytes + self.text_page_bytes + copies * decoder_state


def size(
    config: TransformerConfig, height: int, width: int, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
) -> Size:
    """The cost of latents of height x width.

    Args:
        height, width: in latent pixels.
        dtype: of weights, keys and values.
        device: "cpu" or "cuda"; on a CPU a page's rows are rounded up to 16.

    Raises:
        ValueError: height or width is odd.
    """
    tokens = config.tokens(height, width)
    with torch.device("meta"):
        model = Transformer(config)
    counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
    once = ("text_", "time_")
    inside = (".text.", ".cross.kv.", ".cross.qk_norm.k")
    frame = sum(n for name, n in counts.items() if not name.startswith(once) and not any(i in name for i in inside))

    d, blocks = config.width, config.blocks
    text = config.text_tokens if config.text != "none" else 0
    keys = (config.window + 2) * tokens + (text if config.text == "joint" else 0)
    per_block = 4 * d * d + 2 * d * config.mlp + (2 * d * d if config.text == "cross" else 0)
    ends = PATCH * PATCH * d * (config.input_channels + config.channels)
    seen = keys + (text if config.text == "cross" else 0)

    outputs = 4 * d + config.mlp + d + (2 * d if config.text == "cross" else 0)
    fp8 = blocks * (4 * per_block if device == "cpu" else per_block + 4 * outputs)

    layout: Layout = "tiled" if device == "cpu" else "plain"
    heads, head_dim = config.heads, config.head_dim
    return Size(
        tokens=tokens,
        keys=keys,
        parameters=sum(counts.values()),
        frame_parameters=frame,
        linear_flops=2 * tokens * (blocks * per_block + ends),
        attention_flops=4 * tokens * seen * d * blocks,
        weight_bytes=sum(counts.values()) * dtype.itemsize,
        fp8_bytes=fp8,
        page_bytes=PagePool.page_bytes(blocks, heads, tokens, head_dim, dtype, layout),
        text_page_bytes=PagePool.page_bytes(blocks, heads, text, head_dim, dtype, layout) if text else 0,
        pages=config.window + 2,
    )
