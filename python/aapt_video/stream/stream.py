"""What users hold: one state, an engine, and a past to go back to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike
from torch import Tensor

from .engine import Engine, Stepped
from .frames import Frames
from .history import History
from .snapshot import take, write_snapshot
from .state import StreamState

if TYPE_CHECKING:
    from .generator import Generator


class Stream:
    """A video that is being made, four video frames a step; from `Generator.open`.

    Memory and time of a step do not grow. A stream belongs to one thread at a time, and so do the streams that share a
    generator.
    """

    def __init__(
        self, generator: Generator, engine: Engine, state: StreamState, history: History, reserved: int
    ) -> None:
        self._generator, self._engine, self._history, self._reserved = generator, engine, history, reserved
        self._state: StreamState | None = state

    # -- to look at --

    @property
    def state(self) -> StreamState:
        """The present state, one value; raises ValueError on a closed stream."""
        if self._state is None:
            raise ValueError("the stream is closed; open another")
        return self._state

    @property
    def closed(self) -> bool:
        return self._state is None

    @property
    def generator(self) -> Generator:
        return self._generator

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def frame(self) -> int:
        """Latent frames so far; `4 * frame` video frames."""
        return self.state.frame

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self._engine.height, self._engine.width

    @property
    def prompt(self) -> str | None:
        """The words in force; None without text, or where an embedding was given."""
        prompt = self.state.prompt
        return None if prompt is None else prompt.words

    @property
    def rewindable(self) -> int:
        """Latent frames that `rewind` may go back."""
        return self._history.available(self.state.frame)

    # -- to go on --

    def step(self, control: ArrayLike | None = None, *, sequence: int | None = None) -> Frames:
        """Makes the next latent frame.

        Args:
            control: [4, ...], one per video frame, or one for the step; what it is, the model's condition tells
                (`generator.condition`). None: a camera that stands still.
            sequence: a number of the caller's for this control; the latent frame's where None.

        Returns:
            uint8 [4, H, W, 3] with `.latent_frame` and `.control`.

        Raises:
            ValueError: the control is not one of this model; the stream is closed. Nothing has changed.
            CapacityError: no page is free. Nothing has changed.
        """
        return step_together([self], [control], sequences=[sequence])[0]

    def run(self, controls: Iterable[ArrayLike | None], *, ahead: bool = False) -> Iterator[Frames]:
        """Steps once for each control, as they come.

        Args:
            ahead: take each control, and begin its latent frame, before the pictures of the one before are there: for
                controls that do not answer to pictures. On a GPU the decoder then works beside the transformer. A run
                that is left early has gone one latent frame further than it showed.
        """
        if not ahead:
            for control in controls:
                yield self.step(control)
            return
        coming: Callable[[], Frames] | None = None
        try:
            for control in controls:
                (begun,) = _begin_together([self], [control], [None], exact=False)
                if coming is not None:
                    yield coming()
                coming = begun
        except (Exception, KeyboardInterrupt):
            if coming is not None:
                yield coming()
            raise
        if coming is not None:
            yield coming()

    def set_prompt(self, prompt: str | Tensor) -> None:
        """From the next frame on another prompt is seen.

        Args:
            prompt: words, or an embedding [S, text width].

        Raises:
            ValueError: the model knows no text, or the prompt is too long. Nothing has changed.
            CapacityError: the histories of the open streams hold all prompts. Nothing has changed.
        """
        before = self.state
        written = self._generator.write_prompt(self._engine, prompt)
        self._state = self._engine.hold(replace(before, prompt=written))
        self._engine.release(before)
        assert self._engine.text_pool is not None
        self._engine.text_pool.release([written.page])

    def rewind(self, frames: int) -> None:
        """Goes back by latent frames, bit for bit; the prompt is the one of then.

        Raises:
            ValueError: the history does not reach that far; the message tells how far it does.
        """
        before = self.state
        self._state = self._history.rewind(before, frames)
        self._engine.release(before)
        self._history.forget_after(self._state.frame)

    def fork(self, history: int | None = None) -> Stream:
        """Another stream with this one's past. Pages are shared; only the decoder's state is its own.

        Args:
            history: latent frames that the new stream can go back from now on; as this one, with its past, where None.

        Raises:
            CapacityError: the generator was not opened for so many streams.
        """
        state = self.state
        length = self._history.length if history is None else history
        past = History(self._engine, length)
        reserved = self._engine.reserve(past.pages)
        if history is None:
            past.take(self._history)
        return Stream(self._generator, self._engine, self._engine.hold(state), past, reserved)

    # -- to end, and to go on elsewhere --

    def save(self, path: str | Path) -> None:
        """Writes a file from which `Generator.restore` continues bit for bit, in another process."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_snapshot(path, take(self))

    def close(self) -> None:
        """Frees all pages; a second call does nothing."""
        if self._state is not None:
            self._history.close()
            self._engine.release(self._state)
            self._engine.unreserve(self._reserved)
            self._state = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, after: StreamState) -> None:
        """The next state; its hold passes to this stream, and this one's to the history."""
        self._history.add(self.state)
        self._state = after


def step_together(
    streams: Sequence[Stream],
    controls: Sequence[ArrayLike | None],
    *,
    sequences: Sequence[int | None] | None = None,
    exact: bool = False,
) -> list[Frames]:
    """One step of several streams of one generator and size, in one pass.

    Args:
        controls: one for each stream, as for `Stream.step`.
        exact: step one by one: bits as if each were alone. Otherwise they agree as closely as rounding allows.

    Raises:
        ValueError: a control does not fit, the streams do not go together, or one is listed twice. Nothing has changed.
    """
    begun = _begin_together(streams, controls, sequences or [None] * len(streams), exact)
    return [frames() for frames in begun]


def _begin_together(
    streams: Sequence[Stream], controls: Sequence[ArrayLike | None], sequences: Sequence[int | None], exact: bool
) -> list[Callable[[], Frames]]:
    """`step_together` without waiting for the pictures."""
    if not streams:
        return []
    engine, generator = streams[0].engine, streams[0].generator
    if any(stream.engine is not engine for stream in streams) or len({id(s) for s in streams}) < len(streams):
        raise ValueError("streams must be different ones of one generator and one picture size to step together")
    if len(controls) != len(streams):
        raise ValueError(f"controls has {len(controls)} entries; it must have {len(streams)}, one for each stream")
    states = [stream.state for stream in streams]
    condition = generator.condition
    packed = [condition.pack(condition.split(control), *engine.latent_shape[1:]) for control in controls]
    numbers = [
        state.frame + 1 if sequence is None else sequence for state, sequence in zip(states, sequences, strict=True)
    ]
    stepped = engine.step(states, packed, numbers, exact=exact)
    for stream, (after, _) in zip(streams, stepped, strict=True):
        stream._take(after)
    return [partial(_frames, step) for step in stepped]


def _frames(step: Stepped) -> Frames:
    return Frames.of(step.pictures(), step.state.frame, step.state.control)
