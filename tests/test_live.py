"""What a client of the live server can do, one thing a test."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from live_server import serving, tiny_world
from models import camera, picture
from PIL import Image

from aapt_video.serve import live
from aapt_video.serve.client import (
    Client,
    Control,
    Fork,
    Formats,
    Kind,
    Open,
    Packet,
    Pause,
    Prompt,
    Record,
    Refused,
    Rewind,
    Step,
    connect,
)  # fmt: skip
from aapt_video.serve.keep import Keep
from aapt_video.stream import Speeds, load, save_generator

pytestmark = pytest.mark.usefixtures("one_thread")

SECONDS = 120  # a step of the tiny model takes milliseconds; a loaded machine may take far longer


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, SECONDS))


async def watch(client: Client, steps: int, stream: int = 0) -> list[Step]:
    seen: list[Step] = []
    async for step in client.steps():
        if step.stream == stream:
            seen.append(step)
        if len(seen) == steps:
            return seen
    raise AssertionError("the connection ended")


def test_pictures_are_those_of_the_stream_and_carry_their_control() -> None:
    async def test() -> None:
        generator = tiny_world()
        async with serving(generator, exact=True) as served, connect(served.url, formats=["raw"]) as client:
            assert client.world["height"] == 32 and client.world["text"] and client.world["control"] == "camera"
            await client.send(Open(seed=5, paused=True))
            opened = await client.expect("opened")
            assert (opened["seed"], opened["prompt"], opened["frame"]) == (5, "a maze", 0)
            await client.send(Control(sequence=3, motion=camera(1).tolist()))
            await client.send(Pause(paused=False))
            seen = await watch(client, 6)
            assert all(step.control == 3 for step in seen)
        fresh = tiny_world()
        with fresh.open(seed=5) as stream:
            expected = [np.asarray(stream.step(camera(1))) for _ in range(seen[-1].latent_frame)]
        for step in seen:
            assert np.array_equal(step.pictures(), expected[step.latent_frame - 1])

    run(test())


def test_a_client_that_does_not_confirm_gets_three_steps_and_no_more() -> None:
    async def test() -> None:
        async with serving() as served, connect(served.url) as client:
            await client.send(Open())
            frames = set()
            while client.status.get("streams", {}).get("0", {}).get("dropped", 0) < 2:
                got = await client.receive(30)
                if isinstance(got, Packet):
                    frames.add(got.latent_frame)
            assert len(frames) == 3

    run(test())


def test_rewind_and_branch_go_on_from_the_past() -> None:
    async def test() -> None:
        async with serving(exact=True) as served, connect(served.url, formats=["raw"]) as client:
            await client.send(Open(seed=1))
            first = {step.latent_frame: step.pictures() for step in await watch(client, 8)}
            await client.send(Pause())
            await client.expect("paused")
            frame = served.live.streams[f"{client.session}.0"].stream.frame
            await client.send(Rewind(frames=frame - 2))
            assert (await client.expect("rewound"))["frame"] == 2
            await client.send(Fork(into=1))
            assert (await client.expect("opened"))["stream"] == 1
            await client.send(Pause(paused=False))
            again = {step.latent_frame: step.pictures() for step in await watch(client, 4)}
            await client.send(Pause(stream=1, paused=False))
            branch = {step.latent_frame: step.pictures() for step in await watch(client, 4, stream=1)}
            compared = 0
            for shown in (again, branch):
                for number in shown.keys() & first.keys():
                    assert np.array_equal(shown[number], first[number])
                    compared += 1
            assert compared >= 4
            await client.send(Rewind(frames=10_000))
            with pytest.raises(Refused, match="can go back"):
                await client.expect("rewound")

    run(test())


def test_places_are_limited_and_come_free_at_once() -> None:
    async def test() -> None:
        async with serving() as served:
            async with connect(served.url) as greedy:
                for stream in range(3):
                    await greedy.send(Open(stream=stream))
                    await greedy.expect("opened")
                async with connect(served.url) as late:
                    await late.send(Open())
                    with pytest.raises(Refused, match="all 3 places") as refused:
                        await late.expect("opened")
                    assert refused.value.code == "full"
            await served.emptied()
            served.check_nothing_is_held()
            async with connect(served.url) as late:
                await late.send(Open())
                await late.expect("opened")

    run(test())


def test_one_client_cannot_take_the_prompts_of_all() -> None:
    async def test() -> None:
        async with serving() as served, connect(served.url) as client:
            await client.send(Open(prompt="a"))
            await client.expect("opened")
            refused = 0
            for i in range(12):
                await client.send(Prompt(text=f"日本 {i}"))
                try:
                    assert (await client.expect("prompt"))["text"] == f"日本 {i}"
                except Refused:
                    refused += 1
                await watch(client, 1)
            async with connect(served.url) as other:
                await other.send(Open(prompt="another"))
                assert (await other.expect("opened"))["prompt"] == "another"

    run(test())


def test_an_idle_stream_ends_and_says_so() -> None:
    async def test() -> None:
        async with serving(idle=0.3) as served, connect(served.url) as client:
            await client.send(Open())
            assert "nothing was heard" in (await client.expect("ended"))["reason"]
            served.check_nothing_is_held()

    run(test())


def test_a_server_at_rest_steps_a_new_stream_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REST", SECONDS)

    async def test() -> None:
        async with serving() as served, connect(served.url) as client:
            begin = asyncio.get_running_loop().time()
            await client.send(Open())
            await watch(client, 1)
            assert asyncio.get_running_loop().time() - begin < SECONDS / 2 and served.live.steps > 0

    run(test())


def test_h264_decodes_to_the_pictures_whatever_was_dropped() -> None:
    async def test() -> None:
        async with serving() as served, connect(served.url, formats=["av1", "h264", "jpeg"]) as client:
            assert client.welcome["format"] == "h264"
            decoder = av.CodecContext.create("h264", "r")
            await client.send(Open())
            steps = await watch(client, 5)
            assert steps[0].packets[0].kind is Kind.H264_KEY
            shown = [
                frame
                for step in steps
                for packet in step.packets
                for frame in decoder.decode(av.Packet(packet.payload))  # type: ignore[attr-defined]
            ]
            shown += decoder.decode(None)  # type: ignore[attr-defined]
            assert len(shown) == 20 and (shown[0].height, shown[0].width) == (32, 48)
            await client.send(Formats(("jpeg",)))
            await client.expect("format")
            while (await watch(client, 1))[0].packets[0].kind is not Kind.JPEG:
                pass

    run(test())


def test_a_world_is_walked_at_its_own_speeds() -> None:
    async def test() -> None:
        generator = tiny_world()
        generator.speeds = Speeds(move=0.5, turn=7, tilt=1, acceleration=0.1)
        async with serving(generator) as served, connect(served.url) as client:
            assert client.world["moves"] and client.world["tilt"]
            await client.send(Open())
            await client.expect("opened")
            assert served.live.streams[f"{client.session}.0"].rig.speeds == generator.speeds
        async with serving(generator, speeds=Speeds(move=0)) as served, connect(served.url) as client:
            assert not client.world["moves"] and not client.world["tilt"]

    run(test())


def test_an_upload_is_where_the_world_starts() -> None:
    async def test() -> None:
        async with serving(exact=True) as served, connect(served.url, formats=["raw"]) as client:
            await client.send(Open(upload=True))
            with pytest.raises(Refused, match="no picture was uploaded"):
                await client.expect("opened")
            file = io.BytesIO()
            portrait = Image.fromarray(picture(9, 90, 60))
            portrait.save(file, "PNG")
            await client.upload(file.getvalue())
            await client.expect("uploaded")
            await client.send(Open(upload=True, prompt="x", seed=2))
            (step,) = await watch(client, 1)
        with tiny_world().open("x", portrait, seed=2) as stream:
            while stream.frame < step.latent_frame:
                expected = stream.step()
        assert np.array_equal(step.pictures(), expected)

    run(test())


def test_a_recording_holds_every_picture_and_plays() -> None:
    async def test() -> None:
        async with serving() as served, connect(served.url) as client:
            await client.send(Open())
            await client.expect("opened")
            await client.send(Record())
            await client.expect("recording")
            await watch(client, 4)
            await client.send(Record(on=False))
            data = await client.recording()
        with av.open(io.BytesIO(data)) as file:
            count = sum(1 for _ in file.decode(video=0))
        assert count >= 12 and count % 4 == 0

    run(test())


def test_a_failing_step_ends_its_stream_alone() -> None:
    async def test() -> None:
        async with serving() as served, connect(served.url) as one, connect(served.url) as two:
            for client in (one, two):
                await client.send(Open())
                await client.expect("opened")
            broken = served.live.streams[f"{one.session}.0"]
            broken.next_control = lambda: np.zeros((4, 4))  # type: ignore[method-assign]
            assert "failed" in (await one.expect("ended"))["reason"]
            before = (await watch(two, 1))[0].latent_frame
            assert (await watch(two, 3))[-1].latent_frame > before

    run(test())


def test_what_is_kept_goes_with_the_client(tmp_path: Path) -> None:
    async def test() -> None:
        with contextlib.closing(Keep(tmp_path)) as keep:
            async with serving(keep=keep) as served:
                async with connect(served.url) as client:
                    await client.send(Open())
                    await watch(client, 2)
                    await client.send(Fork(into=1))
                    await client.expect("opened")
                    await client.send(Rewind(frames=1))
                    await client.expect("rewound")
                    await watch(client, 2)
                    await watch(client, 2, stream=1)
                    assert len(list(tmp_path.rglob("*.snapshot"))) >= 2
                await served.emptied()
                served.check_nothing_is_held()
        assert not list(tmp_path.iterdir())

    run(test())


SERVER = """
import sys
from aapt_video.serve.play import Play, play
import torch
torch.set_num_threads(1)
play(Play(sys.argv[1], port=int(sys.argv[3]), streams=2, history=1.0, exact=True, keep=sys.argv[2], device="cpu"))
"""


@pytest.mark.slow
def test_a_killed_server_comes_back_where_it_was_bit_for_bit(tmp_path: Path) -> None:
    world, kept = tmp_path / "world", tmp_path / "kept"
    save_generator(tiny_world(), world)
    port = _free_port()

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(world), str(kept), str(port)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and "http://127.0.0.1" in process.stdout.readline()
        return process

    async def play(process: subprocess.Popen[str], resume: str | None) -> tuple[str, int, list[Step]]:
        """The session, the latent frame at its beginning, and five steps; then the server is killed."""
        async with connect(f"http://127.0.0.1:{port}", formats=["raw"], resume=resume) as client:
            if resume is None:
                await client.send(Open(seed=3, paused=True))
            begin = (await client.expect("opened"))["frame"]
            await client.send(Control(sequence=5 if resume is None else 6, motion=camera(begin and 1).tolist()))
            await client.send(Pause(paused=False))
            seen = await watch(client, 5)
            process.send_signal(signal.SIGKILL)
            return client.session, begin, seen

    process = start()
    try:
        session, _, before = asyncio.run(play(process, None))
        process.wait()
        assert list(kept.rglob("*.snapshot"))
        process = start()
        again, killed_at, after = asyncio.run(play(process, session))
    finally:
        process.kill()
        process.wait()
    assert again == session and killed_at >= before[-1].latent_frame
    assert {step.control for step in before} == {5} and {step.control for step in after} == {6}
    with load(world, device="cpu").open(seed=3) as stream:
        expected = {n: stream.step(camera(n > killed_at)).copy() for n in range(1, after[-1].latent_frame + 1)}
    for step in (*before, *after):
        assert np.array_equal(step.pictures(), expected[step.latent_frame])


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
