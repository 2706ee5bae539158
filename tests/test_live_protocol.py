"""The wire: what is parsed, what is refused, and a crowd that behaves badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from dataclasses import fields
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_server import Errors, serving

from aapt_video.serve import protocol
from aapt_video.serve.checks import ProtocolError
from aapt_video.serve.client import Client, Control, Fork, Kind, Open, Packet, Prompt, Record, Refused, Rewind, connect
from aapt_video.serve.protocol import HEADER, MESSAGES, pack, parse

pytestmark = pytest.mark.usefixtures("one_thread")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_whatever_the_fields_hold_a_message_is_parsed_or_refused_by_name(name: str, data: st.DataObject) -> None:
    known = [one.name for one in fields(MESSAGES[name])]
    values = data.draw(st.dictionaries(st.sampled_from([*known, "other"]), VALUES))
    try:
        message = parse(json.dumps({**values, "type": name}))
    except ProtocolError as error:
        assert str(error) and len(str(error)) < 400
        return
    assert type(message) is MESSAGES[name]
    assert parse(pack(message)) == message


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_message_or_a_protocol_error(words: str) -> None:
    with contextlib.suppress(ProtocolError):
        parse(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "not JSON"),
        ("[" * 60_000, "not JSON"),
        ("[]", "object"),
        ("{}", "one of"),
        ('{"type": "dance"}', "one of"),
        ('{"type": ["open"]}', "one of"),
        ('{"type": "open", "seed": NaN}', "NaN"),
        ('{"type": "open", "seed": 1.5}', "integer"),
        ('{"type": "open", "seed": true}', "integer"),
        ('{"type": "open", "seed": -1}', "integer"),
        ('{"type": "open", "stream": 8}', "0 to 7"),
        ('{"type": "open", "image": "/etc/passwd"}', "no field 'image'"),
        ('{"type": "prompt"}', "lacks text"),
        ('{"type": "prompt", "text": "\\ud800"}', "text"),
        ('{"type": "control", "forward": 2}', "-1 to 1"),
        ('{"type": "control", "motion": [[1, 2], [3]]}', "regular"),
        ('{"type": "control", "motion": ' + "[" * 30_000 + "]" * 30_000 + "}", "JSON|nested|array"),
        ("x" * (protocol.TEXT_LIMIT + 1), "at most"),
    ],
)
def test_what_is_no_message_is_refused_with_a_reason(words: str, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        parse(words)


@given(st.binary(max_size=40))
def test_a_binary_frame_is_unpacked_or_refused(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert Packet.unpack(data).pack() == data


def test_a_binary_frame_is_what_the_page_of_the_protocol_says() -> None:
    packet = Packet(Kind.H264, 3, 2, -1, 70_000, 416, 736, b"abc")
    data = packet.pack()
    assert data[:4] == bytes([1, 3, 3, 2]) and data[16:] == b"abc" and HEADER.size == 16
    assert int.from_bytes(data[4:8], "little", signed=True) == -1
    assert int.from_bytes(data[8:12], "little") == 70_000
    assert Packet.unpack(data) == packet


def test_the_page_of_the_protocol_names_every_message() -> None:
    page = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()
    for name in MESSAGES:
        assert f"`{name}`" in page or f'"{name}"' in page


GARBAGE = (
    "", "{", "null", "[1]", '{"type": 7}', '{"type": "open", "seed": -5}', '{"type": "rewind", "frames": 99999}',
    '{"type": "seen", "stream": 7, "frame": 4}', '{"type": "fork", "stream": 6, "into": 6}',
    '{"type": "control", "stream": 0, "pose": [[1, 2]]}', '{"type": "control", "motion": [[0, 0], [0, 0]]}',
    '{"type": "hello", "version": 1}', '{"type": "close", "stream": 5}', '{"type": "record", "on": false}',
)  # fmt: skip


async def misbehave(url: str, seed: int, until: float) -> None:
    """A client as bad as they come: it comes and goes, does not read, and talks nonsense."""
    dice = random.Random(seed)
    while time.monotonic() < until:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, Refused, asyncio.TimeoutError):
            async with connect(url, formats=[dice.choice(["jpeg", "h264", "raw"])]) as client:
                leave = min(until, time.monotonic() + dice.uniform(0.1, 3))
                await client.send(Open(seed=seed, prompt=f"world {seed % 100}"))
                await visit(client, dice, leave)
        await asyncio.sleep(dice.uniform(0, 0.2))


async def visit(client: Client, dice: random.Random, leave: float) -> None:
    manner = dice.choice(["reader", "reader", "slow", "deaf", "garbage", "binary", "hasty"])
    sequence = 0
    while time.monotonic() < leave:
        sequence += 1
        if manner == "hasty":
            return  # gone before the answer
        if manner == "deaf":
            await asyncio.sleep(0.3)
            continue
        if manner == "binary":
            await client.socket.send_bytes(dice.randbytes(dice.randrange(5000)))
        elif manner == "garbage":
            await client.socket.send_str(dice.choice(GARBAGE))
        else:
            await client.send(Control(sequence=sequence, forward=dice.uniform(-1, 1), turn=dice.uniform(-1, 1)))
            extra = [
                Rewind(frames=2),
                Fork(into=1),
                Prompt(text="다른"),
                Record(),
                Record(on=False),
                Open(stream=2),
            ]
            if dice.random() < 0.2:
                await client.send(dice.choice(extra))
        for _ in range(4):
            got = await client.receive(5)
            if got is None:
                return
            if isinstance(got, Packet) and got.kind < Kind.RECORDING and got.picture == 3:
                await client._confirm(got)
        await asyncio.sleep(0.4 if manner == "slow" else 0.02)


def crowd(clients: int, seconds: float) -> None:
    """Runs a crowd and checks that it leaves nothing behind."""
    dice = random.Random()
    seed = dice.randrange(1 << 30)
    print(f"seed: {seed}")

    async def run() -> None:
        with Errors() as errors:
            async with serving() as served:
                begin = time.monotonic()

                async def half(share: float) -> int:
                    until = begin + share * seconds
                    await asyncio.gather(*(misbehave(served.url, seed + i, until) for i in range(clients)))
                    return resident()

                early = await half(0.5)
                late = await half(1.0)
                await served.emptied()
                served.check_nothing_is_held()
                assert served.live.steps > 0 and served.live.failed == 0
                async with connect(served.url) as client:  # and it still serves
                    await client.send(Open())
                    await client.expect("opened")
                assert late - early < 80e6, f"memory grew from {early / 1e6:.0f} to {late / 1e6:.0f} MB"
            assert errors.messages == []

    asyncio.run(asyncio.wait_for(run(), seconds + 120))


def resident() -> int:
    """Bytes of this process in memory now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise AssertionError("no VmRSS")


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")


@needs_proc
def test_a_crowd_that_misbehaves_leaves_nothing_behind() -> None:
    crowd(clients=32, seconds=15)


@needs_proc
@pytest.mark.slow
def test_a_crowd_that_misbehaves_for_a_minute_leaves_nothing_behind() -> None:
    crowd(clients=32, seconds=60)


def test_every_garbage_message_is_answered_and_the_connection_goes_on() -> None:
    async def run() -> None:
        async with serving() as served, connect(served.url) as client:
            await client.send(Open())
            await client.expect("opened")
            refusals = 0
            for words in GARBAGE:
                await client.socket.send_str(words)
                await client.send(protocol.Ping(time=1.0))
                try:
                    await client.expect("pong")
                except Refused as refused:
                    assert refused.code in ("protocol", "refused")
                    refusals += 1
                    await client.expect("pong")
            assert refusals >= len(GARBAGE) - 2  # `seen` and a stop of no recording say nothing

    asyncio.run(asyncio.wait_for(run(), 120))
