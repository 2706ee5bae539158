"""A server over a tiny model with random weights, in the test's own event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web
from models import picture, tiny_generator
from PIL import Image

from aapt_video.model.conditions import Pose
from aapt_video.serve.keep import Keep
from aapt_video.serve.live import Live, LiveStream, Settings
from aapt_video.serve.play import address, warm_up
from aapt_video.serve.safety import Gate
from aapt_video.serve.server import SERVING, make_app
from aapt_video.stream import Generator, Limits, Start

FAST = Settings(streams=3, history=12)


def tiny_world(settings: Settings = FAST, **changes: Any) -> Generator:
    """Two start frames; room for exactly the streams of the settings."""
    generator = tiny_generator(**changes)
    words = None if generator.config.text == "none" else "a maze"
    generator.gallery = tuple(Start(Image.fromarray(picture(i)), words) for i in range(2))
    generator.limits = Limits(settings.streams, settings.streams * settings.history)
    return generator


def posed_world(settings: Settings = FAST) -> Generator:
    """Steered by a body of six joints, which take as many channels as a camera."""
    world = tiny_world(settings)
    places = ((0.5, 0.2), (0.5, 0.5), (0.35, 0.4), (0.65, 0.4), (0.4, 0.8), (0.6, 0.8))
    world.condition = Pose(joints=6, lines=((0, 1), (0, 2), (0, 3), (1, 4), (1, 5)), rest=places)
    return world


@dataclass
class Served:
    """A server that runs."""

    url: str
    live: Live
    app: web.Application

    async def emptied(self) -> None:
        """Waits until every client's things are gone: what a leak would keep from happening."""
        for _ in range(600):
            if not self.app[SERVING].connections and not self.live.streams:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{len(self.app[SERVING].connections)} clients, {len(self.live.streams)} streams are left")

    def check_nothing_is_held(self) -> None:
        """Every page is free and no room is set aside."""
        engine = self.live.generator.engine(self.live.generator.height, self.live.generator.width)
        assert engine.pool.pages_free == engine.pool.pages
        assert engine._reserved == 0
        if engine.text_pool is not None:
            assert engine.text_pool.pages_free == engine.text_pool.pages


@asynccontextmanager
async def serving(
    generator: Generator | None = None,
    settings: Settings = FAST,
    gate: Gate | None = None,
    keep: Keep | None = None,
    **changes: Any,
) -> AsyncIterator[Served]:
    """Serves on a free port of loopback."""
    settings = replace(settings, **changes)
    generator = tiny_world(settings) if generator is None else generator
    with Live(generator, settings, keep) as live:
        await asyncio.wrap_future(live.call(lambda: warm_up(live)))
        resumable: dict[str, dict[int, LiveStream]] = {}
        if keep is not None:
            resumable = await asyncio.wrap_future(live.call(lambda: keep.restore(live)))
        app = make_app(live, gate or Gate(None), resumable)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield Served(address(runner, "127.0.0.1", None), live, app)
        finally:
            await runner.cleanup()


class Errors(logging.Handler):
    """What was logged at ERROR, by us, aiohttp and asyncio."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))

    def __enter__(self) -> Errors:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self)
