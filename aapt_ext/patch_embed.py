"""`patch_embed`: 2x2 patches of several channel groups times one weight; the concatenated tensor never exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from . import _C, reference
from ._library import register
from .arrays import empty, is_torch
from .dispatch import cuda_stream


def patch_embed(
    sources: Sequence[Any],
    weight: Any,
    bias: Any | None = None,
    *,
    out: Any | None = None,
    dtype: str | None = None,
) -> Any:
    """Embeds 2x2 patches of a latent frame that is given in parts (noise, condition, previous clean latent).

    Args:
        sources: one to four arrays [B, C_i, H, W], H and W even.
        weight: [D, sum C_i, 2, 2], or on a CPU `pack_weight` of it together with `out` or `bias` (which tell D).
        bias: [D] or None.
        out: [B, L, D] to write to, L = (H/2)(W/2) row by row; allocated where None.
        dtype: `"bf16"` where 16-bit unsigned integers mean bfloat16 (NumPy).

    Returns:
        [B, L, D].

    Raises:
        ValueError: an argument's shape, dtype, device or strides are not as above.
    """
    first = sources[0]
    outputs = weight.shape[0] if len(weight.shape) == 4 else _told(out, bias)
    if out is None:
        if is_torch(first):
            return torch.ops.aapt.patch_embed(list(sources), weight, bias, outputs)
        batch, _, height, width = first.shape
        out = empty(first, (batch, height // 2 * (width // 2), outputs))
    _C.patch_embed(sources, weight, bias, out, dtype=dtype, stream=cuda_stream(first))
    return out


def _told(out: Any, bias: Any) -> int:
    if out is None and bias is None:
        raise ValueError("weight is packed, so it does not tell D; pass bias or out")
    return int((bias if out is None else out).shape[-1])


def _empty(sources: Sequence[torch.Tensor], _weight: torch.Tensor, _bias: Any, outputs: int) -> torch.Tensor:
    batch, _, height, width = sources[0].shape
    return sources[0].new_empty(batch, height // 2 * (width // 2), outputs)


register(
    "patch_embed",
    "(Tensor[] sources, Tensor weight, Tensor? bias, int outputs) -> Tensor",
    empty=_empty,
    bound=lambda arguments, out: (*arguments[:-1], out),
    reference=reference.patch_embed,
)
