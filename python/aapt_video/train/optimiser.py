"""Optimisers by configuration: Muon for the blocks' matrices and AdamW for the rest, or AdamW for all.

On two cores Muon reached a lower error than AdamW in the same time; where torch has no Muon (before 2.9) AdamW takes
its place. Adam with betas (0, 0.9) is the RMSProp of adversarial training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimiserConfig:
    """How one module is optimised."""

    lr: float = 1e-3
    """Learning rate of AdamW, at its highest."""
    muon_lr: float = 0.0
    """Learning rate of Muon for the matrices of a module's `blocks`; 0: AdamW for all."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's two averages."""
    weight_decay: float = 0.0
    """Of both optimisers, as a share of the learning rate."""
    warmup: int = 20
    """Updates over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """After the warm-up."""
    final: float = 0.05
    """Share of the learning rate that cosine ends with."""

    def __post_init__(self) -> None:
        for name in ("lr", "muon_lr", "weight_decay", "warmup", "final"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be >= 0")

    def scale(self, step: int, steps: int) -> float:
        """The learning rate of update `step` (from 0 on) of `steps`, as a share of the highest."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant" or steps <= self.warmup:
            return rise
        progress = max(0.0, (step - self.warmup) / max(1, steps - self.warmup))
        return rise * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Optimiser:
    """The optimisers of one module, as one; their state is per parameter name, and may be sharded."""

    def __init__(self, module: nn.Module, config: OptimiserConfig, steps: int) -> None:
        self.config, self.steps = config, steps
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        muon = getattr(torch.optim, "Muon", None)
        matrices = _matrices(self.parameters) if config.muon_lr > 0 and muon is not None else []
        rest = [name for name in self.parameters if name not in set(matrices)]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        if matrices and muon is not None:
            chosen = [self.parameters[name] for name in matrices]
            self._parts.append((muon(chosen, lr=config.muon_lr, weight_decay=config.weight_decay), config.muon_lr))
        adamw = torch.optim.AdamW(
            [self.parameters[name] for name in rest],
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        self._parts.append((adamw, config.lr))

    def zero_grad(self) -> None:
        for part, _ in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self, step: int) -> float:
        """Update number `step` (from 0 on); returns AdamW's learning rate."""
        scale = self.config.scale(step, self.steps)
        for part, lr in self._parts:
            for group in part.param_groups:
                group["lr"] = lr * scale
            part.step()
        return self.config.lr * scale

    def gradients(self) -> list[Tensor]:
        """Of every parameter that has one."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Per parameter name, its tensors (not copies)."""
        found = {}
        for name, parameter in self.parameters.items():
            for part, _ in self._parts:
                if state := part.state.get(parameter):
                    found[name] = {key: value for key, value in state.items() if isinstance(value, Tensor)}
        return found

    def set_state(self, name: str, state: dict[str, Tensor]) -> None:
        """Puts back what `state` gave for a parameter, with that parameter's device and sharding."""
        parameter = self.parameters[name]
        owners = [part for part, _ in self._parts if any(p is parameter for p in part.param_groups[0]["params"])]
        owners[0].state[parameter] = state


def _matrices(names: Iterable[str]) -> list[str]:
    """What Muon is for: the projections inside the blocks. First and last layer and tables stay with AdamW."""
    return [name for name in names if ".blocks." in f".{name}" and name.endswith(".weight") and ".norm." not in name]


def clip_gradients(gradients: list[Tensor], limit: float) -> Tensor:
    """Scales gradients in place to a common norm of at most `limit` (0: leaves them); returns the norm before."""
    norm = torch.nn.utils.get_total_norm(gradients)
    if isinstance(norm, torch.distributed.tensor.DTensor):
        norm = norm.full_tensor()
    if limit > 0:
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm
