"""`aapt-video play`: serves a world and prints the address."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from aiohttp import web

from aapt_video.model import Linears
from aapt_video.stream import Generator, Limits, load

from .keep import Keep
from .live import Live, LiveStream, Settings
from .safety import Gate, is_loopback
from .server import make_app
from .steering import OwnSpeeds

MOST_STREAMS = 8  # of a limit that nobody set


@dataclass(frozen=True)
class Play:
    """Serve a world to walk through, and print its address.

    Opens to this machine only. `--host 0.0.0.0` opens it to the network, behind a token that the printed address
    carries.
    """

    world: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WORLD")] = "doom"
    """A shipped world, or a model's folder."""
    host: str = "127.0.0.1"
    """Address to listen at."""
    port: int = 8000
    """Port to listen at; 0 takes any that is free."""
    token: str | None = None
    """Asked of every request; one is made where the address is not loopback."""
    allow_host: tuple[str, ...] = ()
    """Names that the server answers to, besides localhost and addresses."""
    memory: float = 2.0
    """Gigabytes for streams; decides how many there may be."""
    streams: int | None = None
    """Most streams at a time, branches included; as many as fit into the memory, 8 at most, where it is not given."""
    history: float = 10.0
    """Seconds that a stream can rewind."""
    exact: bool = False
    """Step streams one by one: the same bits whoever else is there."""
    idle: float = 600.0
    """Seconds without a message after which a stream ends."""
    keep: Path | None = None
    """A folder in which streams survive a crash of the server; clients go on where they were."""
    device: str | None = None
    """cpu or cuda; the best that is there where it is not given."""
    linears: Linears | None = None
    """fp8 multiplies in fp8 on GPUs that can; on a CPU it shows the error, slowly."""
    speeds: OwnSpeeds = field(default_factory=OwnSpeeds)
    """Of the camera, where they shall not be the world's own."""


def play(arguments: Play) -> None:
    """Serves until Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    generator, settings = prepare(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments, generator, settings))


def prepare(arguments: Play) -> tuple[Generator, Settings]:
    """The world, with memory set aside for its streams.

    Raises:
        ValueError: an argument is out of range, or the memory does not hold one stream.
        FileNotFoundError: there is no such world.
    """
    if not 0 <= arguments.port <= 65535:
        raise ValueError(f"port is {arguments.port}; it must be 0 to 65535")
    if arguments.history < 0 or arguments.idle <= 0 or arguments.memory <= 0:
        raise ValueError("history must be at least 0 seconds, idle and memory positive")
    if arguments.streams is not None and arguments.streams < 1:
        raise ValueError(f"streams is {arguments.streams}; it must be at least 1")
    generator = load(arguments.world, device=arguments.device, linears=arguments.linears)
    history = round(arguments.history * generator.fps / 4)
    each = generator.memory(1, history)["streams"]
    fit = int(arguments.memory * 1e9 // each)
    streams = min(MOST_STREAMS, fit) if arguments.streams is None else arguments.streams
    if streams < 1 or streams > fit:
        raise ValueError(
            f"memory is {arguments.memory:g} GB, and {max(1, streams)} streams with {arguments.history:g} s of history "
            f"take {max(1, streams) * each / 1e9:.3g} GB; give more --memory, fewer --streams, or less --history"
        )
    generator.limits = Limits(streams, streams * history)
    return generator, Settings(
        streams, history, arguments.exact, arguments.idle, speeds=arguments.speeds.over(generator.speeds)
    )


def warm_up(live: Live) -> None:
    """Prepares the pass of every number of streams, so that no client waits for it; in the loop's thread."""
    generator = live.generator
    engine = generator.engine(generator.height, generator.width)
    for batch in range(1, (1 if live.settings.exact else live.settings.streams) + 1):
        engine.program(batch)


async def _serve(arguments: Play, generator: Generator, settings: Settings) -> None:
    token = arguments.token
    if token is None and not is_loopback(arguments.host):
        token = secrets.token_urlsafe(24)
    keeping = contextlib.nullcontext() if arguments.keep is None else contextlib.closing(Keep(arguments.keep))
    with keeping as keep, Live(generator, settings, keep) as live:
        await asyncio.wrap_future(live.call(lambda: warm_up(live)))
        resumable: dict[str, dict[int, LiveStream]] = {}
        if keep is not None:
            resumable = await asyncio.wrap_future(live.call(lambda: keep.restore(live)))
        app = make_app(live, Gate(token, frozenset(name.lower() for name in arguments.allow_host)), resumable)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, arguments.host, arguments.port)
            try:
                await site.start()
            except OSError as error:
                where = f"{arguments.host}:{arguments.port}"
                raise ValueError(f"cannot listen at {where}: {error}; give another --port or --host") from None
            print(f"{generator.name}: {address(runner, arguments.host, token)}", flush=True)
            await _until_signal()
        finally:
            await runner.cleanup()


def address(runner: web.AppRunner, host: str, token: str | None) -> str:
    """What to open in a browser."""
    port = runner.addresses[0][1]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


async def _until_signal() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()
