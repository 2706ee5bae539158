"""`quantise`: rows in fp8 with a scale each, after an activation: what a product in fp8 takes."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch

from . import _C, reference
from ._library import register
from .arrays import empty_quantised, fp8_bytes, is_torch
from .dispatch import cuda_stream


class Quantised(NamedTuple):
    """Rows in OCP e4m3; an element stands for its value times its row's scale."""

    values: Any
    """[..., K], float8_e4m3fn; its bytes as uint8 where the library is not torch."""
    scale: Any
    """[...], float32: the row's largest magnitude over 448, 1e-30 at least."""


def quantise(
    x: Any,
    activation: Literal["none", "gelu_tanh"] = "none",
    *,
    out: Any | None = None,
    row_scale: Any | None = None,
    dtype: str | None = None,
) -> Quantised:
    """activation(x) in fp8, each row with a scale of its own, so that no row depends on another.

    Rounds to nearest even. Has no gradient. A CPU is served by the portable path: it multiplies no fp8.

    Args:
        x: [rows, K], K at most 16384 on a GPU.
        activation: applied in the same pass.
        out: [rows, K], fp8 or uint8, to write to; row_scale: [rows] float32. Allocated where None.
        dtype: `"bf16"` where 16-bit unsigned integers mean bfloat16 (NumPy).

    Returns:
        (values, scale).

    Raises:
        ValueError: an argument's shape, dtype, device or strides are not as above.
    """
    if out is None and row_scale is None and is_torch(x):
        return Quantised(*torch.ops.aapt.quantise(x, activation))
    out, row_scale = empty_quantised(x, out, row_scale)
    _C.quantise(x, activation, fp8_bytes(out), row_scale, dtype=dtype, stream=cuda_stream(x))
    return Quantised(out, row_scale)


register(
    "quantise",
    "(Tensor x, str activation) -> (Tensor, Tensor)",
    empty=lambda x, _activation: empty_quantised(x),
    bound=lambda arguments, results: (*arguments, fp8_bytes(results[0]), results[1]),
    reference=reference.quantise,
    differentiable=False,
)
