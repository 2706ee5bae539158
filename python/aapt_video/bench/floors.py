"""The least time that one latent frame can take on a machine, counted from shapes; nothing here is measured.

A part of the step multiplies so much and moves so much, and takes at least the longer of the two. Parts wait for each
other, so their floors add up. A machine is described by what it was measured to give (`roofs.py`), not by a data sheet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aapt_video.codec import CodecConfig, decoder_cost
from aapt_video.model import TransformerConfig
from aapt_video.model.size import size

# A pass reads or writes one [L, D] tensor. Gated residual, norm and modulation in one kernel: x and y in, x and the
# normed tokens out. Norm and rotation of queries and keys with the write to the page: q, k, v in and out. The second
# query of a capped pinned position is not counted.
MODULATE_PASSES = 4
CACHE_WRITE_PASSES = 6
QUERY_NORM_PASSES = 2


@dataclass(frozen=True)
class Roofs:
    """What a machine gives."""

    matrix: float
    """FLOP/s of a large matrix product in the dtype of the step."""
    copy: float
    """Bytes/s, read and written, of a large copy."""


@dataclass(frozen=True)
class Part:
    """A part of the step."""

    name: str
    flops: float
    """Without padding; a multiply-add is two."""
    bytes: float
    """Moved at least: every weight, key and activation of the part once."""

    def seconds(self, roofs: Roofs) -> float:
        """The floor of this part."""
        return max(self.flops / roofs.matrix, self.bytes / roofs.copy)


@dataclass(frozen=True)
class Floor:
    """One latent frame of one stream with a full window."""

    linear: Part
    """Projections, patch embedding and head, over the weights that every frame runs through."""
    attention: Part
    """Self-attention over window and text, cross-attention where there is any."""
    pointwise: Part
    """Everything between the products, fused as far as it can be."""
    decoder: Part
    """From the latent to four pictures."""
    exponentials: float
    """Of the softmax: one per score. A unit of its own computes them, beside the products."""

    @property
    def transformer(self) -> tuple[Part, Part, Part]:
        return self.linear, self.attention, self.pointwise

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*self.transformer, self.decoder)

    def transformer_seconds(self, roofs: Roofs) -> float:
        return sum(part.seconds(roofs) for part in self.transformer)

    def seconds(self, roofs: Roofs) -> float:
        return sum(part.seconds(roofs) for part in self.parts)


def floor(
    config: TransformerConfig,
    codec: CodecConfig,
    height: int,
    width: int,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cuda",
) -> Floor:
    """The floor of one step.

    Args:
        height, width: of the pictures, in pixels.
        dtype: of weights, keys and activations.
        device: "cpu" or "cuda"; a CPU's pages are rounded up to whole tiles.
    """
    cost = size(config, height // codec.space, width // codec.space, dtype, device)
    cross = config.text == "cross"
    passes = 2 * MODULATE_PASSES + CACHE_WRITE_PASSES
    passes += MODULATE_PASSES + QUERY_NORM_PASSES if cross else 0
    seen = cost.keys + (config.text_tokens if cross else 0)
    decoder = decoder_cost(codec, height, width, dtype)
    return Floor(
        linear=Part("linear", cost.linear_flops, cost.frame_parameters * dtype.itemsize),
        attention=Part("attention", cost.attention_flops, cost.pages * cost.page_bytes + cost.text_page_bytes),
        pointwise=Part("pointwise", 0, passes * cost.tokens * config.width * dtype.itemsize * config.blocks),
        decoder=Part("decoder", decoder.flops, decoder.parameters * dtype.itemsize + 2 * decoder.state_bytes),
        exponentials=float(cost.tokens) * seen * config.heads * config.blocks,
    )
