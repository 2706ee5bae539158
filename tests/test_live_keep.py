"""What survives a kill: cut off at any write, the files lead to what was shown last, bit for bit."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from live_server import FAST, tiny_world
from models import camera
from safetensors import torch as files

from aapt_video.serve import keep as keep_module
from aapt_video.serve.keep import Keep, _Nobody
from aapt_video.serve.live import Live, LiveStream
from aapt_video.stream import Generator, Stream

pytestmark = pytest.mark.usefixtures("one_thread")

KEY = "session.0"


@pytest.fixture
def world() -> Generator:
    return tiny_world()


class Player:
    """Does what the loop's thread does, without the thread."""

    def __init__(self, world: Generator, folder: Path) -> None:
        self.keep = Keep(folder)
        self.loop = Live(world, FAST, self.keep)

    def open(self) -> LiveStream:
        return self.loop.open(KEY, _Nobody(), seed=3)

    def step(self, live: LiveStream, count: int = 1) -> None:
        for _ in range(count):
            control = camera(live.stream.frame)
            live.stream.step(control, sequence=live.stream.frame)
            self.keep.step(live, control, live.stream.frame - 1)

    def end(self) -> None:
        for live in self.loop.streams.values():
            live.stream.close()
        self.keep.close()


def following(stream: Stream) -> bytes:
    """What comes next: it depends on every page of the state, on its latent, decoder and prompt."""
    with stream.fork(history=0) as branch:
        return b"".join(branch.step(camera(7)).tobytes() for _ in range(3))


def restored(world: Generator, folder: Path) -> bytes | None:
    """What comes next after a restart; None where the stream is not there."""
    player = Player(world, folder)
    try:
        player.keep.restore(player.loop)
        live = player.loop.streams.get(KEY)
        return None if live is None else following(live.stream)
    finally:
        player.end()


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Sets what is called before and after every change of the files, and in the middle of every write."""
    call: list[Callable[[], None]] = [lambda: None]

    def around(module: Any, name: str) -> None:
        original = getattr(module, name)

        def changed(*arguments: Any, **named: Any) -> Any:
            call[0]()
            result = original(*arguments, **named)
            call[0]()
            return result

        monkeypatch.setattr(module, name, changed)

    def half_written(tensors: Any, path: Path, metadata: Any) -> None:
        original_save(tensors, path, metadata)
        whole = path.read_bytes()
        for size in (0, len(whole) // 2):
            path.write_bytes(whole[:size])
            call[0]()
        path.write_bytes(whole)

    original_save = files.save_file
    monkeypatch.setattr(files, "save_file", half_written)
    for module, name in ((os, "replace"), (os, "rename"), (os, "unlink"), (os, "mkdir"), (os, "rmdir")):
        around(module, name)
    yield lambda function: call.__setitem__(0, function)


def test_a_kill_at_any_write_loses_nothing_that_was_shown(
    tmp_path: Path, world: Generator, monkeypatch: pytest.MonkeyPatch, cut: Callable[[Callable[[], None]], None]
) -> None:
    monkeypatch.setattr(keep_module, "EVERY", 0.0)  # a snapshot with every step
    folder, copies = tmp_path / "kept", []
    allowed: tuple[bytes | None, ...] = ()

    def copy() -> None:
        cut(lambda: None)
        path = tmp_path / "copies" / str(len(copies))
        shutil.copytree(folder, path)
        copies.append((path, allowed))
        cut(copy)

    def settle() -> None:
        keep = player.keep._kept.get(KEY)
        if keep is not None:
            keep.written.result()
        else:
            player.keep._writer.submit(lambda: None).result()

    player = Player(world, folder)
    with world.open(seed=3) as same:
        allowed = (None, following(same))
    cut(copy)
    live = player.open()
    settle()
    for prompt, steps, back in ((None, 3, 2), ("steel", 2, 1), ("a maze", 1, 0)):
        before = following(live.stream)
        if prompt is not None:
            with live.stream.fork(history=0) as branch:
                branch.set_prompt(prompt)
                allowed = (before, following(branch))
            player.loop.set_prompt(live, prompt)
            settle()
        for _ in range(steps):
            with live.stream.fork(history=0) as branch:
                branch.step(camera(branch.frame))
                allowed = (following(branch),)  # its journal is written before the snapshot, which alone is cut off
            player.step(live)
            settle()
        before = following(live.stream)
        with live.stream.fork() as branch:
            branch.rewind(back)
            allowed = (before, following(branch))
        player.loop.rewind(live, back)
        settle()
    allowed = (following(live.stream), None)
    player.loop.end(live)
    settle()
    cut(lambda: None)
    player.end()
    assert not os.listdir(folder)
    assert len(copies) > 100
    for path, states in copies:
        assert restored(world, path) in states, path


def test_a_snapshot_writes_new_pages_only_and_the_folder_does_not_grow(
    tmp_path: Path, world: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep_module, "EVERY", 0.0)
    player = Player(world, tmp_path)
    live = player.open()
    page = live.stream.engine.pool.bytes_per_page
    written, held = [], []
    original = files.save_file

    def save_file(tensors: dict[str, torch.Tensor], path: Path, metadata: Any) -> None:
        original(tensors, path, metadata)
        written[-1] += path.stat().st_size

    monkeypatch.setattr(files, "save_file", save_file)
    window = world.config.window
    for _ in range(3 * window):
        written.append(0)
        player.step(live)
        assert player.keep._kept[KEY].written.result()
        held.append(sum(path.stat().st_size for path in tmp_path.rglob("*.*") if path.is_file()))
    digits = 100  # bytes that longer numbers take
    assert max(written[window:]) < min(written[window:]) + digits
    assert max(held[2 * window :]) < max(held[: 2 * window]) + digits
    pages = [path for path in tmp_path.rglob("page-*")]
    assert len(pages) == window + 1  # and the pinned one
    assert written[-1] < 2 * page + max(path.stat().st_size for path in tmp_path.rglob("*.snapshot"))
    player.end()


def test_a_disk_that_hangs_stops_no_step_and_costs_none(
    tmp_path: Path, world: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep_module, "EVERY", 0.0)
    player = Player(world, tmp_path / "kept")
    live = player.open()
    assert player.keep._kept[KEY].written.result()
    hangs, goes_on = threading.Event(), threading.Event()
    original = files.save_file

    def save_file(*arguments: Any) -> None:
        hangs.set()
        assert goes_on.wait(60)
        original(*arguments)

    monkeypatch.setattr(files, "save_file", save_file)
    player.step(live, 5)
    assert hangs.wait(60) and not player.keep._kept[KEY].written.done()
    shutil.copytree(tmp_path / "kept", tmp_path / "copy")
    goes_on.set()
    expected = following(live.stream)
    player.end()
    assert restored(world, tmp_path / "copy") == expected == restored(world, tmp_path / "kept")


def test_a_stream_rests_until_a_change_that_cannot_be_replayed_is_written(
    tmp_path: Path, world: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player(world, tmp_path)
    live = player.open()
    assert live.settled is not None and live.settled.result() and live.running
    player.step(live, 2)
    goes_on = threading.Event()
    original = files.save_file

    def save_file(*arguments: Any) -> None:
        assert goes_on.wait(60)
        original(*arguments)

    monkeypatch.setattr(files, "save_file", save_file)
    player.loop.rewind(live, 1)
    assert not live.running
    goes_on.set()
    assert live.settled.result() and live.running
    player.end()


@pytest.mark.parametrize("change", ["step", "rewind"])
def test_a_full_disk_is_said_once_and_made_up_for(
    tmp_path: Path, world: Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    monkeypatch.setattr(keep_module, "EVERY", 0.0)
    player = Player(world, tmp_path / "kept")
    live = player.open()
    assert player.keep._kept[KEY].written.result()
    player.step(live, 2)
    player.keep._kept[KEY].written.result()
    original = files.save_file

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    if change == "rewind":
        player.loop.rewind(live, 1)
    for _ in range(3):
        player.step(live)
        assert not player.keep._kept[KEY].written.result()
    shutil.copytree(tmp_path / "kept", tmp_path / "copy")
    assert sum("would not survive" in record.message for record in caplog.records) == 1
    expected = following(live.stream) if change == "step" else None  # what was there led to before the rewind
    assert restored(world, tmp_path / "copy") == expected
    monkeypatch.setattr(files, "save_file", original)
    player.step(live)
    assert player.keep._kept[KEY].written.result()
    expected = following(live.stream)
    player.end()
    assert restored(world, tmp_path / "kept") == expected
