"""`modulate`: gated residual, LayerNorm, affine and/or scale and shift, in one pass over the tokens."""

from __future__ import annotations

from typing import Any

import torch

from . import _C, reference
from ._library import register
from .arrays import empty, empty_quantised, fp8_bytes, is_torch
from .dispatch import cuda_stream
from .quantise import Quantised


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
    row_scale: Any | None = None,
    quantised: bool = False,
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
        row_scale: [B, L] float32 to write to, where `quantised`; `out` is fp8 or uint8 then.
        quantised: return `out` in fp8 with a scale for each token, as `quantise` makes it of the unrounded result. Has
            no gradient, and is portable alone on a CPU.
        dtype: `"bf16"` where 16-bit unsigned integers mean bfloat16 (NumPy).

    Returns:
        (residual, out); residual is `x` itself where there is no `y`, and out is `Quantised` where that was asked for.

    Raises:
        ValueError: an argument's shape, dtype, device or strides are not as above.
    """
    if row_scale is not None and not quantised:
        raise ValueError("modulate: row_scale is given without quantised; leave it out, or pass quantised=True")
    vectors = scale, shift, weight, bias, eps
    if out is None and residual is None and row_scale is None and is_torch(x):
        if y is not None:
            if not quantised:
                return torch.ops.aapt.residual_modulate(x, y, gate, *vectors)  # type: ignore[no-any-return]
            residual, *made = torch.ops.aapt.residual_modulate_quantised(x, y, gate, *vectors)
            return residual, Quantised(*made)
        if gate is not None:
            raise ValueError("modulate: gate is given without y; leave it out, or give both")
        if not quantised:
            return x, torch.ops.aapt.modulate(x, *vectors)
        return x, Quantised(*torch.ops.aapt.modulate_quantised(x, *vectors))
    if quantised:
        out, row_scale = empty_quantised(x, out, row_scale)
    elif out is None:
        out = empty(x, tuple(x.shape))
    residual = empty(x, tuple(x.shape)) if residual is None and y is not None else residual
    arguments = x, y, gate, scale, shift, weight, bias, eps, residual, fp8_bytes(out), row_scale
    _C.modulate(*arguments, dtype=dtype, stream=cuda_stream(x))
    return x if residual is None else residual, Quantised(out, row_scale) if quantised else out


def _empty(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _bound(arguments: tuple[Any, ...], out: torch.Tensor, row_scale: torch.Tensor | None = None) -> tuple[Any, ...]:
    """With neither y nor gate, and so without a residual."""
    x, *vectors_and_eps = arguments
    return x, None, None, *vectors_and_eps, None, fp8_bytes(out), row_scale


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
register(
    "modulate_quantised",
    f"(Tensor x, {_VECTORS}) -> (Tensor, Tensor)",
    empty=lambda x, *_: empty_quantised(x),
    bound=lambda arguments, results: _bound(arguments, *results),
    reference=reference.modulate_quantised,
    function="modulate",
    differentiable=False,
)
register(
    "residual_modulate_quantised",
    f"(Tensor x, Tensor y, Tensor? gate, {_VECTORS}) -> (Tensor, Tensor, Tensor)",
    empty=lambda x, *_: (_empty(x), *empty_quantised(x)),
    bound=lambda arguments, results: (*arguments, results[0], fp8_bytes(results[1]), results[2]),
    reference=reference.residual_modulate_quantised,
    function="modulate",
    differentiable=False,
)
