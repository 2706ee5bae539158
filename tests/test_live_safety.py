"""Who gets in, and what cannot be done to the server from outside."""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
import zlib
from collections.abc import Coroutine
from typing import Any

import aiohttp
import numpy as np
import pytest
from live_server import serving
from PIL import Image

from aapt_video.serve.client import Client, Open, Ping, Refused, connect
from aapt_video.serve.pictures import TooLarge, read_upload
from aapt_video.serve.play import Play, prepare
from aapt_video.serve.safety import Bucket, Gate, is_loopback


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 120))


PATHS = ("", "live", "health", "metrics", "gallery/0.jpg")


def test_a_token_is_asked_of_every_request() -> None:
    async def test() -> None:
        async with serving(gate=Gate("s3cret")) as served, aiohttp.ClientSession() as session:
            for path in (*PATHS, "nowhere"):
                for query in ("", "?token=", "?token=wrong", "?token=s3cre", "?token=%FF"):
                    async with session.get(served.url + path + query) as answer:
                        assert answer.status == 401
            async with session.get(served.url, headers={"Authorization": "Basic s3cret"}) as answer:
                assert answer.status == 401
            for path in ("", "health", "metrics", "gallery/0.jpg"):
                async with session.get(served.url + path + "?token=s3cret") as answer:
                    assert answer.status == 200
            async with connect(served.url, token="s3cret") as client:
                assert client.world
            with pytest.raises(aiohttp.WSServerHandshakeError):
                async with connect(served.url, token="other"):
                    pass

    run(test())


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "evil.example:80", "[", "127.0.0.1.evil"]
)
def test_a_foreign_name_for_this_address_is_not_answered(host: str) -> None:
    async def test() -> None:
        async with serving() as served, aiohttp.ClientSession() as session:
            for path in PATHS:
                async with session.get(served.url + path, headers={"Host": host}) as answer:
                    assert answer.status in (400, 403)

    run(test())


def test_another_sites_page_gets_no_socket() -> None:
    async def test() -> None:
        async with serving() as served, aiohttp.ClientSession() as session:
            for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(served.url + "live", headers={"Origin": origin})
                assert refused.value.status == 403
            own = served.url.rstrip("/")
            async with session.ws_connect(served.url + "live", headers={"Origin": own}) as socket:
                assert not socket.closed

    run(test())


def test_names_are_answered_when_they_are_allowed() -> None:
    async def test() -> None:
        gate = Gate(None, frozenset({"play.example"}))
        async with serving(gate=gate) as served, aiohttp.ClientSession() as session:
            for host, status in (
                ("play.example", 200),
                ("PLAY.example:99", 200),
                ("localhost", 200),
                ("a.example", 403),
            ):
                async with session.get(served.url, headers={"Host": host}) as answer:
                    assert answer.status == status

    run(test())


def test_the_page_may_load_nothing_from_elsewhere() -> None:
    async def test() -> None:
        async with serving() as served, aiohttp.ClientSession() as session:
            async with session.get(served.url) as answer:
                text, headers = await answer.text(), answer.headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
            text = text.replace("http://www.w3.org/2000/svg", "")  # a name of the browser's, which nobody asks for
            assert "https://" not in text and "http://" not in text

    run(test())


@pytest.mark.parametrize(
    "path", ["../secret", "gallery/../../etc/passwd", "gallery/2.jpg", "gallery/-1.jpg", "page.html"]
)
def test_no_path_leads_to_a_file(path: str) -> None:
    async def test() -> None:
        async with serving() as served, aiohttp.ClientSession() as session:
            async with session.get(served.url + path.replace("/..", "/%2e%2e")) as answer:
                assert answer.status == 404
            async with session.post(served.url) as answer:
                assert answer.status == 405

    run(test())


def test_what_is_served_says_how_it_goes() -> None:
    async def test() -> None:
        async with serving() as served, connect(served.url) as client, aiohttp.ClientSession() as session:
            await client.send(Open())
            await client.expect("opened")
            async with session.get(served.url + "health") as answer:
                assert await answer.json() == {"ok": True, "streams": 1, "most": 3}
            async with session.get(served.url + "metrics") as answer:
                text = await answer.text()
            values = dict(line.split(" ") for line in text.splitlines() if not line.startswith("#"))
            assert values["aapt_video_streams"] == "1" and values["aapt_video_clients"] == "1"
            assert all(float(value) >= 0 for value in values.values())

    run(test())


def test_a_flood_is_cut_off() -> None:
    async def test() -> None:
        async with serving() as served, connect(served.url) as client:
            for _ in range(3000):
                try:
                    await client.send(Ping())
                except ConnectionError:
                    break
            codes = []
            while (got := await client.receive(30)) is not None:
                codes.append(got.get("code") if isinstance(got, dict) else None)
            assert "rate" in codes and client.socket.closed
            async with connect(served.url) as other:
                assert other.world

    run(test())


def test_a_message_that_is_too_long_ends_the_connection_and_nothing_else() -> None:
    async def test() -> None:
        async with serving() as served:
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                async with connect(served.url) as client:
                    await client.socket.send_str(" " * (26 << 20))
                    while await client.receive(60) is not None:
                        pass
            async with connect(served.url) as other:
                await other.socket.send_str(" " * 70_000)
                with pytest.raises(Refused, match="at most"):
                    await other.expect("pong")

    run(test())


async def refusal(client: Client, data: bytes) -> str:
    await client.upload(data)
    with pytest.raises(Refused) as refused:
        await client.expect("uploaded", 60)
    return str(refused.value)


def test_broken_uploads_are_refused_one_by_one() -> None:
    whole = file_of(Image.fromarray(np.zeros((40, 60, 3), np.uint8)), "PNG")

    async def test() -> None:
        async with serving() as served, connect(served.url) as client:
            for data in (b"", b"GIF89a" + bytes(100), b"<svg/>", whole[: len(whole) // 2], b"\xff\xd8\xff" + bytes(50)):
                assert "cannot be read" in await refusal(client, data)
            assert "megapixels" in await refusal(client, png_header(100_000, 100_000))
            await client.upload(whole)
            await client.expect("uploaded")

    run(test())


def file_of(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A few bytes that claim to be a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    for width, height in ((30_000, 30_000), (10_000, 10_000), (20_000, 10)):
        with pytest.raises(TooLarge):
            read_upload(png_header(width, height), 32, 48)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_large_photo_is_taken_and_cropped(kind: str) -> None:
    photo = Image.new("RGB", (1200, 2160), (200, 30, 30))
    fitted = read_upload(file_of(photo, kind), 32, 48)
    assert fitted.size == (48, 32)
    assert np.abs(np.array(fitted).astype(int) - [200, 30, 30]).max() < 8


def test_only_loopback_does_without_a_token() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.com")))


def test_a_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    bucket = Bucket(rate=0.001, burst=5)
    assert [bucket.take() for _ in range(7)] == [True] * 5 + [False] * 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"port": 70000}, "port is"),
        ({"history": -1.0}, "history"),
        ({"streams": 0}, "streams is"),
        ({"memory": 0.0}, "memory"),
    ],
)
def test_play_names_what_is_wrong(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        prepare(Play("nowhere", **change))
    with pytest.raises(FileNotFoundError, match="shipped models"):
        prepare(Play("nowhere"))
