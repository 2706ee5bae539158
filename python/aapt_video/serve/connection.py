"""One client: its WebSocket, its streams, what it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import WSCloseCode, WSMsgType, web
from PIL import Image

from aapt_ext import CapacityError

from . import protocol
from .live import Live, LiveStream
from .outlet import Outlet
from .pictures import Encoder, Recording, read_upload
from .protocol import FORMATS, VERSION, Kind, Packet, ProtocolError
from .safety import Bucket
from .world import describe

T = TypeVar("T")
log = logging.getLogger("aapt_video.serve")
HELLO_SECONDS = 10.0
SEND_SECONDS = 20.0  # a client that takes nothing for so long is gone
MESSAGES_PER_SECOND, MESSAGES_AT_ONCE = 120.0, 400.0
WORK = (protocol.Open, protocol.Fork, protocol.Rewind, protocol.Prompt, protocol.Record)  # cost more than their reading
WORK_PER_SECOND, WORK_AT_ONCE = 4.0, 16.0
PART = 256 * 1024  # bytes of a recording in one binary frame


class Connection:
    """Runs one WebSocket until it ends; then everything that it held is free."""

    def __init__(self, socket: web.WebSocketResponse, live: Live, resumable: dict[str, dict[int, LiveStream]]) -> None:
        self.socket, self.live, self._resumable = socket, live, resumable
        self.session = secrets.token_urlsafe(18)
        self.format = "jpeg"
        self.outlets: dict[int, Outlet] = {}
        self.wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._messages = Bucket(MESSAGES_PER_SECOND, MESSAGES_AT_ONCE)
        self._work = Bucket(WORK_PER_SECOND, WORK_AT_ONCE)
        self._upload: Image.Image | None = None

    def post(self, function: Callable[[], None]) -> None:
        """Runs a function in the event loop; from another thread."""
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and so has the client
            self._loop.call_soon_threadsafe(function)

    async def run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            if await self._greet():
                tasks = {asyncio.create_task(self._read()), asyncio.create_task(self._send_pictures())}
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except (ConnectionError, asyncio.TimeoutError):
            pass  # the client has gone
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                gone = isinstance(result, ConnectionError | asyncio.TimeoutError | asyncio.CancelledError)
                if isinstance(result, BaseException) and not gone:
                    log.error("a connection ended by an error", exc_info=result)
            for number in list(self.outlets):
                await asyncio.shield(self._end_stream(number))
            await self.socket.close()

    # -- to the client --

    async def _tell(self, kind: str, **values: Any) -> None:
        await asyncio.wait_for(self.socket.send_json({"type": kind, **values}), SEND_SECONDS)

    async def _send(self, packet: Packet) -> None:
        await asyncio.wait_for(self.socket.send_bytes(packet.pack()), SEND_SECONDS)

    async def _send_pictures(self) -> None:
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
                    await self._end_stream(number)
                    await self._tell("ended", stream=number, reason=reason)
                elif outlet.recording_full:
                    await self._finish_recording(outlet)
            if time.monotonic() - report >= 1.0 and self.outlets:
                report = time.monotonic()
                await self._tell("status", **self._status())

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

    # -- from the client --

    async def _greet(self) -> bool:
        message = await self.socket.receive(timeout=HELLO_SECONDS)
        try:
            if message.type != WSMsgType.TEXT:
                raise ProtocolError("the first message must be a hello")
            hello = protocol.parse(message.data)
            if not isinstance(hello, protocol.Hello):
                raise ProtocolError("the first message must be a hello")
            if hello.version != VERSION:
                raise ProtocolError(f"version is {hello.version}; this server speaks version {VERSION}")
            self.format = self._choose(hello.formats)
        except ProtocolError as error:
            await self._tell("error", code="protocol", message=str(error))
            return False
        kept = self._resumable.pop(hello.resume, {}) if hello.resume else {}
        if kept and hello.resume:
            self.session = hello.resume
        await self._tell(
            "welcome",
            version=VERSION,
            session=self.session,
            resumed=bool(kept),
            format=self.format,
            world=describe(self.live),
        )
        for number, live in kept.items():
            await self._adopt(number, live)
        return True

    def _choose(self, formats: tuple[str, ...]) -> str:
        for one in formats:
            if one in FORMATS:
                return one
        raise ProtocolError(f"formats is {list(formats)!r}; this server knows {', '.join(FORMATS)}")

    async def _adopt(self, number: int, live: LiveStream) -> None:
        outlet = Outlet(self, number)
        self.outlets[number], outlet.live = outlet, live

        def hand_over() -> None:
            live.watcher, live.active = outlet, time.monotonic()

        await self._run(hand_over)
        await self._opened(outlet)

    async def _read(self) -> None:
        async for message in self.socket:
            if not self._messages.take():
                await self._tell("error", code="rate", message=f"more than {MESSAGES_PER_SECOND:g} messages a second")
                await self.socket.close(code=WSCloseCode.POLICY_VIOLATION)
                return
            try:
                if message.type == WSMsgType.TEXT:
                    await self._answer(protocol.parse(message.data))
                elif message.type == WSMsgType.BINARY:
                    await self._take_upload(message.data)
            except ProtocolError as error:
                await self._tell("error", code="protocol", message=str(error))
            except CapacityError as error:
                log.info("refused: %s", error)
                most = self.live.settings.streams
                await self._tell(
                    "error", code="full", message=f"all {most} places of this server are taken; try again later"
                )
            except ValueError as error:
                await self._tell("error", code="refused", message=str(error))

    async def _answer(self, message: protocol.Message) -> None:
        if isinstance(message, protocol.Ping):
            await self._tell("pong", time=message.time)
            return
        if isinstance(message, protocol.Formats):
            self.format = self._choose(message.formats)
            for outlet in self.outlets.values():
                outlet.encoder = Encoder(self.format, self.live.generator.fps)
            await self._tell("format", format=self.format)
            return
        if isinstance(message, protocol.Seen):
            if message.stream in self.outlets:
                self.outlets[message.stream].arrived(message.frame)
            return
        if isinstance(message, protocol.Hello):
            raise ProtocolError("hello is only the first message")
        if isinstance(message, WORK):
            self._count_work()
        if isinstance(message, protocol.Open):
            await self._open(message)
            return
        outlet, live = self._find(message.stream)
        live.active = time.monotonic()
        if isinstance(message, protocol.Control):
            live.check(message)
            live.control = message
        elif isinstance(message, protocol.Pause):
            live.paused = message.paused
            await self._tell("paused", stream=message.stream, paused=message.paused)
        elif isinstance(message, protocol.Rewind):
            await self._run(lambda: self.live.rewind(live, message.frames))
            outlet.jump()
            await self._tell("rewound", stream=message.stream, frame=live.stream.frame)
        elif isinstance(message, protocol.Fork):
            await self._fork(live, message.into)
        elif isinstance(message, protocol.Prompt):
            await self._run(lambda: self.live.set_prompt(live, message.text))
            await self._tell("prompt", stream=message.stream, text=message.text)
        elif isinstance(message, protocol.Record):
            await self._record(outlet, message.on)
        elif isinstance(message, protocol.Close):
            await self._end_stream(message.stream)
            await self._tell("ended", stream=message.stream, reason="closed")

    def _count_work(self) -> None:
        if not self._work.take():
            raise ValueError(f"more than {WORK_PER_SECOND:g} such requests a second; ask again in a moment")

    def _find(self, number: int) -> tuple[Outlet, LiveStream]:
        outlet = self.outlets.get(number)
        if outlet is None or outlet.live is None:
            raise ValueError(f"stream is {number}, which is not open; open it first")
        return outlet, outlet.live

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self.live.call(function))

    async def _open(self, message: protocol.Open) -> None:
        gallery = self.live.generator.gallery
        prompt, image = message.prompt, None
        if message.upload:
            if self._upload is None:
                raise ValueError("upload is true, and no picture was uploaded; send it as a binary message first")
            image = self._upload
        elif message.gallery is not None:
            if message.gallery >= len(gallery):
                raise ValueError(f"gallery is {message.gallery}; this world has {len(gallery)} start frames")
            start = gallery[message.gallery]
            image, prompt = start.image, start.prompt if prompt is None else prompt
        if message.stream in self.outlets:
            await self._end_stream(message.stream)
        outlet = Outlet(self, message.stream)

        def start_stream() -> LiveStream:
            live = self.live.open(self._key(message.stream), outlet, prompt=prompt, image=image, seed=message.seed)
            live.paused = message.paused
            return live

        await self._take(outlet, start_stream)

    async def _fork(self, live: LiveStream, into: int) -> None:
        if self.outlets.get(into) is not None:
            if self.outlets[into].live is live:
                raise ValueError(f"into is {into}, the stream itself; give another number")
            await self._end_stream(into)
        outlet = Outlet(self, into)
        await self._take(outlet, lambda: self.live.fork(live, self._key(into), outlet))

    async def _take(self, outlet: Outlet, start: Callable[[], LiveStream]) -> None:
        """Waits for a new stream; one that is ready after the client has gone is ended at once."""
        future = self.live.call(start)
        try:
            outlet.live = await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            self.live.call(lambda: self.live.end(future.result()))
            raise
        self.outlets[outlet.number] = outlet
        await self._opened(outlet)

    async def _opened(self, outlet: Outlet) -> None:
        assert outlet.live is not None
        stream = outlet.live.stream
        await self._tell(
            "opened",
            stream=outlet.number,
            seed=stream.state.seed,
            prompt=stream.prompt,
            frame=stream.frame,
            paused=outlet.live.paused,
        )

    def _key(self, number: int) -> str:
        return f"{self.session}.{number}"

    async def _end_stream(self, number: int) -> None:
        outlet = self.outlets.pop(number, None)
        if outlet is None or outlet.live is None:
            return
        live, recording = outlet.live, outlet.recording
        outlet.recording = None
        await self._run(lambda: self.live.end(live))
        if recording is not None:
            await self._loop.run_in_executor(None, recording.finish)

    async def _take_upload(self, data: bytes) -> None:
        self._count_work()
        height, width = self.live.generator.height, self.live.generator.width
        self._upload = await self._loop.run_in_executor(None, read_upload, data, height, width)
        await self._tell("uploaded", height=height, width=width)

    async def _record(self, outlet: Outlet, on: bool) -> None:
        if on and outlet.recording is None:
            outlet.recording, outlet.recording_full = Recording(self.live.generator.fps), False
            await self._tell("recording", stream=outlet.number, on=True)
        elif not on and outlet.recording is not None:
            await self._finish_recording(outlet)

    async def _finish_recording(self, outlet: Outlet) -> None:
        recording, outlet.recording, outlet.recording_full = outlet.recording, None, False
        assert recording is not None
        data = await self._loop.run_in_executor(None, recording.finish)
        await self._tell("recording", stream=outlet.number, on=False, bytes=len(data or b""))
        generator = self.live.generator
        for begin in range(0, len(data or b""), PART):
            assert data is not None
            kind = Kind.RECORDING_END if begin + PART >= len(data) else Kind.RECORDING
            part = data[begin : begin + PART]
            await self._send(Packet(kind, outlet.number, 0, -1, 0, generator.height, generator.width, part))
