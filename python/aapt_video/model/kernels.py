"""Weights laid out for inference, and the block's operations on buffers that already exist.

Where results go to buffers, the bound functions are called without their Python checks: they check by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aapt_ext
from aapt_ext import _C
from aapt_ext.dispatch import REFERENCE, implementation

from .block import Activation, Block, QKNorm
from .config import TransformerConfig


def writes_in_place(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the operators here write to given buffers.

    On a GPU results come from torch's allocator, which a captured graph replays at fixed addresses.
    """
    return device.type == "cpu" and implementation("linear", "cpu", dtype) != REFERENCE


@dataclass(frozen=True)
class Projection:
    """A linear layer for inference."""

    weight: Tensor
    """[N, K], or packed (`aapt_ext.pack_weight`) on a CPU; in fp8 where there is a scale."""
    bias: Tensor | None
    """[N]."""
    outputs: int
    """N."""
    scale: Tensor | None = None
    """[N] float32: of each output's weights in fp8 (`fp8.py`)."""

    @staticmethod
    def of(layer: nn.Linear | nn.Conv2d) -> Projection:
        weight = layer.weight.detach()
        packed = aapt_ext.pack_weight(weight) if weight.device.type == "cpu" else weight.contiguous()
        return Projection(packed, None if layer.bias is None else layer.bias.detach(), len(weight))


@dataclass(frozen=True)
class Norm:
    """Weights of a LayerNorm, [D]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class QKWeights:
    """Weights of the norm of queries and keys, [D] or [d]."""

    q: Tensor
    k: Tensor

    @staticmethod
    def of(norm: QKNorm) -> QKWeights:
        return QKWeights(norm.q.detach(), norm.k.detach())


@dataclass(frozen=True)
class CrossWeights:
    """The frame's side of cross-attention."""

    norm: Norm
    q: Projection
    qk_norm: QKWeights
    out: Projection


@dataclass(frozen=True)
class BlockWeights:
    """A block for inference; the names are those of `Block`."""

    qkv: Projection
    qk_norm: QKWeights
    out: Projection
    up: Projection
    down: Projection
    cross: CrossWeights | None

    @staticmethod
    def of(block: Block, project: Callable[[nn.Linear], Projection] = Projection.of) -> BlockWeights:
        """`project` lays a linear layer out."""
        cross = None
        if block.cross is not None:
            norm = Norm(block.cross.norm.weight.detach(), block.cross.norm.bias.detach())
            cross = CrossWeights(
                norm, project(block.cross.q), QKWeights.of(block.cross.qk_norm), project(block.cross.out)
            )
        return BlockWeights(
            qkv=project(block.qkv),
            qk_norm=QKWeights.of(block.qk_norm),
            out=project(block.out),
            up=project(block.up),
            down=project(block.down),
            cross=cross,
        )


class Buffer(NamedTuple):
    """Activations of one frame, as the operators want them."""

    rows: Tensor
    """[B L, features]"""
    tokens: Tensor
    """[B, L, features], the same memory."""

    @staticmethod
    def over(tokens: Tensor) -> Buffer:
        return Buffer(tokens.flatten(0, 1), tokens)


class Kernels:
    """`Operations` on buffers of one (batch, tokens); a result holds until the same name is written again."""

    def __init__(
        self, config: TransformerConfig, batch: int, tokens: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.eps = config.eps
        self.in_place = writes_in_place(device, dtype)
        width = config.width
        features = {"x": width, "normed": width, "qkv": 3 * width, "heads": width, "seen": width, "branch": width}
        features["hidden"] = config.mlp
        self._buffers = {
            name: Buffer.over(torch.empty(batch, tokens, size, dtype=dtype, device=device))
            for name, size in (features.items() if self.in_place else ())
        }

    def buffer(self, name: str) -> Buffer | None:
        """The buffer to write to, or None where results are allocated."""
        return self._buffers.get(name)

    def linear(self, x: Buffer, projection: Projection, into: str, activation: Activation = "none") -> Buffer:
        out = self.buffer(into)
        if out is not None:
            _C.linear(x.rows, projection.weight, projection.bias, activation, out.rows)
            return out
        if x.rows.device.type == "cpu":
            weight, bias, outputs = projection.weight, projection.bias, projection.outputs
            rows = aapt_ext.linear(x.rows, weight, bias, activation=activation, outputs=outputs)
        else:
            rows = F.linear(x.rows, projection.weight, projection.bias)
            rows = F.gelu(rows, approximate="tanh") if activation == "gelu_tanh" else rows
        return Buffer(rows, rows.view(*x.tokens.shape[:2], -1))

    def modulate(
        self,
        x: Buffer,
        y: Buffer | None,
        gate: Tensor | None,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Buffer, Buffer]:
        out, added = self.buffer("normed"), None if y is None else y.tokens
        if out is not None:
            residual = None if y is None else x.tokens  # in place
            _C.modulate(x.tokens, added, gate, scale, shift, weight, bias, self.eps, residual, out.tokens)
            return x, out
        residual, normed = aapt_ext.modulate(
            x.tokens, added, gate=gate, scale=scale, shift=shift, weight=weight, bias=bias, eps=self.eps
        )
        return Buffer.over(residual), Buffer.over(normed)
