"""A client in Python: what `docs/protocol.md` says, in one class.

async with connect("http://127.0.0.1:8000", formats=("jpeg",)) as client:
    await client.send(Open(seed=7))
    await client.send(Control(sequence=1, forward=1.0))
    async for pictures in client.steps():
        ...
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .pictures import UPLOAD_LIMIT
from .protocol import (
    VERSION,
    Close,
    Control,
    Fork,
    Formats,
    Hello,
    Kind,
    Message,
    Open,
    Packet,
    Pause,
    Ping,
    Prompt,
    Record,
    Rewind,
    Seen,
    pack,
)

__all__ = [
    "Client", "Close", "Control", "Fork", "Formats", "Hello", "Kind", "Open", "Packet", "Pause", "Ping", "Prompt",
    "Record", "Refused", "Rewind", "Seen", "Step", "connect",
]  # fmt: skip


class Refused(RuntimeError):
    """What the server answers with an `error`; `code` is protocol, rate, full or refused."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Step:
    """The four pictures of one latent frame, as they came."""

    stream: int
    latent_frame: int
    control: int
    """Sequence number of the control that they reflect."""
    packets: list[Packet] = field(default_factory=list)

    def pictures(self) -> NDArray[np.uint8]:
        """uint8 [4, H, W, 3]; of raw and JPEG pictures."""
        return np.stack([_picture(packet) for packet in self.packets])


def _picture(packet: Packet) -> NDArray[np.uint8]:
    if packet.kind is Kind.RAW:
        return np.frombuffer(packet.payload, np.uint8).reshape(packet.height, packet.width, 3)
    if packet.kind is Kind.JPEG:
        return np.array(Image.open(io.BytesIO(packet.payload)).convert("RGB"))
    raise ValueError(f"a picture is {packet.kind.name}, which depends on those before it; use a video decoder")


class Client:
    """An open connection; from `connect`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, welcome: dict[str, Any]) -> None:
        self.socket, self.welcome = socket, welcome
        self.world: dict[str, Any] = welcome["world"]
        self.session: str = welcome["session"]
        self.status: dict[str, Any] = {}
        """The newest `status` that came."""

    async def send(self, message: Message) -> None:
        """One control message."""
        await self.socket.send_str(pack(message))

    async def upload(self, picture: bytes) -> None:
        """A JPEG, PNG or WebP file; `Open(upload=True)` starts from it."""
        await self.socket.send_bytes(picture)

    async def receive(self, timeout: float | None = None) -> dict[str, Any] | Packet | None:
        """The next message or binary frame; None when the connection has ended."""
        message = await self.socket.receive(timeout=timeout)
        if message.type == aiohttp.WSMsgType.TEXT:
            values: dict[str, Any] = json.loads(message.data)
            if values["type"] == "status":
                self.status = values
            return values
        if message.type == aiohttp.WSMsgType.BINARY:
            return Packet.unpack(message.data)
        return None

    async def expect(self, kind: str, timeout: float = 30.0) -> dict[str, Any]:
        """The next message of a type; pictures before it are seen and passed over.

        Raises:
            Refused: the server says that it will not.
            ConnectionError: the connection ended.
        """
        while (got := await self.receive(timeout)) is not None:
            if isinstance(got, Packet):
                await self._confirm(got)
            elif got["type"] == kind:
                return got
            elif got["type"] == "error":
                raise Refused(got["code"], got["message"])
        raise ConnectionError(f"the connection ended before {kind!r} came")

    async def steps(self, timeout: float = 30.0) -> AsyncIterator[Step]:
        """Whole steps of all streams, each confirmed as seen, until the connection ends.

        Raises:
            Refused: as `expect`.
        """
        open_steps: dict[int, Step] = {}
        while (got := await self.receive(timeout)) is not None:
            if isinstance(got, dict):
                if got["type"] == "error":
                    raise Refused(got["code"], got["message"])
                continue
            if got.kind >= Kind.RECORDING:
                continue
            if got.picture == 0:
                open_steps[got.stream] = Step(got.stream, got.latent_frame, got.control)
            step = open_steps[got.stream]
            step.packets.append(got)
            await self._confirm(got)
            if got.picture == 3:
                yield step

    async def recording(self, timeout: float = 60.0) -> bytes:
        """The mp4 file after `Record(on=False)`."""
        data = b""
        while (got := await self.receive(timeout)) is not None:
            if isinstance(got, dict):
                if got["type"] == "error":
                    raise Refused(got["code"], got["message"])
                if got["type"] == "recording" and not got["on"] and got["bytes"] == 0:
                    return b""
            elif got.kind < Kind.RECORDING:
                await self._confirm(got)
            else:
                data += got.payload
                if got.kind is Kind.RECORDING_END:
                    return data
        raise ConnectionError("the connection ended before the recording came")

    async def _confirm(self, packet: Packet) -> None:
        if packet.kind < Kind.RECORDING and packet.picture == 3:
            await self.send(Seen(packet.stream, packet.latent_frame))


@asynccontextmanager
async def connect(
    url: str, token: str | None = None, formats: Sequence[str] = ("jpeg",), resume: str | None = None
) -> AsyncIterator[Client]:
    """Opens a connection and says hello.

    Args:
        url: of the server, as it prints it, without the token.
        token: where the server asks for one.
        formats: of pictures, the preferred one first.
        resume: the session to go on with after the server was restarted.

    Raises:
        Refused: the server does not speak this version.
        aiohttp.ClientError: there is no server, or it does not let this client in.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(f"{url.rstrip('/')}/live", max_msg_size=UPLOAD_LIMIT * 4) as socket,
    ):
        await socket.send_str(pack(Hello(VERSION, tuple(formats), resume)))
        welcome = json.loads(await socket.receive_str(timeout=30))
        if welcome["type"] == "error":
            raise Refused(welcome["code"], welcome["message"])
        yield Client(socket, welcome)  # type: ignore[arg-type]  # its class is generic since aiohttp 3.14
