"""One pass for a fixed number of streams, transformer and decoder, over buffers that stay where they are.

The decoder and the way of its pictures to the host have a lane of their own: the transformer may begin the next latent
frame while they are busy with this one. Two sets of graphs take turns, so that what one writes the other's decoder
does not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aapt_video.codec import CodecState, to_uint8
from aapt_video.model import FramePlan

from . import window
from .lane import Pictures, captured
from .state import StreamState

if TYPE_CHECKING:
    from .engine import Engine


class Begun(NamedTuple):
    """A pass that the device was asked for."""

    latents: Tensor
    """[B, C, H, W]; they hold until the pass after the next."""
    decoders: list[CodecState]
    """Of each stream, after its latent; on the engine's lane."""
    pictures: Pictures
    """[B, 4, H, W, 3]"""


@dataclass
class _Turn:
    denoise: Callable[[], Tensor]
    decode: Callable[[], Tensor]
    pictures: Pictures | None = None
    """Of its last pass: once they are on the host, nothing reads its buffers."""


class Program:
    """The buffers for `batch` streams.

    Args:
        capture: as CUDA graphs, on a GPU.
    """

    @torch.no_grad()
    def __init__(self, engine: Engine, batch: int, capture: bool = True) -> None:
        self.engine, self.batch = engine, batch
        weights, device = engine.weights, engine.weights.device
        channels, height, width = engine.latent_shape
        conditions = engine.config.condition_channels

        def buffer(channels: int) -> Tensor:
            return torch.zeros(batch, channels, height, width, dtype=weights.dtype, device=device)

        self.noise, self.previous = buffer(channels), buffer(channels)
        self.condition = buffer(conditions) if conditions else None
        self.decoder = engine.codec.open_decoder(batch, engine.height, engine.width)
        self.decoder.started = True  # latent 0 has passed before any step
        self.forward = weights.open(batch, height, width, engine.pool, engine.text_pool)
        self.captures = 0
        self._next = 0
        self._turns = self._prepare(capture)

    def _prepare(self, capture: bool) -> list[_Turn]:
        """Runs the pass on pages that nobody uses, and on a GPU captures it."""
        pages = self.engine.pool.allocate(self.batch)
        try:
            self.forward.plan([FramePlan(1, page, ()) for page in pages])
            turns = [self._turn(capture, first) for first in (True, False)]
            self.captures += 1
            return turns
        finally:
            self.engine.pool.release(pages)

    def _turn(self, capture: bool, first: bool) -> _Turn:
        latents = torch.empty_like(self.noise)

        def denoise() -> Tensor:
            return latents.copy_(self.forward.run(self.noise, self.condition, self.previous))

        def decode() -> Tensor:
            return to_uint8(self.engine.codec.decode_step(latents, self.decoder))

        device = latents.device if capture else torch.device("cpu")
        return _Turn(captured(denoise, device, warm_up=first), captured(decode, device, warm_up=first))

    @torch.no_grad()
    def begin(
        self, states: Sequence[StreamState], pages: Sequence[int], conditions: Sequence[NDArray[np.float32]]
    ) -> Begun:
        """Asks for a pass; on a GPU it returns before that is done."""
        turn, self._next = self._turns[self._next], 1 - self._next
        if turn.pictures is not None:
            turn.pictures.numpy()
        self._fill(states, pages, conditions)
        latents = turn.denoise()
        lane = self.engine.lane
        with lane.behind():
            for b, state in enumerate(states):
                assert state.decoder is not None
                self.decoder.row(b).copy_(state.decoder)
                lane.reads(state.decoder.late)
            turn.pictures = Pictures(turn.decode())
            decoders = [self.decoder.row(b).clone() for b in range(self.batch)]
        self.engine.noise.draw((state.seed, state.frame + 2) for state in states)
        return Begun(latents, decoders, turn.pictures)

    def _fill(
        self, states: Sequence[StreamState], pages: Sequence[int], conditions: Sequence[NDArray[np.float32]]
    ) -> None:
        """Copies in what the transformer reads."""
        self.forward.plan([window.plan(state, page) for state, page in zip(states, pages, strict=True)])
        for b, (state, condition) in enumerate(zip(states, conditions, strict=True)):
            self.noise[b].copy_(torch.from_numpy(self.engine.noise.take(state.seed, state.frame + 1)))
            self.previous[b].copy_(state.latent)
            if self.condition is not None:
                self.condition[b].copy_(torch.from_numpy(condition))
