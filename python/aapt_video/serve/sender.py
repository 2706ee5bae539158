"""What one client is sent: answers, the newest pictures of its streams, recordings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from .live import Live
from .outlet import Outlet
from .protocol import Kind, Packet

SEND_SECONDS = 20.0  # a client that takes nothing for so long is gone
PART = 256 * 1024  # bytes of a recording in one binary frame


class Sender:
    """The way out of one WebSocket, and the streams on it."""

    def __init__(self, socket: web.WebSocketResponse, live: Live) -> None:
        self.socket, self.live = socket, live
        self.format = "jpeg"
        self.outlets: dict[int, Outlet] = {}
        self.wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def post(self, function: Callable[[], None]) -> None:
        """Runs a function in the event loop; from another thread."""
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and so has the client
            self._loop.call_soon_threadsafe(function)

    async def tell(self, kind: str, **values: Any) -> None:
        await asyncio.wait_for(self.socket.send_json({"type": kind, **values}), SEND_SECONDS)

    async def _send(self, packet: Packet) -> None:
        await asyncio.wait_for(self.socket.send_bytes(packet.pack()), SEND_SECONDS)

    async def send_pictures(self) -> None:
        """Sends what is newest of each stream, and once a second how it goes."""
        report = 0.0
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.wake.wait(), 1.0)
            self.wake.clear()
            for number, outlet in list(self.outlets.items()):
                if outlet.ready:
                    await self._send_step(outlet)
                if outlet.ended is not None:
                    reason = outlet.ended
                    await self.end(number)
                    await self.tell("ended", stream=number, reason=reason)
                elif outlet.recording_full:
                    await self.finish_recording(outlet)
            if time.monotonic() - report >= 1.0 and self.outlets:
                report = time.monotonic()
                await self.tell("status", **self._status())

    async def _send_step(self, outlet: Outlet) -> None:
        frames, outlet.newest = outlet.newest, None
        assert frames is not None
        encoder, waiting = outlet.encoder, outlet.waiting
        waiting.append(frames.latent_frame)
        outlet.sent += 1
        pictures = await self._loop.run_in_executor(None, encoder.encode, frames)
        if self.outlets.get(outlet.number) is not outlet or (waiting and waiting[-1] != frames.latent_frame):
            return  # closed or moved in time meanwhile
        for picture, (kind, payload) in enumerate(pictures):
            height, width = frames.shape[1:3]
            await self._send(
                Packet(kind, outlet.number, picture, frames.control, frames.latent_frame, height, width, payload)
            )

    def _status(self) -> dict[str, Any]:
        live = self.live
        seconds = sorted(live.seconds)
        pool = live.generator.engine(live.generator.height, live.generator.width).pool
        return {
            "step_seconds": round(seconds[len(seconds) // 2], 5) if seconds else None,
            "streams_open": len(live.streams),
            "streams_most": live.settings.streams,
            "memory": {"used": (pool.pages - pool.pages_free) * pool.bytes_per_page, "total": pool.bytes},
            "streams": {
                number: {
                    "frame": outlet.live.stream.frame,
                    "rewindable": outlet.rewindable,
                    "paused": outlet.live.paused,
                    "sent": outlet.sent,
                    "dropped": outlet.dropped,
                    "recording": outlet.recording is not None,
                }
                for number, outlet in self.outlets.items()
                if outlet.live is not None and not outlet.live.stream.closed
            },
        }

    async def end(self, number: int) -> None:
        """Ends a stream, if there is one under that number; everything that it held is free."""
        outlet = self.outlets.pop(number, None)
        if outlet is None or outlet.live is None:
            return
        live, recording = outlet.live, outlet.recording
        outlet.recording = None
        await asyncio.wrap_future(self.live.call(lambda: self.live.end(live)))
        if recording is not None:
            await self._loop.run_in_executor(None, recording.finish)

    async def finish_recording(self, outlet: Outlet) -> None:
        """Stops a recording and sends it, in parts."""
        recording, outlet.recording, outlet.recording_full = outlet.recording, None, False
        assert recording is not None
        data = await self._loop.run_in_executor(None, recording.finish)
        await self.tell("recording", stream=outlet.number, on=False, bytes=len(data or b""))
        generator = self.live.generator
        for begin in range(0, len(data or b""), PART):
            assert data is not None
            kind = Kind.RECORDING_END if begin + PART >= len(data) else Kind.RECORDING
            part = data[begin : begin + PART]
            await self._send(Packet(kind, outlet.number, 0, -1, 0, generator.height, generator.width, part))
