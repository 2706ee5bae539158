"""The transformer block: its weights, and the one function that every forward runs.

    x  (+ what the block before left: gate * y)
    |- norm, scale, shift -> qkv -> attend -> out ---- gate
    |- [cross-attention: norm -> q -> attend_text -> out]
    |- norm, scale, shift -> up -> gelu -> down ------ gate, left to the block after

`run_block` does not know how it is computed. `operations` multiplies and normalises: in training by differentiable
torch functions (`TorchOperations`), in a stream by the operators into buffers that already exist (`kernels.py`).
`attend` looks at other frames: over a clip (`attention.py`), or over pages (`cached.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aapt_ext import reference

from .config import TransformerConfig

Activation = Literal["none", "gelu_tanh"]


class Modulation(NamedTuple):
    """What the timestep does to a block, [B, D] each; the order is Wan's."""

    shift_1: Tensor
    scale_1: Tensor
    gate_1: Tensor
    shift_2: Tensor
    scale_2: Tensor
    gate_2: Tensor


class Operations(Protocol):
    """How activations are computed. They are opaque to the block: a tensor in training, a buffer in a stream."""

    def linear(self, x: Any, projection: Any, into: str, activation: Activation = "none") -> Any:
        """`projection` of x; `into` names the buffer: qkv, heads, branch or hidden."""

    def modulate(
        self,
        x: Any,
        y: Any | None,
        gate: Tensor | None,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """(x + gate y, its norm with weight and bias, times 1 + scale, plus shift)."""


class TorchOperations:
    """Differentiable, any dtype, any device."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def linear(self, x: Tensor, projection: nn.Module, into: str, activation: Activation = "none") -> Tensor:
        out: Tensor = projection(x)
        return F.gelu(out, approximate="tanh") if activation == "gelu_tanh" else out

    def modulate(
        self,
        x: Tensor,
        y: Tensor | None,
        gate: Tensor | None,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if y is None:
            return x, reference.modulate(x, scale, shift, weight, bias, self.eps)
        return reference.residual_modulate(x, y, gate, scale, shift, weight, bias, self.eps)


def run_block(
    weights: Any,
    x: Any,
    y: Any | None,
    gate: Tensor | None,
    modulation: Modulation,
    operations: Operations,
    attend: Callable[[Any], Any],
    attend_text: Callable[[Any], Any],
) -> tuple[Any, Any, Tensor]:
    """One block over the tokens x + gate y.

    Args:
        weights: a `Block`, or its form for inference with the same names.
        x: [B, rows, D], the residual stream; y: [B, rows, D] or None, what is still to be added to it.
        attend: [B, rows, 3 D] -> [B, rows, D], norm, rotation and self-attention.
        attend_text: [B, rows, D] -> [B, rows, D], norm and cross-attention; not called without `weights.cross`.

    Returns:
        (x, y, gate): the tokens after the block are x + gate y.
    """
    x, h = operations.modulate(x, y, gate, modulation.scale_1, modulation.shift_1)
    y = operations.linear(attend(operations.linear(h, weights.qkv, "qkv")), weights.out, "branch")
    gate = modulation.gate_1
    if weights.cross is not None:
        norm = weights.cross.norm
        x, h = operations.modulate(x, y, gate, weight=norm.weight, bias=norm.bias)
        y = operations.linear(attend_text(operations.linear(h, weights.cross.q, "heads")), weights.cross.out, "branch")
        gate = None
    x, h = operations.modulate(x, y, gate, modulation.scale_2, modulation.shift_2)
    y = operations.linear(operations.linear(h, weights.up, "hidden", "gelu_tanh"), weights.down, "branch")
    return x, y, modulation.gate_2


class QKNorm(nn.Module):
    """The weights of the RMSNorm of queries and keys; `aapt_ext.reference.qk_norm` tells the scope by their size."""

    def __init__(self, config: TransformerConfig, query: bool = True) -> None:
        super().__init__()
        size = config.width if config.qk_norm == "all" else config.head_dim
        if query:
            self.q = nn.Parameter(torch.ones(size))
        self.k = nn.Parameter(torch.ones(size))


class Cross(nn.Module):
    """Cross-attention to the text: the frame asks, the text answers."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm = nn.LayerNorm(width, eps=config.eps)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.qk_norm = QKNorm(config)
        self.out = nn.Linear(width, width)


class TextBlock(nn.Module):
    """The text side of a joint block. Text sees only text, so its keys depend on the prompt and timestep alone.

    The last one only gives keys and values: what it would add to the text, nobody reads.
    """

    cross = None

    def __init__(self, config: TransformerConfig, last: bool) -> None:
        super().__init__()
        hidden, width = config.text_hidden, config.width
        self.last = last
        self.table = nn.Parameter(torch.zeros(2 if last else 6, hidden))
        self.qk_norm = QKNorm(config, query=not last)
        if last:
            self.kv = nn.Linear(hidden, 2 * width)
        else:
            self.qkv = nn.Linear(hidden, 3 * width)
            self.out = nn.Linear(width, hidden)
            self.up = nn.Linear(hidden, 4 * hidden)
            self.down = nn.Linear(4 * hidden, hidden)


class Block(nn.Module):
    """The video side of a block."""

    def __init__(self, config: TransformerConfig, last: bool) -> None:
        super().__init__()
        width = config.width
        self.table = nn.Parameter(torch.zeros(6, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.qk_norm = QKNorm(config)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, config.mlp)
        self.down = nn.Linear(config.mlp, width)
        self.cross = Cross(config) if config.text == "cross" else None
        self.text = TextBlock(config, last) if config.text == "joint" else None


def modulation(table: Tensor, time: Tensor) -> Modulation:
    """A block's table [6, D] and the shared projection of the timestep [B, 6 D] as six vectors per stream."""
    return Modulation(*(table + torch.unflatten(time, 1, (6, -1))).unbind(1))


def closed(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """x + gate y: the tokens that `run_block` leaves in two parts."""
    return (reference.wide(x) + reference.wide(gate)[:, None] * reference.wide(y)).to(x.dtype)
