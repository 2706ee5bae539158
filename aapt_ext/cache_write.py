"""`cache_write`: from the merged projection of one latent frame to its page, in one pass."""

from __future__ import annotations

from typing import Any

import torch

from . import _C, reference
from ._library import register
from .arrays import empty, is_torch
from .dispatch import cuda_stream


def cache_write(
    qkv: Any,
    q_weight: Any | None,
    k_weight: Any | None,
    time_rotation: Any,
    space_rotation: Any,
    page: Any,
    k_pages: Any,
    v_pages: Any,
    *,
    pinned_rotation: Any | None = None,
    eps: float = 1e-6,
    q: Any | None = None,
    q_pinned: Any | None = None,
    dtype: str | None = None,
) -> tuple[Any, Any | None]:
    """RMSNorm of q and k, 3-D RoPE, k and v into this latent frame's page.

    The first pairs of a head turn with time, the others with the place in the picture; a pair is two neighbouring
    elements, (a, b) -> (a cos - b sin, a sin + b cos).

    Args:
        qkv: [B, L, 3, h, d].
        q_weight, k_weight: [d], norm per head; [h d], norm over all heads (Wan); both None, no norm.
        time_rotation: [B, pt, 2] float32 (float64 where qkv is), cos and sin at each stream's time.
        space_rotation: [L, d/2 - pt, 2], cos and sin of each token's place.
        page: [B] int32, the page that each stream writes; all different.
        k_pages, v_pages: one layer of a pool, plain [pages, h, L, d] or tiled (`aapt_ext.layout`); written.
        pinned_rotation: [B, pt, 2] or None: a second time to turn q to, for the pinned position.
        eps: added to the mean square.
        q, q_pinned: [B, L, h, d] to write to; allocated where None.
        dtype: `"bf16"` where 16-bit unsigned integers mean bfloat16 (NumPy).

    Returns:
        (q, q_pinned), [B, L, h, d] each; q_pinned is None where pinned_rotation is.

    Raises:
        ValueError: an argument's shape, dtype, device or strides are not as above, a page number on the CPU is outside
            the pool or twice in `page`, or a tensor needs a gradient: pages keep none. For training use
            `aapt_ext.reference.norm_and_rotate`.
    """
    if is_torch(qkv) and torch.is_grad_enabled():
        for name, tensor in (("qkv", qkv), ("q_weight", q_weight), ("k_weight", k_weight)):
            if tensor is not None and tensor.requires_grad:
                raise ValueError(
                    f"cache_write: {name} needs a gradient, and pages keep none; detach it, or train with "
                    "aapt_ext.reference.norm_and_rotate"
                )
    if q is None and q_pinned is None and is_torch(qkv):
        q, q_pinned = torch.ops.aapt.cache_write(
            qkv,
            q_weight,
            k_weight,
            eps,
            time_rotation,
            space_rotation,
            pinned_rotation,
            page,
            k_pages,
            v_pages,
        )
        return q, None if pinned_rotation is None else q_pinned
    batch, rows, _, heads, head_dim = qkv.shape
    shape = (batch, rows, heads, head_dim)
    q = empty(qkv, shape) if q is None else q
    q_pinned = empty(qkv, shape) if q_pinned is None and pinned_rotation is not None else q_pinned
    _C.cache_write(
        qkv, q_weight, k_weight, eps, time_rotation, space_rotation, pinned_rotation, page, k_pages, v_pages,
        q, q_pinned, dtype=dtype, stream=cuda_stream(qkv),
    )  # fmt: skip
    return q, q_pinned


def _empty(qkv: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    *_, pinned_rotation, _page, _k_pages, _v_pages = arguments
    batch, rows, _, heads, head_dim = qkv.shape
    shape = (batch, rows, heads, head_dim)
    return qkv.new_empty(shape), _nothing(qkv) if pinned_rotation is None else qkv.new_empty(shape)


def _nothing(qkv: torch.Tensor) -> torch.Tensor:
    """In place of a second q that is not wanted, since torch's operators return tensors only."""
    return qkv.new_empty(0)


def _bound(arguments: tuple[Any, ...], results: tuple[torch.Tensor, torch.Tensor]) -> tuple[Any, ...]:
    *_, pinned_rotation, _page, _k_pages, _v_pages = arguments
    q, q_pinned = results
    return *arguments, q, None if pinned_rotation is None else q_pinned


def _reference(qkv: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    q, q_pinned = reference.cache_write(qkv, *arguments)
    return q, _nothing(qkv) if q_pinned is None else q_pinned


register(
    "cache_write",
    "(Tensor qkv, Tensor? q_weight, Tensor? k_weight, float eps, Tensor time_rotation, Tensor space_rotation, "
    "Tensor? pinned_rotation, Tensor page, Tensor(a!) k_pages, Tensor(b!) v_pages) -> (Tensor, Tensor)",
    empty=_empty,
    bound=_bound,
    reference=_reference,
    differentiable=False,
)
