"""What a streaming codec remembers between two latent frames, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(eq=False)
class CodecState:
    """The state of one encoder or decoder for a batch of B streams that started together.

    A step updates the tensors in place, so their addresses stay: a captured CUDA graph can be replayed over
    them. The first step takes or gives one frame and later ones `config.time`; `started` tells which, and
    lives on the host: who replays a graph captured on a started state has nothing to update.
    """

    late: tuple[Tensor, ...]
    """Per causal convolution [taps - 1, B, H, W, C]: what past frames add to frames that are yet to come."""
    shape: tuple[int, int, int]
    """(B, picture height, picture width)."""
    started: bool = False
    """Whether the first latent frame has passed."""

    @property
    def bytes(self) -> int:
        """Memory of the tensors."""
        return sum(late.nbytes for late in self.late)

    def clone(self) -> "CodecState":
        """An independent copy: the two continue apart (fork), or the copy is what a rewind returns to."""
        return CodecState(tuple(late.clone() for late in self.late), self.shape, self.started)

    def copy_(self, other: "CodecState") -> "CodecState":
        """Takes over the values of `other`, of any device and dtype, into the tensors of this state."""
        if self.shape != other.shape or len(self.late) != len(other.late):
            raise ValueError(
                f"other is a state of shape {other.shape} with {len(other.late)} tensors; this one has shape "
                f"{self.shape} with {len(self.late)}: copy between states of one net, batch and picture size"
            )
        for mine, theirs in zip(self.late, other.late, strict=True):
            mine.copy_(theirs)
        self.started = other.started
        return self

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "CodecState":
        """The state on another device or in another dtype; tensors already so are shared."""
        return CodecState(tuple(late.to(device, dtype) for late in self.late), self.shape, self.started)

    def row(self, stream: int) -> "CodecState":
        """A view of one stream of the batch.

        `batch.row(b).copy_(mine)` loads a stream, `mine.copy_(batch.row(b))` takes it out. `started` is a
        copy: starting a view does not start its batch.
        """
        if not 0 <= stream < self.shape[0]:
            raise ValueError(f"stream={stream} must be in 0..{self.shape[0] - 1}, the rows of this batch")
        late = tuple(late[:, stream : stream + 1] for late in self.late)
        return CodecState(late, (1, *self.shape[1:]), self.started)

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """All of it as named tensors, for `safetensors`; `prefix` lets it share a file."""
        facts = torch.tensor([*self.shape, self.started])
        named = {f"{prefix}late.{i}": late.contiguous() for i, late in enumerate(self.late)}
        return {f"{prefix}facts": facts, **named}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], prefix: str = "") -> "CodecState":
        """The inverse of `tensors`; raises ValueError where they are missing."""
        if f"{prefix}facts" not in tensors:
            raise ValueError(f"prefix={prefix!r}: no codec state under that name among {sorted(tensors)}")
        batch, height, width, started = tensors[f"{prefix}facts"].tolist()
        count = sum(name.startswith(f"{prefix}late.") for name in tensors)
        late = tuple(tensors[f"{prefix}late.{i}"] for i in range(count))
        return CodecState(late, (batch, height, width), bool(started))
