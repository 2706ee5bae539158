"""`linear`: the projections of a block on a CPU, for the few rows of one latent frame. On a GPU use torch's."""

from __future__ import annotations

from typing import Any, Literal

import torch

from . import _C, reference
from ._library import register

Activation = Literal["none", "gelu_tanh", "silu"]


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: Activation = "none",
    outputs: int | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """activation(x weight^T + bias).

    Args:
        x: [rows, K], contiguous in its last dimension.
        weight: [N, K], or `pack_weight` of it (once, at load), which is what makes it fast.
        bias: [N] or None.
        activation: applied in the same pass.
        outputs: N; needed only where weight is packed and neither bias nor out tell it.
        out: [rows, N] to write to; allocated where None.

    Returns:
        [rows, N].

    Raises:
        ValueError: an argument's shape, dtype, device or strides are not as above.
    """
    if out is not None:
        _C.linear(x, weight, bias, activation, out)
        return out
    if outputs is None:
        outputs = weight.shape[0] if weight.ndim == 2 else None if bias is None else bias.shape[0]
    if outputs is None:
        raise ValueError("linear: weight is packed, so it does not tell N; pass outputs, bias or out")
    return torch.ops.aapt.linear(x, weight, bias, activation, outputs)  # type: ignore[no-any-return]


def _empty(x: torch.Tensor, _weight: torch.Tensor, _bias: Any, _activation: Any, outputs: int) -> torch.Tensor:
    return x.new_empty(x.shape[0], outputs)


register(
    "linear",
    "(Tensor x, Tensor weight, Tensor? bias, str activation, int outputs) -> Tensor",
    empty=_empty,
    bound=lambda arguments, out: (*arguments[:-1], out),
    reference=reference.linear,
)
