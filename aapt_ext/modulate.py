"""`modulate`: gated residual, LayerNorm, affine and/or scale and shift, in one pass over the tokens."""

from __future__ import annotations

from typing import Any

import torch

from . import _C, reference
from ._library import register
from .arrays import empty, is_torch
from .dispatch import cuda_stream


def modulate(
    x: Any,
    y: Any | None = None,
    *,
    gate: Any | None = None,
    scale: Any | None = None,
    shift: Any | None = None,
    weight: Any | None = None,
    bias: Any | None = None,
    eps: float = 1e-6,
    residual: Any | None = None,
    out: Any | None = None,
    dtype: str | None = None,
) -> tuple[Any, Any]:
    """residual = x + gate y;  out = (LayerNorm(residual) weight + bias) (1 + scale) + shift.

    Args:
        x: [B, L, D].
        y: [B, L, D], or None for no residual branch.
        gate, scale, shift: [B, D], one row per stream; None means 1, 0, 0.
        weight, bias: [D]; None means 1, 0.
        eps: added to the variance.
        residual, out: [B, L, D] to write to; allocated where None. `residual` may be `x` itself.
        dtype: `"bf16"` where 16-bit unsigned integers mean bfloat16 (NumPy).

    Returns:
        (residual, out); residual is `x` itself where there is no `y`.

    Raises:
        ValueError: an argument's shape, dtype, device or strides are not as above.
    """
    if out is None and residual is None and is_torch(x):
        if y is None:
            if gate is not None:
                raise ValueError("modulate: gate is given without y; leave it out, or give both")
            return x, torch.ops.aapt.modulate(x, scale, shift, weight, bias, eps)
        return torch.ops.aapt.residual_modulate(x, y, gate, scale, shift, weight, bias, eps)  # type: ignore[no-any-return]
    out = empty(x, tuple(x.shape)) if out is None else out
    residual = empty(x, tuple(x.shape)) if residual is None and y is not None else residual
    _C.modulate(x, y, gate, scale, shift, weight, bias, eps, residual, out, dtype=dtype, stream=cuda_stream(x))
    return x if residual is None else residual, out


def _empty(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _bound(arguments: tuple[Any, ...], out: torch.Tensor) -> tuple[Any, ...]:
    """With neither y nor gate, and so without a residual."""
    x, *vectors_and_eps = arguments
    return x, None, None, *vectors_and_eps, None, out


_VECTORS = "Tensor? scale, Tensor? shift, Tensor? weight, Tensor? bias, float eps"
register(
    "modulate",
    f"(Tensor x, {_VECTORS}) -> Tensor",
    empty=_empty,
    bound=_bound,
    reference=reference.modulate,
)
register(
    "residual_modulate",
    f"(Tensor x, Tensor y, Tensor? gate, {_VECTORS}) -> (Tensor, Tensor)",
    empty=lambda x, *_: (_empty(x), _empty(x)),
    bound=lambda arguments, results: (*arguments, *results),
    reference=reference.residual_modulate,
    function="modulate",
)
