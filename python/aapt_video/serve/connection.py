"""One client: its WebSocket, and what is done of what it asks for."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from aiohttp import WSCloseCode, WSMsgType, web
from PIL import Image

from aapt_ext import CapacityError

from . import protocol
from .checks import ProtocolError
from .live import Live, LiveStream
from .outlet import Outlet
from .pictures import Encoder, Recording, read_upload
from .protocol import FORMATS, VERSION
from .safety import Bucket
from .sender import Sender
from .world import describe

T = TypeVar("T")
log = logging.getLogger("aapt_video.serve")
HELLO_SECONDS = 10.0
MESSAGES_PER_SECOND, MESSAGES_AT_ONCE = 120.0, 400.0
WORK = (protocol.Open, protocol.Fork, protocol.Rewind, protocol.Prompt, protocol.Record)  # cost more than their reading
WORK_PER_SECOND, WORK_AT_ONCE = 4.0, 16.0


class Connection:
    """Runs one WebSocket until it ends; then everything that it held is free."""

    def __init__(self, socket: web.WebSocketResponse, live: Live, resumable: dict[str, dict[int, LiveStream]]) -> None:
        self.socket, self.live, self._resumable = socket, live, resumable
        self.session = secrets.token_urlsafe(18)
        self.sender = Sender(socket, live)
        self._loop = asyncio.get_running_loop()
        self._messages = Bucket(MESSAGES_PER_SECOND, MESSAGES_AT_ONCE)
        self._work = Bucket(WORK_PER_SECOND, WORK_AT_ONCE)
        self._upload: Image.Image | None = None

    async def run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            if await self._greet():
                tasks = {asyncio.create_task(self._read()), asyncio.create_task(self.sender.send_pictures())}
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
            for number in list(self.sender.outlets):
                await asyncio.shield(self.sender.end(number))
            await self.socket.close()

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
            self.sender.format = self._choose(hello.formats)
        except ProtocolError as error:
            await self.sender.tell("error", code="protocol", message=str(error))
            return False
        kept = self._resumable.pop(hello.resume, {}) if hello.resume else {}
        if kept and hello.resume:
            self.session = hello.resume
        await self.sender.tell(
            "welcome",
            version=VERSION,
            session=self.session,
            resumed=bool(kept),
            format=self.sender.format,
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
        outlet = Outlet(self.sender, number)
        self.sender.outlets[number], outlet.live = outlet, live

        def hand_over() -> None:
            live.watcher, live.active = outlet, time.monotonic()

        await self._run(hand_over)
        await self._opened(outlet)

    async def _read(self) -> None:
        async for message in self.socket:
            if not self._messages.take():
                too_many = f"more than {MESSAGES_PER_SECOND:g} messages a second"
                await self.sender.tell("error", code="rate", message=too_many)
                await self.socket.close(code=WSCloseCode.POLICY_VIOLATION)
                return
            try:
                if message.type == WSMsgType.TEXT:
                    await self._answer(protocol.parse(message.data))
                elif message.type == WSMsgType.BINARY:
                    await self._take_upload(message.data)
            except ProtocolError as error:
                await self.sender.tell("error", code="protocol", message=str(error))
            except CapacityError as error:
                log.info("refused: %s", error)
                most = self.live.settings.streams
                await self.sender.tell(
                    "error", code="full", message=f"all {most} places of this server are taken; try again later"
                )
            except ValueError as error:
                await self.sender.tell("error", code="refused", message=str(error))

    async def _answer(self, message: protocol.Message) -> None:
        if isinstance(message, protocol.Ping):
            await self.sender.tell("pong", time=message.time)
            return
        if isinstance(message, protocol.Formats):
            self.sender.format = self._choose(message.formats)
            for outlet in self.sender.outlets.values():
                outlet.encoder = Encoder(self.sender.format, self.live.generator.fps)
            await self.sender.tell("format", format=self.sender.format)
            return
        if isinstance(message, protocol.Seen):
            if message.stream in self.sender.outlets:
                self.sender.outlets[message.stream].arrived(message.frame)
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
            await self.sender.tell("paused", stream=message.stream, paused=message.paused)
        elif isinstance(message, protocol.Rewind):
            await self._run(lambda: self.live.rewind(live, message.frames))
            outlet.jump()
            await self.sender.tell("rewound", stream=message.stream, frame=live.stream.frame)
        elif isinstance(message, protocol.Fork):
            await self._fork(live, message.into)
        elif isinstance(message, protocol.Prompt):
            await self._run(lambda: self.live.set_prompt(live, message.text))
            await self.sender.tell("prompt", stream=message.stream, text=message.text)
        elif isinstance(message, protocol.Record):
            await self._record(outlet, message.on)
        elif isinstance(message, protocol.Close):
            await self.sender.end(message.stream)
            await self.sender.tell("ended", stream=message.stream, reason="closed")

    def _count_work(self) -> None:
        if not self._work.take():
            raise ValueError(f"more than {WORK_PER_SECOND:g} such requests a second; ask again in a moment")

    def _find(self, number: int) -> tuple[Outlet, LiveStream]:
        outlet = self.sender.outlets.get(number)
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
        if message.stream in self.sender.outlets:
            await self.sender.end(message.stream)
        outlet = Outlet(self.sender, message.stream)

        def start_stream() -> LiveStream:
            live = self.live.open(self._key(message.stream), outlet, prompt=prompt, image=image, seed=message.seed)
            live.paused = message.paused
            return live

        await self._take(outlet, start_stream)

    async def _fork(self, live: LiveStream, into: int) -> None:
        if self.sender.outlets.get(into) is not None:
            if self.sender.outlets[into].live is live:
                raise ValueError(f"into is {into}, the stream itself; give another number")
            await self.sender.end(into)
        outlet = Outlet(self.sender, into)
        await self._take(outlet, lambda: self.live.fork(live, self._key(into), outlet))

    async def _take(self, outlet: Outlet, start: Callable[[], LiveStream]) -> None:
        """Waits for a new stream; one that is ready after the client has gone is ended at once."""
        future = self.live.call(start)
        try:
            outlet.live = await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            self.live.call(lambda: self.live.end(future.result()))
            raise
        self.sender.outlets[outlet.number] = outlet
        await self._opened(outlet)

    async def _opened(self, outlet: Outlet) -> None:
        assert outlet.live is not None
        stream = outlet.live.stream
        await self.sender.tell(
            "opened",
            stream=outlet.number,
            seed=stream.state.seed,
            prompt=stream.prompt,
            frame=stream.frame,
            paused=outlet.live.paused,
        )

    def _key(self, number: int) -> str:
        return f"{self.session}.{number}"

    async def _take_upload(self, data: bytes) -> None:
        self._count_work()
        height, width = self.live.generator.height, self.live.generator.width
        self._upload = await self._loop.run_in_executor(None, read_upload, data, height, width)
        await self.sender.tell("uploaded", height=height, width=width)

    async def _record(self, outlet: Outlet, on: bool) -> None:
        if on and outlet.recording is None:
            outlet.recording, outlet.recording_full = Recording(self.live.generator.fps), False
            await self.sender.tell("recording", stream=outlet.number, on=True)
        elif not on and outlet.recording is not None:
            await self.sender.finish_recording(outlet)
