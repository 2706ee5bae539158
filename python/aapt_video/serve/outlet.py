"""One stream on its way to one client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aapt_video.stream import Frames

from .live import LiveStream
from .pictures import Encoder, Recording
from .protocol import IN_FLIGHT

if TYPE_CHECKING:
    from .sender import Sender


class Outlet:
    """A stream on its way to the client: the newest pictures that were not sent. Older ones are dropped."""

    def __init__(self, sender: Sender, number: int) -> None:
        self.sender, self.number = sender, number
        self.newest: Frames | None = None
        self.rewindable = 0
        self.sent = self.seen = self.dropped = 0
        """Steps."""
        self.waiting: list[int] = []
        """Latent frames that were sent and not seen yet."""
        self.recording: Recording | None = None
        self.recording_full = False
        self.ended: str | None = None
        self.live: LiveStream | None = None
        self.encoder = Encoder(sender.format, sender.live.generator.fps)

    # -- in the loop's thread --

    def on_frames(self, frames: Frames, rewindable: int) -> None:
        recording = self.recording
        if recording is not None and not recording.add(frames):
            self.recording_full = True
        self.sender.post(lambda: self._offer(frames, rewindable))

    def on_end(self, reason: str) -> None:
        self.sender.post(lambda: self._end(reason))

    # -- in the event loop --

    def _offer(self, frames: Frames, rewindable: int) -> None:
        self.dropped += self.newest is not None
        self.newest, self.rewindable = frames, rewindable
        self.sender.wake.set()

    def _end(self, reason: str) -> None:
        self.ended = reason
        self.sender.wake.set()

    def arrived(self, frame: int) -> None:
        """The client has this latent frame, and with it all that were sent before."""
        if frame in self.waiting:
            del self.waiting[: self.waiting.index(frame) + 1]
            self.sender.wake.set()

    def jump(self) -> None:
        """The stream went elsewhere in time: what was on its way does not count."""
        self.newest = None
        self.waiting.clear()
        self.encoder.restart()

    @property
    def ready(self) -> bool:
        return self.newest is not None and len(self.waiting) < IN_FLIGHT
