"""The application: the page, the socket, the gallery, health and metrics."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import resource
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aiohttp import web

from .connection import Connection
from .live import Live, LiveStream
from .pictures import UPLOAD_LIMIT, jpeg
from .safety import Gate, guard

PAGE = Path(__file__).with_name("page.html")
HEARTBEAT = 20.0  # seconds between two pings; a client that answers none is gone
CONNECTIONS_PER_STREAM = 4  # places for clients that wait, or only look


@dataclass
class Serving:
    """What the handlers share."""

    live: Live
    resumable: dict[str, dict[int, LiveStream]]
    """Streams of a server before this one that wait for their clients, by session and number."""
    connections: set[Connection] = field(default_factory=set)


SERVING = web.AppKey("serving", Serving)


def make_app(live: Live, gate: Gate, resumable: dict[str, dict[int, LiveStream]] | None = None) -> web.Application:
    """The application around a loop that runs.

    Args:
        gate: who is let in.
        resumable: streams of a server before this one, by session and number (`keep.py`).
    """
    app = web.Application(middlewares=[guard(gate)], client_max_size=1024)
    app[SERVING] = Serving(live, {} if resumable is None else resumable)
    app.router.add_get("/", _page)
    app.router.add_get("/live", _socket)
    app.router.add_get(r"/gallery/{number:\d{1,6}}.jpg", _gallery)
    app.router.add_get("/health", _health)
    app.router.add_get("/metrics", _metrics)
    app.on_shutdown.append(_say_goodbye)
    app.cleanup_ctx.append(_forget_unclaimed)
    return app


def page_policy(page: str) -> str:
    """Content-Security-Policy: this page's own style and script, by their hashes, and nothing from anywhere else."""

    def hashes(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in found)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


async def _page(request: web.Request) -> web.Response:
    text = await asyncio.to_thread(PAGE.read_text, "utf-8")
    return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": page_policy(text)})


async def _socket(request: web.Request) -> web.StreamResponse:
    serving = request.app[SERVING]
    live, connections = serving.live, serving.connections
    if len(connections) >= max(16, CONNECTIONS_PER_STREAM * live.settings.streams):
        return web.Response(status=503, text="too many clients; try again later\n")
    # Nothing is compressed, so nothing can be blown up: what was read is what there is.
    socket = web.WebSocketResponse(max_msg_size=UPLOAD_LIMIT + 1024, compress=False, heartbeat=HEARTBEAT)
    await socket.prepare(request)
    connection = Connection(socket, live, serving.resumable)
    connections.add(connection)
    try:
        await connection.run()
    finally:
        connections.discard(connection)
    return socket


async def _gallery(request: web.Request) -> web.Response:
    gallery, number = request.app[SERVING].live.generator.gallery, int(request.match_info["number"])
    if number >= len(gallery):
        raise web.HTTPNotFound(text="no such start frame\n")
    return web.Response(body=await asyncio.to_thread(jpeg, gallery[number].image.copy()), content_type="image/jpeg")


async def _health(request: web.Request) -> web.Response:
    live = request.app[SERVING].live
    alive = await asyncio.wait_for(asyncio.wrap_future(live.call(lambda: True)), 10.0)
    return web.json_response({"ok": alive, "streams": len(live.streams), "most": live.settings.streams})


async def _metrics(request: web.Request) -> web.Response:
    """Prometheus, text format 0.0.4."""
    serving = request.app[SERVING]
    live, connections = serving.live, serving.connections
    engine = live.generator.engine(live.generator.height, live.generator.width)
    seconds = sorted(live.seconds)
    outlets = [outlet for connection in connections for outlet in connection.sender.outlets.values()]
    rows = [
        ("clients", "gauge", "open WebSockets", len(connections)),
        ("streams", "gauge", "open streams", len(live.streams)),
        ("streams_limit", "gauge", "most streams", live.settings.streams),
        ("steps_total", "counter", "passes of the model", live.steps),
        ("latent_frames_total", "counter", "latent frames of all streams", live.frames),
        ("late_steps_total", "counter", "passes that ended a period or more too late", live.late),
        ("failed_steps_total", "counter", "streams that ended by an error", live.failed),
        ("steps_dropped", "gauge", "steps that open clients did not get because they are slow",
         sum(outlet.dropped for outlet in outlets)),
        ("step_seconds_p50", "gauge", "median of the last 64 passes", seconds[len(seconds) // 2] if seconds else 0),
        ("step_seconds_max", "gauge", "slowest of the last 64 passes", seconds[-1] if seconds else 0),
        ("pages_free", "gauge", "free pages", engine.pool.pages_free),
        ("pages", "gauge", "pages", engine.pool.pages),
        ("page_bytes", "gauge", "bytes of a page", engine.pool.bytes_per_page),
        ("captures_total", "counter", "passes that were prepared", engine.captures),
        ("memory_peak_bytes", "gauge", "largest resident memory of the process",
         resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
    ]  # fmt: skip
    text = "".join(
        f"# HELP aapt_video_{name} {words}\n# TYPE aapt_video_{name} {kind}\naapt_video_{name} {value}\n"
        for name, kind, words, value in rows
    )
    return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _say_goodbye(app: web.Application) -> None:
    for connection in set(app[SERVING].connections):
        await connection.socket.close(code=1001, message=b"the server ends")


async def _forget_unclaimed(app: web.Application) -> AsyncIterator[None]:
    """Streams of the server before this one wait a minute for their clients."""

    async def forget() -> None:
        await asyncio.sleep(60)
        serving = app[SERVING]
        for kept in serving.resumable.values():
            for stream in kept.values():
                serving.live.call(partial(serving.live.end, stream))
        serving.resumable.clear()

    task = asyncio.create_task(forget())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
