"""The exponential moving average of weights: what is evaluated, shown and shipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """ema <- decay · ema + (1 - decay) · weights after every update, in float32.

    Early on the decay is (1 + step) / (10 + step) where that is smaller, so that the start is forgotten.

    Args:
        module: whose parameters are averaged; they may be sharded. Buffers are not averaged.
        decay: 0 <= decay < 1; 0 keeps the weights themselves.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be in [0, 1); 0 turns averaging off")
        self.module, self.decay = module, decay
        self.tensors: dict[str, Tensor] = {
            name: parameter.detach().float().clone() for name, parameter in module.named_parameters()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after update number `step` (from 1 on)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        ema = list(self.tensors.values())
        torch._foreach_lerp_(ema, [p.detach().float() for p in self.module.parameters()], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module has the averaged weights; afterwards its own again, bit for bit."""
        with torch.no_grad():
            own = [parameter.detach().clone() for parameter in self.module.parameters()]
            for parameter, average in zip(self.module.parameters(), self.tensors.values(), strict=True):
                parameter.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, before in zip(self.module.parameters(), own, strict=True):
                    parameter.copy_(before)
