"""The text side: from a prompt's embedding to the keys that frames see, in every block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aapt_ext import reference

from .attention import KeysValues, merged_heads, normed_heads, split_heads
from .block import Block, TextBlock, TorchOperations, closed, modulation, run_block
from .config import TransformerConfig


def check_embedding(config: TransformerConfig, embedding: Tensor, lengths: Sequence[int]) -> None:
    """Raises ValueError unless `embedding` [B, S, text width] and `lengths` are what this model reads."""
    if config.text == "none":
        raise ValueError("embedding is given, but this model knows no text")
    batch, tokens, features = embedding.shape
    if features != config.text_width or not 1 <= tokens <= config.text_tokens:
        raise ValueError(
            f"embedding has shape {list(embedding.shape)}; it must be [B, 1 to {config.text_tokens}, "
            f"{config.text_width}]: cut the prompt, or use the encoder that the model was trained with"
        )
    if len(lengths) != batch or not all(1 <= length <= tokens for length in lengths):
        raise ValueError(f"lengths is {list(lengths)}; it must hold {batch} numbers from 1 to {tokens}")


def cross_keys(config: TransformerConfig, stack: Sequence[Block], x: Tensor) -> tuple[KeysValues, ...]:
    """Every block's own projection of the text x [B, S, D]."""
    layers = []
    for block in stack:
        assert block.cross is not None
        k, v = block.cross.kv(x).chunk(2, -1)
        layers.append((normed_heads(k, block.cross.qk_norm.k, config), split_heads(v, config)))
    return tuple(layers)


def joint_keys(
    config: TransformerConfig, stack: Sequence[Block], x: Tensor, lengths: Sequence[int], time: Tensor
) -> tuple[KeysValues, ...]:
    """Runs the text stream x [B, S, text hidden], block by block.

    Text has no place in the picture and no time: its keys are not rotated.

    Args:
        time: [B, 6 text hidden], the shared projection of the timestep.
    """
    operations, mask = TorchOperations(config.eps), reference.key_mask(lengths, x.shape[1], x.device)
    layers: list[KeysValues] = []
    for block in stack:
        text = block.text
        assert text is not None

        def attend(qkv: Tensor, text: TextBlock = text) -> Tensor:
            q, k, v = qkv.chunk(3, -1)
            q, k = normed_heads(q, text.qk_norm.q, config), normed_heads(k, text.qk_norm.k, config)
            layers.append((k, split_heads(v, config)))
            return merged_heads(reference.attention(q, *layers[-1], mask))

        if text.last:
            shift, scale = (text.table + torch.unflatten(time, 1, (6, -1))[:, :2]).unbind(1)
            k, v = text.kv(operations.modulate(x, None, None, scale, shift)[1]).chunk(2, -1)
            layers.append((normed_heads(k, text.qk_norm.k, config), split_heads(v, config)))
        else:
            vectors = modulation(text.table, time)
            x = closed(*run_block(text, x, None, None, vectors, operations, attend, attend))
    return tuple(layers)
