"""What the trainer asks of a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .optimiser import OptimiserConfig
from .parallel import Processes

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class RunConfig:
    """How long, how large and how careful; the same for every stage."""

    steps: int
    """Updates."""
    batch: int = 8
    """Clips per update, over all processes."""
    accumulate: int = 1
    """Parts that a process computes its share of a batch in, one after the other."""
    seed: int = 0
    """Of initial weights, data order, noise: everything random."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16: autocast; weights, gradients and optimiser state stay float32."""
    recompute: bool = False
    """Gradient checkpointing per transformer block: less memory, a third more work."""
    clip: float = 1.0
    """Largest norm of all gradients together; 0: none is scaled."""
    ema: float = 0.99
    """Decay of the averaged weights that are evaluated and saved as the result; 0: none."""
    checkpoint_every: int = 200
    """Updates between two checkpoints."""
    keep: int = 2
    """Checkpoints kept."""
    log_every: int = 10
    """Updates between two lines of scalars."""
    measure_every: int = 0
    """Updates between two measurements on held-out clips with sample pictures; 0: only at the end."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("batch", 1), ("accumulate", 1), ("keep", 1), ("measure_every", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be >= {least}")
        for name in ("checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be >= 1")

    def share(self, step: int, processes: Processes) -> list[range]:
        """The numbers of the clips that this process sees in update `step`, one range per part."""
        per_part, rest = divmod(self.batch, processes.count * self.accumulate)
        if rest:
            raise ValueError(
                f"batch={self.batch} must be a multiple of {processes.count} processes x accumulate={self.accumulate}"
            )
        first = step * self.batch + processes.rank * per_part * self.accumulate
        return [range(first + i * per_part, first + (i + 1) * per_part) for i in range(self.accumulate)]


@dataclass(frozen=True)
class Loss:
    """What a stage computed from a part of a batch; means over its clips."""

    total: Tensor
    """Scalar to minimise."""
    scalars: dict[str, Tensor]
    """Further scalars for the log; no gradients are taken from them."""


class Collapsed(RuntimeError):
    """The training has failed in a way that more of it does not mend; the newest checkpoint is from before."""


class Stage(ABC, Generic[Batch]):
    """A unit of training work: modules, what they learn from, and what is measured and shown.

    Everything random is a function of (seed, number of the clip): see `Noise`. So an update does not depend on how a
    batch is spread over processes, and a resumed run goes on as if nothing had happened.
    """

    name: ClassVar[str]
    run: RunConfig
    config: Any
    """The frozen dataclass that the stage was made from; goes into the record."""
    modules: dict[str, nn.Module]
    """What is trained, saved and averaged, by name."""
    optimisers: dict[str, OptimiserConfig]
    """For each of `modules`."""
    sources: dict[str, Any]
    """Data and weights that the stage began from; goes into the record."""
    tokens: int
    """Work in one clip, for the rate on the progress bar."""
    kept: Mapping[str, Tensor] = MappingProxyType({})
    """Tensors beside the modules that go into a checkpoint; the same in every process, changed in place."""

    def turns(self, step: int) -> Sequence[str]:
        """Names of the modules that update `step` trains, one after the other, each with its own loss."""
        return tuple(self.modules)

    def prepare(self) -> None:
        """Before the first update of a run that is not resumed."""
        return None

    @abstractmethod
    def load(self, clips: range) -> Batch:
        """Reads a part of a batch, given the numbers of its clips. Runs in a thread beside the training."""

    @abstractmethod
    def loss(self, step: int, batch: Batch, turn: str) -> Loss:
        """The loss of the module whose turn it is; runs under autocast."""

    def losses(self, step: int, batch: Batch, turn: str) -> Iterator[Loss]:
        """The loss in parts that add up; each has its backward pass before the next is computed."""
        yield self.loss(step, batch, turn)

    def check(self, values: Mapping[str, float]) -> None:
        """Looks at scalars of all processes, before they change any weight.

        Raises:
            Collapsed: it would be a waste to go on.
        """
        return None

    def measure(self) -> dict[str, float]:
        """Figures on held-out clips; the modules have their averaged weights meanwhile."""
        return {}

    def show(self) -> Tensor | None:
        """A sample to look at: uint8 [n, H, W, 3], or None."""
        return None

    def finish(self) -> None:
        """After the last update, with averaged weights in place: what is left to fit without gradients."""
        return None

    @abstractmethod
    def save(self, out: Path, weights: dict[str, dict[str, Tensor]]) -> None:
        """Writes the result: the averaged weights and all buffers of each module, whole, on the CPU. Runs in the
        first process alone."""

    def shards(self, name: str) -> tuple[Sequence[Sequence[nn.Module]], Sequence[str]]:
        """For many processes: see `Processes.shard`."""
        return (), ()


class Noise:
    """Random numbers of a part of a batch: a row per clip, a function of (seed, clip number, what for)."""

    def __init__(self, seed: int, clips: range, device: torch.device, purpose: int = 0) -> None:
        self._device = device
        self._rows = []
        for clip in clips:
            state = np.random.SeedSequence((seed, clip, purpose)).generate_state(1, np.uint64)
            self._rows.append(torch.Generator(device).manual_seed(int(state[0]) >> 1))

    def normal(self, *shape: int) -> Tensor:
        """[B, *shape] from N(0, 1)."""
        return torch.stack([torch.randn(shape, generator=row, device=self._device) for row in self._rows])

    def uniform(self, *shape: int) -> Tensor:
        """[B, *shape] from U(0, 1)."""
        return torch.stack([torch.rand(shape, generator=row, device=self._device) for row in self._rows])
