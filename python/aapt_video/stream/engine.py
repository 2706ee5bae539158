"""Steps a list of states by one pass each, at one resolution.

The engine owns the pools and, for each number of streams, a `Program`: buffers at fixed addresses and, on a GPU, CUDA
graphs over them. A program knows nothing of streams: a filling window, another prompt, a fork, a rewind are other
numbers in its tables. Without a GPU the same calls run uncaptured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aapt_ext import CapacityError
from aapt_video.codec import Codec, CodecState
from aapt_video.model import CachedTransformer

from . import window
from .lane import Lane, Pictures
from .noise import NoiseAhead
from .program import Program
from .state import StreamState
from .texts import Texts


class Stepped(NamedTuple):
    """What a step gives for one stream."""

    state: StreamState
    """The state after the step; its pages are held by the caller."""
    pictures: Callable[[], NDArray[np.uint8]]
    """Waits for the pictures, [4, H, W, 3]."""


class Engine:
    """The streams of one model at one picture size.

    Args:
        weights: the transformer for streams.
        codec: prepared for inference, on the same device.
        height, width: of the pictures, in pixels.
        pages: latent frames that all streams together may hold.
        prompts: prompts that all streams together may hold.
    """

    def __init__(
        self, weights: CachedTransformer, codec: Codec, height: int, width: int, pages: int, prompts: int
    ) -> None:
        self.weights, self.codec, self.config = weights, codec, weights.config
        self.height, self.width = height, width
        space = codec.config.space
        self.latent_shape = (self.config.channels, height // space, width // space)
        tokens = self.config.tokens(*self.latent_shape[1:])
        self.pool = weights.page_pool(pages, tokens)
        self.lane = Lane(weights.device)
        self.noise = NoiseAhead(self.latent_shape)
        self.texts = Texts(weights, prompts) if self.config.text != "none" else None
        self.text_pool = None if self.texts is None else self.texts.pool
        self._programs: dict[int, Program] = {}
        self._reserved = 0

    @property
    def captures(self) -> int:
        """Passes that were prepared (on a GPU: captured) so far; it does not grow once each batch size was seen."""
        return sum(program.captures for program in self._programs.values())

    # -- memory --

    def reserve(self, pages: int) -> int:
        """Sets pages aside for a stream, so that no step finds the pool empty; returns their number.

        Raises:
            CapacityError: they are not there.
        """
        if self._reserved + pages > self.pool.pages:
            raise CapacityError(
                f"a stream needs {pages} pages of {self.pool.bytes_per_page / 1e6:.1f} MB, and "
                f"{self.pool.pages - self._reserved} of {self.pool.pages} are left; close a stream, ask for less "
                "history, or load the generator with larger limits"
            )
        self._reserved += pages
        return pages

    def unreserve(self, pages: int) -> None:
        """Gives back what `reserve` set aside."""
        self._reserved -= pages

    # -- states --

    @torch.no_grad()
    def start(self, picture: Tensor, seed: int) -> StreamState:
        """The state before position 1.

        Args:
            picture: [3, H, W] in [-1, 1]; it is encoded alone, decoded once to start the decoder, and not shown.
        """
        video = picture.to(self.weights.device)[None, :, None]
        latent = self.codec.encode(video)[:, :, 0]
        decoder = self.codec.open_decoder(1, self.height, self.width)
        self.codec.decode_step(latent, decoder)
        return StreamState(seed, 0, None, (), None, latent[0].to(self.weights.dtype), decoder, -1)

    def hold(self, state: StreamState) -> StreamState:
        """One more holder of a state's pages; returns the state."""
        self.pool.retain(state.pages)
        if state.prompt is not None and self.text_pool is not None:
            self.text_pool.retain([state.prompt.page])
        return state

    def release(self, state: StreamState) -> None:
        """One holder less."""
        self.pool.release(state.pages)
        if state.prompt is not None and self.text_pool is not None:
            self.text_pool.release([state.prompt.page])

    @torch.no_grad()
    def decode(self, latents: Sequence[Tensor], decoder: CodecState) -> CodecState:
        """A copy of `decoder` after further latents [C, H, W]: how a rewind finds the decoder between two copies."""
        with self.lane.behind():
            self.lane.reads([*decoder.late, *latents])
            decoder = decoder.clone()
            for latent in latents:
                self.codec.decode_step(latent[None], decoder)
        return decoder

    # -- steps --

    def step(
        self,
        states: Sequence[StreamState],
        conditions: Sequence[NDArray[np.float32]],
        controls: Sequence[int],
        *,
        exact: bool = False,
    ) -> list[Stepped]:
        """One latent frame for each state; on a GPU it may return before that is made. The states that came in stay
        as they are, also when it fails.

        Args:
            conditions: [condition channels, H, W] for each state, in latent pixels.
            controls: sequence number of each state's control.
            exact: step one by one, so that the bits do not depend on the company.

        Raises:
            CapacityError: no page is free.
        """
        if exact and len(states) > 1:
            return self._one_by_one(states, conditions, controls)
        pages = self.pool.allocate(len(states))
        try:
            latents, decoders, pictures = self.program(len(states)).begin(states, pages, conditions)
            stepped = []
            for b, (state, page, control) in enumerate(zip(states, pages, controls, strict=True)):
                after = window.advance(state, self.config, page, latents[b].clone(), decoders[b], control)
                stepped.append(Stepped(after, partial(_row, pictures, b)))
            for after, _ in stepped:
                self.hold(after)
            return stepped
        finally:
            self.pool.release(pages)

    def _one_by_one(
        self, states: Sequence[StreamState], conditions: Sequence[NDArray[np.float32]], controls: Sequence[int]
    ) -> list[Stepped]:
        stepped: list[Stepped] = []
        try:
            for state, condition, control in zip(states, conditions, controls, strict=True):
                stepped += self.step([state], [condition], [control])
        except BaseException:
            for after, _ in stepped:
                self.release(after)
            raise
        return stepped

    def program(self, batch: int) -> Program:
        """The buffers for `batch` streams; made, and on a GPU captured, when first asked for."""
        if batch not in self._programs:
            self._programs[batch] = Program(self, batch)
        return self._programs[batch]


def _row(pictures: Pictures, stream: int) -> NDArray[np.uint8]:
    """Of one stream of a pass."""
    row: NDArray[np.uint8] = pictures.numpy()[stream]
    return row
