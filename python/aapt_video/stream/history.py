"""The states that a stream can go back to."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from aapt_video.codec import CodecState

from .engine import Engine
from .state import StreamState

SNAPSHOT_EVERY = 6  # latent frames between two kept decoder states: a rewind decodes at most 5 latents again


class History:
    """The last states of one stream, each with its pages held; a copy of the decoder with every sixth.

    Args:
        length: R, how many latent frames back a rewind may go; 0 keeps nothing.
    """

    def __init__(self, engine: Engine, length: int) -> None:
        if length < 0:
            raise ValueError(f"history is {length}; it must be at least 0 latent frames")
        self._engine, self.length = engine, length
        self._states: list[StreamState] = []
        # Where the oldest states start from if their own decoder was not kept: one before them, and what followed it.
        self._base: CodecState | None = None
        self._since_base: list[Tensor] = []

    @property
    def pages(self) -> int:
        """Most pages that a stream with this history holds: pinned position, window, the new one, and the past."""
        return self._engine.config.window + 2 + self.length

    def available(self, frame: int) -> int:
        """Latent frames that a rewind from `frame` may go back."""
        return frame - self._states[0].frame if self._states else 0

    def add(self, state: StreamState) -> None:
        """Takes over the caller's hold on a state that was left behind."""
        kept = [other.frame for other in self._states if other.decoder is not None]
        if kept and state.frame - kept[-1] < SNAPSHOT_EVERY:
            state = replace(state, decoder=None)
        self._states.append(state)
        if len(self._states) > self.length:
            oldest = self._states.pop(0)
            if oldest.decoder is not None:
                self._base, self._since_base = oldest.decoder, []
            else:
                self._since_base.append(oldest.latent)
            self._engine.release(oldest)

    def rewind(self, current: StreamState, frames: int) -> StreamState:
        """The state `frames` latent frames before `current`, held for the caller.

        Raises:
            ValueError: fewer are kept; the message tells how many.
        """
        available = self.available(current.frame)
        if not 0 <= frames <= available:
            raise ValueError(
                f"frames is {frames}; this stream can go back 0 to {available} latent frames: open it with a longer "
                f"history (now {self.length})"
            )
        if frames == 0:
            return self._engine.hold(current)
        target = len(self._states) - frames
        decoder, latents = self._base, list(self._since_base)
        for state in self._states[: target + 1]:
            decoder, latents = (decoder, [*latents, state.latent]) if state.decoder is None else (state.decoder, [])
        assert decoder is not None  # the first state that is kept has one, and so has the base that replaces it
        return self._engine.hold(replace(self._states[target], decoder=self._engine.decode(latents, decoder)))

    def forget_after(self, frame: int) -> None:
        """Drops the states from `frame` on: what a stream does that has gone back to it."""
        while self._states and self._states[-1].frame >= frame:
            self._engine.release(self._states.pop())

    def take(self, other: History) -> None:
        """The past of another stream, for a fork; pages are shared."""
        self._states = [self._engine.hold(state) for state in other._states]
        self._base, self._since_base = other._base, list(other._since_base)

    def close(self) -> None:
        self.forget_after(0)
