"""Linears in fp8: a block's projections as OCP e4m3 with a scale for each output, activations with one for each token.

    modulate, to fp8 -> qkv -> attention -> quantise -> out
    modulate, to fp8 -> up -> quantise, after GELU -> down

A token's scale depends on that token alone, so a stream's bits do not depend on its company. Patch embedding, head,
attention and the text side stay as they are. On a GPU torch multiplies (`torch._scaled_mm`). A CPU multiplies no fp8:
there the same rounded numbers are multiplied in float32, which shows the error and is slower than without.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

import aapt_ext
from aapt_ext import Quantised, reference

from .block import Activation
from .config import TransformerConfig
from .kernels import Buffer, Projection

Linears = Literal["fp8"]
MULTIPLE = 16
"""Of the widths that torch's product takes."""
CAPABILITY = (8, 9)
"""The first GPUs whose tensor cores multiply fp8."""


def check_linears(linears: Linears | None, config: TransformerConfig, dtype: torch.dtype, device: torch.device) -> None:
    """Raises ValueError where a transformer's linears cannot be these."""
    if linears is None:
        return
    if linears != "fp8":
        raise ValueError(f"linears is {linears!r}; it must be fp8 or None")
    for name in ("width", "mlp"):
        if (value := getattr(config, name)) % MULTIPLE:
            raise ValueError(
                f"linears is 'fp8', and the model's {name} is {value}; it must be a multiple of {MULTIPLE}: leave "
                "linears out"
            )
    if device.type != "cuda":
        return
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        raise ValueError(
            f"linears is 'fp8', and {torch.cuda.get_device_name(device)} has compute capability "
            f"{'.'.join(map(str, capability))}; it must be {'.'.join(map(str, CAPABILITY))} or newer: leave linears out"
        )
    if dtype != torch.bfloat16:
        raise ValueError(f"linears is 'fp8', and dtype is {dtype}; it must be bfloat16 on a GPU")


def quantised_projection(layer: nn.Linear) -> Projection:
    """A layer for `Fp8Kernels`: fp8 with its scales [N], or on a CPU what those stand for, in float32 and packed."""
    values, scale = aapt_ext.quantise(layer.weight.detach())
    bias = None if layer.bias is None else layer.bias.detach()
    if values.device.type != "cpu":
        return Projection(values, bias, len(values), scale)
    packed = aapt_ext.pack_weight(reference.dequantise(values, scale))
    return Projection(packed, None if bias is None else bias.float(), len(values))


class Fp8Kernels:
    """`Operations` whose linears are `quantised_projection`s. Results are allocated.

    Activations are a `Buffer` of tokens, or rows that are `Quantised` already because only a linear reads them.

    Args:
        batch: streams.
        dtype: of the residual stream.
    """

    in_place = False

    def __init__(self, eps: float, batch: int, dtype: torch.dtype) -> None:
        self.eps, self.batch, self.dtype = eps, batch, dtype

    def buffer(self, name: str) -> None:
        """There are none to write to."""

    def linear(
        self, x: Buffer | Quantised, projection: Projection, into: str, activation: Activation = "none"
    ) -> Buffer | Quantised:
        rows = multiply(aapt_ext.quantise(x.rows) if isinstance(x, Buffer) else x, projection, self.dtype)
        if activation != "none":
            return aapt_ext.quantise(rows, activation)
        return Buffer(rows, rows.view(self.batch, -1, projection.outputs))

    def modulate(
        self,
        x: Buffer,
        y: Buffer | None,
        gate: Tensor | None,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Buffer, Quantised]:
        residual, (values, row_scale) = aapt_ext.modulate(
            x.tokens, None if y is None else y.tokens,
            gate=gate, scale=scale, shift=shift, weight=weight, bias=bias, eps=self.eps, quantised=True,
        )  # fmt: skip
        return Buffer.over(residual), Quantised(values.flatten(0, 1), row_scale.flatten())


def multiply(x: Quantised, projection: Projection, dtype: torch.dtype) -> Tensor:
    """The product of rows [M, K] with a `quantised_projection`, plus its bias: [M, N] in `dtype`."""
    if projection.scale is None:
        wide = reference.dequantise(*x)
        return aapt_ext.linear(wide, projection.weight, projection.bias, outputs=projection.outputs).to(dtype)
    # Without fast accumulation: that keeps some 14 bits of a sum, and one step has no later one to repair it.
    return torch._scaled_mm(
        x.values,
        projection.weight.t(),
        x.scale.unsqueeze(1),
        projection.scale.unsqueeze(0),
        projection.bias,
        out_dtype=dtype,
    )
