"""Layouts of pages and weights; the C++ side of the same facts is csrc/core/geometry.h.

plain   pages [pages, h, rows, d], weights [N, K]: what CUDA and callers with arrays of their own use.
tiled   pages for the CPU: keys in blocks of 16, elements grouped to four bytes (g = 2 for bf16, else 1), along d for
        K and along the keys for V: K [pages, h, blocks, d/g, 16, g], V [pages, h, 16 blocks / g, d, g].
packed  weights in the same blocks, outputs in place of keys: [ceil(N/16), K/g, 16 g].
"""

from __future__ import annotations

from typing import Literal

import torch

Layout = Literal["plain", "tiled"]
KEY_BLOCK = 16


def group_of(dtype: torch.dtype) -> int:
    """Elements that share four bytes in a tiled page."""
    return 2 if dtype.itemsize == 2 else 1


def key_blocks(rows: int) -> int:
    return -(-rows // KEY_BLOCK)


def page_shapes(
    layout: Layout, pages: int, heads: int, rows: int, head_dim: int, dtype: torch.dtype
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of K and V storage of one layer."""
    if layout == "plain":
        return ((pages, heads, rows, head_dim),) * 2
    g, blocks = group_of(dtype), key_blocks(rows)
    return (
        (pages, heads, blocks, head_dim // g, KEY_BLOCK, g),
        (pages, heads, blocks * KEY_BLOCK // g, head_dim, g),
    )


def layout_of(k_pages: torch.Tensor) -> Layout:
    """The layout of a layer's K pages, told by their number of dimensions."""
    return "tiled" if k_pages.ndim == 6 else "plain"


def logical_k(pages: torch.Tensor, rows: int, layout: Layout) -> torch.Tensor:
    """K of one or more pages [..., storage of a page] as [..., h, rows, d]."""
    if layout == "plain":
        return pages
    return pages.transpose(-3, -2).flatten(-2).flatten(-3, -2)[..., :rows, :]


def logical_v(pages: torch.Tensor, rows: int, layout: Layout) -> torch.Tensor:
    """V of one or more pages [..., storage of a page] as [..., h, rows, d]."""
    if layout == "plain":
        return pages
    return pages.transpose(-2, -1).flatten(-3, -2)[..., :rows, :]


def pack_weight(weight: torch.Tensor) -> torch.Tensor:
    """Lays a weight out for the CPU's operators, once, at load.

    Args:
        weight: [N, K], or [N, C, 2, 2] of a patch embedding. K must be even for bfloat16.

    Returns:
        [ceil(N/16), K/g, 16 g], contiguous; outputs past N are zero.
    """
    weight = weight.detach().flatten(1)
    outputs, inputs = weight.shape
    g, blocks = group_of(weight.dtype), key_blocks(outputs)
    if inputs % g:
        raise ValueError(f"weight has {inputs} inputs; bfloat16 weights need an even number: pad with a zero column")
    padded = weight.new_zeros(blocks * KEY_BLOCK, inputs)
    padded[:outputs] = weight
    blocked = padded.view(blocks, KEY_BLOCK, inputs // g, g).transpose(1, 2)
    return blocked.contiguous().view(blocks, inputs // g, KEY_BLOCK * g)


def unpack_weight(packed: torch.Tensor, outputs: int) -> torch.Tensor:
    """The inverse of `pack_weight`, as [N, K]."""
    blocks, groups, width = packed.shape
    g = width // KEY_BLOCK
    plain = packed.view(blocks, groups, KEY_BLOCK, g).transpose(1, 2).reshape(blocks * KEY_BLOCK, groups * g)
    return plain[:outputs]
