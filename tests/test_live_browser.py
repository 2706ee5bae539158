"""The page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import av
import numpy as np
import pytest
from live_server import FAST, posed_world, serving, tiny_world
from PIL import Image
from seen import shift

from aapt_video import load

playwright = pytest.importorskip("playwright.async_api", reason="needs Playwright: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
PATIENCE = 60_000  # milliseconds; a loaded machine draws a page slowly


@asynccontextmanager
async def browsing(width: int = 1280, height: int = 800, **changes: Any) -> AsyncIterator[tuple[Any, list[str]]]:
    """The page, playing, and what its console complains about."""
    async with serving(**changes) as served, playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"{request.url} failed"))
        outside: list[str] = []
        page.on("request", lambda request: outside.append(request.url))
        await page.goto(served.url)
        await until(page, "document.querySelector('.veil')?.hidden === true")
        yield page, complaints
        assert all(url.startswith((served.url, "blob:", "data:")) for url in outside)
        await browser.close()


async def until(page: Any, words: str) -> None:
    """Waits until an expression of the page is true. (Playwright's own wait needs eval, which the page forbids.)"""
    for _ in range(PATIENCE // 100):
        if await page.evaluate(words):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"it never came true: {words}")


async def picture(page: Any, number: int = 0) -> np.ndarray:
    """What a screen shows, [H, W, 3]."""
    url = await page.evaluate(f"screens.get({number}).canvas.toDataURL()")
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")).astype(int)


def test_a_visitor_plays_rewinds_branches_records_and_nothing_complains() -> None:
    async def test() -> None:
        async with browsing() as (page, complaints):
            before = await picture(page)
            await page.keyboard.down("KeyW")
            await until(page, "document.getElementById('latency').textContent.endsWith('ms')")
            await until(page, "Number(document.getElementById('rewind').max) > 3")
            assert np.abs(await picture(page) - before).mean() > 1
            await page.keyboard.up("KeyW")

            await page.keyboard.press("Space")
            await until(page, "document.getElementById('pause').textContent === 'Play'")
            await page.evaluate("goBack(3)")
            await until(page, "document.getElementById('pause').textContent === 'Pause'")

            await page.keyboard.press("KeyB")
            await until(page, "screens.size === 2 && screens.get(1).veil.hidden")
            await page.keyboard.press("Tab")
            assert await page.evaluate("chosen") == 1
            await page.keyboard.press("KeyB")
            await until(page, "screens.size === 1")

            async with page.expect_download() as download:
                await page.keyboard.press("KeyR")
                await until(page, "document.getElementById('record').textContent === 'Stop'")
                await page.wait_for_timeout(1500)
                await page.keyboard.press("KeyR")
            path = await (await download.value).path()
            with av.open(str(path)) as file:
                assert sum(1 for _ in file.decode(video=0)) >= 4
            assert complaints == []

    asyncio.run(asyncio.wait_for(test(), 240))


def test_the_camera_goes_where_the_key_says() -> None:
    """Random weights show no room, but a still camera and one that turns part from the same paused frame."""

    async def test() -> None:
        async with browsing(settings=FAST, exact=True) as (page, complaints):
            await page.evaluate("send({type: 'fork', stream: 0, into: 1})")
            await until(page, "screens.size === 2 && screens.get(1).veil.hidden")
            await page.keyboard.down("ArrowLeft")
            await until(page, "sequence > 0 && !sentAt.has(sequence)")
            await page.wait_for_timeout(1000)
            turned, still = await picture(page, 0), await picture(page, 1)
            assert np.abs(turned - still).mean() > 1
            assert complaints == []

    asyncio.run(asyncio.wait_for(test(), 240))


@pytest.mark.parametrize(("key", "sign"), [("ArrowLeft", 1), ("ArrowRight", -1)])
def test_what_the_shipped_world_shows_slides_against_the_turn(key: str, sign: int) -> None:
    async def test() -> None:
        async with browsing(generator=load("doom", device="cpu")) as (page, complaints):
            before = await picture(page)
            await page.keyboard.down(key)
            await page.wait_for_timeout(400)
            await page.keyboard.up(key)
            await page.wait_for_timeout(400)
            assert shift(before, await picture(page)) * sign > 0
            assert complaints == []

    asyncio.run(asyncio.wait_for(test(), 240))


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_page_fits_the_screen(width: int, height: int) -> None:
    async def test() -> None:
        async with browsing(width, height) as (page, complaints):
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert await page.is_visible("#pause")
            assert await page.is_visible("#pad") == (width < 860)
            assert complaints == []

    asyncio.run(asyncio.wait_for(test(), 240))


def test_a_joint_that_is_dragged_moves_the_pose() -> None:
    async def test() -> None:
        async with browsing(generator=posed_world()) as (page, complaints):
            ends = "(i) => ['x1', 'y1', 'x2', 'y2'].map((name) => Number(screens.get(0).bones[i].getAttribute(name)))"
            assert await page.evaluate("screens.get(0).bones.length") == 5
            assert await page.evaluate(ends, 0) == pytest.approx([24, 6.4, 24, 16])  # in pixels of the picture
            box = await page.locator(".screen canvas").bounding_box()
            scale = min(box["width"] / 48, box["height"] / 32)  # there are bars beside the picture, or above it
            left, top = box["x"] + (box["width"] - 48 * scale) / 2, box["y"] + (box["height"] - 32 * scale) / 2
            await page.mouse.move(left + 24 * scale, top + 6.4 * scale)
            await page.mouse.down()
            await page.mouse.move(left + 30 * scale, top + 10 * scale, steps=4)
            await page.mouse.up()
            assert await page.evaluate("screens.get(0).pose[0]") == pytest.approx([30 / 48, 10 / 32, 1], abs=1e-3)
            for bone in (0, 1, 2):
                assert (await page.evaluate(ends, bone))[:2] == pytest.approx([30, 10], abs=0.05)
            assert (await page.evaluate(ends, 0))[2:] == pytest.approx([24, 16])
            await until(page, "document.getElementById('latency').textContent.endsWith('ms')")
            assert not await page.is_visible("#pad") and complaints == []

    asyncio.run(asyncio.wait_for(test(), 240))


def test_a_world_without_words_shows_no_prompt() -> None:
    async def test() -> None:
        async with browsing(generator=tiny_world(text="none")) as (page, complaints):
            assert not await page.is_visible("#promptCard")
            assert complaints == []

    asyncio.run(asyncio.wait_for(test(), 240))
