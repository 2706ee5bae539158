"""What goes over the WebSocket, version 1: JSON messages one way and the other, and binary pictures.

`docs/protocol.md` is the page to write a client from. `parse` turns what came in into one of the classes below, or
raises `ProtocolError` with a sentence that names the field: nothing further in has to check shapes or ranges.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from .checks import Check, ProtocolError, array, fail, flag, integer, names, number, optional, text

VERSION = 1
FORMATS = ("h264", "jpeg", "raw")
"""What pictures can be sent as; `raw` is uint8 [H, W, 3]."""
STREAMS = 8
"""A client numbers its streams 0 to 7."""
TEXT_LIMIT = 64 * 1024
"""Bytes of one JSON message."""
IN_FLIGHT = 3
"""Latent frames that are sent ahead of the client's `seen`."""


def _field(check: Check, **default: Any) -> Any:
    return field(metadata={"check": check}, **default)


_stream = integer(0, STREAMS - 1)
_share = number(-1, 1)
_arrays = optional(array(2, 3))


# -- from the client --


@dataclass(frozen=True)
class Hello:
    """The first message."""

    version: int = _field(integer(0, 1 << 30))
    formats: tuple[str, ...] = _field(names, default=("jpeg",))
    resume: str | None = _field(optional(text(64)), default=None)
    """The session of a `welcome` before the server was restarted."""


@dataclass(frozen=True)
class Formats:
    """Other pictures from now on."""

    formats: tuple[str, ...] = _field(names)


@dataclass(frozen=True)
class Open:
    """A new world under a number of the client's; what was there before ends."""

    stream: int = _field(_stream, default=0)
    seed: int = _field(integer(0, (1 << 64) - 1), default=0)
    prompt: str | None = _field(optional(text(4096)), default=None)
    gallery: int | None = _field(optional(integer(0, 1 << 20)), default=None)
    upload: bool = _field(flag, default=False)
    """Start from the picture that was uploaded last."""
    paused: bool = _field(flag, default=False)


@dataclass(frozen=True)
class Control:
    """What steers from the next step on, until another comes. One of the three, or only numbers: a camera at rest."""

    stream: int = _field(_stream, default=0)
    sequence: int = _field(integer(0, (1 << 31) - 1), default=0)
    """Comes back with the pictures that show it."""
    forward: float = _field(_share, default=0.0)
    right: float = _field(_share, default=0.0)
    up: float = _field(_share, default=0.0)
    turn: float = _field(_share, default=0.0)
    """Left is positive; all five are shares of the fastest motion."""
    tilt: float = _field(_share, default=0.0)
    motion: list[Any] | None = field(metadata={"check": _arrays}, default=None)
    """A camera's rigid transform [4, 4] or [4, 4, 4], used as it is."""
    pose: list[Any] | None = field(metadata={"check": _arrays}, default=None)
    """[joints, 2 or 3] or [4, joints, 2 or 3]."""


@dataclass(frozen=True)
class Pause:
    stream: int = _field(_stream, default=0)
    paused: bool = _field(flag, default=True)


@dataclass(frozen=True)
class Rewind:
    stream: int = _field(_stream, default=0)
    frames: int = _field(integer(0, 1 << 30), default=0)
    """Latent frames."""


@dataclass(frozen=True)
class Fork:
    stream: int = _field(_stream, default=0)
    into: int = _field(_stream, default=1)


@dataclass(frozen=True)
class Prompt:
    text: str = _field(text(4096))
    stream: int = _field(_stream, default=0)


@dataclass(frozen=True)
class Record:
    """Start and stop; what was recorded comes in parts after the stop."""

    stream: int = _field(_stream, default=0)
    on: bool = _field(flag, default=True)


@dataclass(frozen=True)
class Close:
    stream: int = _field(_stream, default=0)


@dataclass(frozen=True)
class Seen:
    """This latent frame has arrived; without it the server stops after three."""

    stream: int = _field(_stream, default=0)
    frame: int = _field(integer(0, 1 << 32), default=0)


@dataclass(frozen=True)
class Ping:
    time: float = _field(number(-1e15, 1e15), default=0.0)


Message = Hello | Formats | Open | Control | Pause | Rewind | Fork | Prompt | Record | Close | Seen | Ping
MESSAGES: dict[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (Hello, Formats, Open, Control, Pause, Rewind, Fork, Prompt, Record, Close, Seen, Ping)
}


def parse(data: str) -> Message:
    """The message in a text frame.

    Raises:
        ProtocolError: it is none of version 1.
    """
    if len(data) > TEXT_LIMIT:
        raise ProtocolError(f"a message has {len(data)} characters; at most {TEXT_LIMIT} are read")
    try:
        values = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a message is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ProtocolError('a message must be an object with a "type"')
    name = values.pop("type", None)
    if not isinstance(name, str) or name not in MESSAGES:
        raise ProtocolError(f"type {fail(name, 'one of ' + ', '.join(MESSAGES))}")
    kind = MESSAGES[name]
    known = {one.name: one for one in dataclasses.fields(kind)}
    checked = {}
    for key, value in values.items():
        if key not in known:
            raise ProtocolError(f"{name} has no field {key[:40]!r}; it has {', '.join(known)}")
        try:
            checked[key] = known[key].metadata["check"](value)
        except RecursionError:
            raise ProtocolError(f"{name}.{key} is nested too deeply") from None
        except ProtocolError as error:
            raise ProtocolError(f"{name}.{key} {error}") from None
    try:
        return kind(**checked)
    except TypeError:
        missing = [key for key, one in known.items() if key not in checked and one.default is dataclasses.MISSING]
        raise ProtocolError(f"{name} lacks {', '.join(missing)}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def pack(message: Message) -> str:
    """The inverse of `parse`; fields at their defaults are left out."""
    values: dict[str, Any] = {"type": type(message).__name__.lower()}
    for one in dataclasses.fields(message):
        value = getattr(message, one.name)
        if value != one.default:
            values[one.name] = value
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


# -- binary frames from the server --


class Kind(IntEnum):
    JPEG = 1
    H264_KEY = 2
    """Annex B, starts with its parameter sets."""
    H264 = 3
    RAW = 4
    RECORDING = 5
    """A part of an mp4 file."""
    RECORDING_END = 6


HEADER = struct.Struct("<BBBBiIHH")
"""Version, kind, stream, picture 0..3 of the latent frame, control, latent frame, height, width: 16 bytes."""


class Packet(NamedTuple):
    """A binary frame."""

    kind: Kind
    stream: int
    picture: int
    """0 to 3 within the latent frame."""
    control: int
    """Sequence number of the control that the picture reflects; -1 before the first."""
    latent_frame: int
    height: int
    width: int
    payload: bytes

    def pack(self) -> bytes:
        head = HEADER.pack(VERSION, *self[:3], self.control, self.latent_frame, self.height, self.width)
        return head + self.payload

    @staticmethod
    def unpack(data: bytes) -> Packet:
        """Raises ProtocolError where the data is no binary frame of version 1."""
        if len(data) < HEADER.size or data[0] != VERSION:
            raise ProtocolError(
                f"a binary frame of {len(data)} bytes does not begin with a header of version {VERSION}"
            )
        _, kind, stream, picture, control, latent_frame, height, width = HEADER.unpack_from(data)
        if kind not in set(Kind):
            raise ProtocolError(f"a binary frame is of kind {kind}, which version {VERSION} does not have")
        return Packet(Kind(kind), stream, picture, control, latent_frame, height, width, data[HEADER.size :])
