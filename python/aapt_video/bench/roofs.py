"""What this machine gives, measured in the run whose figures are held against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .floors import Roofs


@dataclass(frozen=True)
class RoofCalls:
    """One large matrix product and one large copy. Random inputs: zeros draw less power and run faster."""

    product: Callable[[], Any]
    copy: Callable[[], Any]
    flops: float
    """Of the product."""
    bytes: float
    """Read and written by the copy."""

    @staticmethod
    def on(device: torch.device, dtype: torch.dtype) -> RoofCalls:
        side, numbers = (8192, 256 << 20) if device.type == "cuda" else (512, 4 << 20)
        a, b = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
        source = torch.randn(numbers, device=device)
        target, product = torch.empty_like(source), torch.empty_like(a)
        return RoofCalls(
            product=lambda: torch.mm(a, b, out=product),
            copy=lambda: target.copy_(source),
            flops=2.0 * side**3,
            bytes=2.0 * source.nbytes,
        )

    def roofs(self, product_seconds: float, copy_seconds: float) -> Roofs:
        return Roofs(matrix=self.flops / product_seconds, copy=self.bytes / copy_seconds)
