"""The one loop that steps every open stream, in a thread of its own.

Each tick is one pass over all streams that are not paused, so all of them advance at the same rate and a crowd costs
one pass, not many. Ticks follow the video's rate; a late tick is not made up for. Whatever else touches a stream
(open, fork, rewind, a prompt, close) runs in this thread between two ticks, through `call`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from aapt_ext import CapacityError
from aapt_video.model.conditions import Camera, Pose
from aapt_video.stream import Frames, Generator, Speeds, Stream, step_together
from aapt_video.stream.generator import PROMPTS_PER_STREAM

from .protocol import Control
from .steering import Rig, Wish

T = TypeVar("T")
log = logging.getLogger("aapt_video.serve")
REST = 0.5  # seconds between two looks at idle streams while nothing runs


@dataclass(frozen=True)
class Settings:
    """How streams are kept."""

    streams: int
    """Most of them at a time, branches included."""
    history: int
    """Latent frames that each can rewind."""
    exact: bool = False
    """Step one by one: bits as if each stream were alone."""
    idle: float = 600.0
    """Seconds without a message after which a stream ends."""
    paced: bool = True
    """Keep to the video's rate; otherwise as fast as the machine can."""
    speeds: Speeds | None = None
    """Of the camera; the world's own where None."""


class Watcher(Protocol):
    """Who is told what a stream does; called in the loop's thread."""

    def on_frames(self, frames: Frames, rewindable: int) -> None: ...

    def on_end(self, reason: str) -> None: ...


class Keeper(Protocol):
    """Who makes streams survive a kill (`keep.py`); called in the loop's thread."""

    def step(self, live: LiveStream, control: NDArray[np.float64] | None, sequence: int) -> None: ...

    def changed(self, live: LiveStream) -> Future[bool]: ...

    def ended(self, live: LiveStream) -> None: ...


class LiveStream:
    """A stream of one client, and what steers it."""

    def __init__(self, key: str, stream: Stream, watcher: Watcher, speeds: Speeds) -> None:
        self.key, self.stream, self.watcher = key, stream, watcher
        self.paused = False
        self.settled: Future[bool] | None = None
        """Of the last change that must be written before the next step; None where nothing is kept."""
        self.active = time.monotonic()
        self.rig = Rig(speeds)
        self.control = Control(sequence=-1)
        self.prompt_changes: list[int] = []
        """Latent frames after which another prompt was set."""

    @property
    def running(self) -> bool:
        """Whether the next tick steps it."""
        return not self.paused and (self.settled is None or self.settled.done())

    def next_control(self) -> NDArray[np.float64] | None:
        """What the next step is steered by, sampled now; the message was checked when it came."""
        condition, control = self.stream.generator.condition, self.control
        if isinstance(condition, Camera):
            if control.motion is not None:
                return condition.split(control.motion)
            wish = Wish(control.forward, control.right, control.up, control.turn, control.tilt)
            return self.rig.step(wish)
        if isinstance(condition, Pose):
            return condition.split(condition.resting() if control.pose is None else control.pose)
        return None

    def check(self, control: Control) -> None:
        """Raises ValueError where the control does not fit the model; nothing of a later step can fail on it."""
        condition = self.stream.generator.condition
        for name, value, kind in (("motion", control.motion, Camera), ("pose", control.pose, Pose)):
            if value is not None:
                if not isinstance(condition, kind):
                    raise ValueError(f"{name} is given, and this model is steered by {condition.name!r}; leave it out")
                condition.split(value)


class Live:
    """All streams of one generator; a context manager that starts and ends the thread."""

    def __init__(self, generator: Generator, settings: Settings, keeper: Keeper | None = None) -> None:
        self.generator, self.settings, self.keeper = generator, settings, keeper
        self.speeds = settings.speeds or generator.speeds
        self.streams: dict[str, LiveStream] = {}
        self.steps = self.frames = self.late = self.failed = 0
        self.seconds: deque[float] = deque(maxlen=64)
        """Of the last steps."""
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._ending = self._ended = False
        self._thread = threading.Thread(target=self._run, name="aapt-video live", daemon=True)

    def __enter__(self) -> Live:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.call(self._stop)
        self._thread.join()

    def _stop(self) -> None:
        self._ending = True

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Runs a function in the loop's thread, between two ticks; its result or its exception is the future's."""
        future: Future[T] = Future()
        self._calls.put((function, future))
        if self._ended:
            self._refuse_calls()
        return future

    @property
    def period(self) -> float:
        """Seconds of one step's four pictures."""
        return 4 / self.generator.fps

    # -- in the loop's thread: what clients ask for --

    def open(self, key: str, watcher: Watcher, **arguments: Any) -> LiveStream:
        """A new stream; arguments as of `Generator.open`.

        Raises:
            CapacityError: there are as many as there may be.
            ValueError: an argument does not fit the model.
        """
        self._check_places()
        stream = self.generator.open(history=self.settings.history, **arguments)
        return self.add(LiveStream(key, stream, watcher, self.speeds))

    def _check_places(self) -> None:
        """Before any work is done, so that a crowd at the door costs nothing."""
        if len(self.streams) >= self.settings.streams:
            raise CapacityError(f"{len(self.streams)} of {self.settings.streams} streams are open; close one")

    def add(self, live: LiveStream) -> LiveStream:
        """A stream that is open already takes part in the ticks from now on."""
        self.streams[live.key] = live
        self.changed(live)
        return live

    def fork(self, live: LiveStream, key: str, watcher: Watcher) -> LiveStream:
        """A second stream with the first one's past."""
        self._check_places()
        branch = LiveStream(key, live.stream.fork(), watcher, self.speeds)
        branch.rig.pitch, branch.paused = live.rig.pitch, live.paused
        branch.control, branch.prompt_changes = live.control, list(live.prompt_changes)
        return self.add(branch)

    def rewind(self, live: LiveStream, frames: int) -> None:
        """Back by latent frames; the camera rests. Raises ValueError where the history does not reach."""
        live.stream.rewind(frames)
        live.rig.stop()
        live.prompt_changes = [frame for frame in live.prompt_changes if frame < live.stream.frame]
        self.changed(live)

    def set_prompt(self, live: LiveStream, prompt: str) -> None:
        """Another prompt from the next frame on.

        Raises:
            ValueError: the model knows no text, the prompt is too long, or the history is full of prompts: every one
                that can be rewound to holds a page, and no stream may take more than its share.
        """
        oldest = live.stream.frame - live.stream.rewindable
        changes = {frame for frame in live.prompt_changes if frame >= oldest} | {live.stream.frame}
        if len(changes) > PROMPTS_PER_STREAM - 2:
            raise ValueError(f"the prompt was changed {len(changes) - 1} times within the history; wait a little")
        live.stream.set_prompt(prompt)
        live.prompt_changes = sorted(changes)
        self.changed(live)

    def changed(self, live: LiveStream) -> None:
        """The stream's state was set by something other than a step."""
        if self.keeper is not None:
            live.settled = self.keeper.changed(live)
            live.settled.add_done_callback(lambda _: self.call(lambda: None))  # the loop may be at rest

    def end(self, live: LiveStream, reason: str | None = None) -> None:
        """Frees everything; the watcher hears why, where there is a reason. A second call does nothing."""
        if self.streams.get(live.key) is live:
            del self.streams[live.key]
        if not live.stream.closed:
            live.stream.close()
            if self.keeper is not None:
                self.keeper.ended(live)
            if reason is not None:
                live.watcher.on_end(reason)

    # -- the loop --

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ending:
            if self._running():
                due = max(due, time.monotonic() - self.period)
                self._answer_calls(due)
            else:
                self._answer_calls(time.monotonic() + REST)
                due = time.monotonic()  # whoever begins now is stepped at once
            self._end_idle()
            now, running = time.monotonic(), self._running()
            if not running or now < due:
                continue
            self._tick(running)
            self.late += time.monotonic() > due + 2 * self.period
            due = due + self.period if self.settings.paced else now
        for live in list(self.streams.values()):
            live.stream.close()  # what is kept of it stays: the server may come back
        self._ended = True
        self._refuse_calls()

    def _running(self) -> list[LiveStream]:
        return [live for live in self.streams.values() if live.running]

    def _refuse_calls(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()[1].set_exception(ConnectionError("the server ends"))

    def _answer_calls(self, due: float) -> None:
        """Runs what was asked for; waits until `due` where it is nothing.

        Who keeps asking cannot keep the others from being stepped: half a period after `due` the rest has to wait.
        """
        latest = max(due, time.monotonic() + self.period / 2)
        waited = False
        while not self._ending and time.monotonic() < latest:
            try:
                wait = due - time.monotonic()
                function, future = (
                    self._calls.get(timeout=wait) if wait > 0 and not waited else self._calls.get_nowait()
                )
            except queue.Empty:
                return
            waited = True
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

    def _end_idle(self) -> None:
        before = time.monotonic() - self.settings.idle
        for live in [live for live in self.streams.values() if live.active < before]:
            self.end(live, f"nothing was heard for {self.settings.idle:g} s")

    def _tick(self, running: list[LiveStream]) -> None:
        """One latent frame of each. Where the pass fails, one by one, so that only the stream that fails ends."""
        controls = [live.next_control() for live in running]
        try:
            self._step(running, controls)
            return
        except Exception as error:
            if len(running) == 1:
                self._fail(running[0], error)
                return
            log.warning("a step of %d streams failed (%s); they are stepped one by one", len(running), error)
        for live, control in zip(running, controls, strict=True):
            try:
                self._step([live], [control])
            except Exception as error:
                self._fail(live, error)

    def _step(self, running: list[LiveStream], controls: list[NDArray[np.float64] | None]) -> None:
        begin = time.perf_counter()
        sequences = [live.control.sequence for live in running]
        shown = step_together(
            [live.stream for live in running], controls, sequences=list(sequences), exact=self.settings.exact
        )
        self.seconds.append(time.perf_counter() - begin)
        self.steps, self.frames = self.steps + 1, self.frames + len(running)
        for live, control, sequence, frames in zip(running, controls, sequences, shown, strict=True):
            if self.keeper is not None:
                self.keeper.step(live, control, sequence)
            live.watcher.on_frames(frames, live.stream.rewindable)

    def _fail(self, live: LiveStream, error: Exception) -> None:
        log.error("a stream ended by an error", exc_info=error)
        self.failed += 1
        self.end(live, "the step failed on the server; open it again")
