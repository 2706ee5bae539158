"""The engine's CUDA graphs: the same pass, captured once, whatever a stream goes through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from models import TINY, camera, picture, tiny_generator

from aapt_video.stream import Generator, step_together
from aapt_video.stream.program import Program

pytestmark = pytest.mark.gpu


def on_gpu(dtype: torch.dtype = torch.bfloat16) -> Generator:
    """Heads of 64, as the kernels like them."""
    generator = tiny_generator(dtype, width=128, heads=2)
    model = generator.weights.model.to("cuda")
    return Generator(
        model, generator.codec.to("cuda"), generator.condition, height=32, width=48, encoder=generator.encoder,
        limits=generator.limits,
    )  # fmt: skip


def test_a_replay_gives_the_bits_of_the_uncaptured_pass() -> None:
    generator = on_gpu()
    clips = []
    for captured in (True, False):
        with generator.open("a maze", picture(), seed=1) as stream:
            stream.step(camera(0))
            if not captured:
                stream.engine._programs[1] = Program(stream.engine, 1, capture=False)
            clips.append(np.concatenate([stream.step(camera(i)) for i in range(1, TINY.window + 6)]))
    assert np.array_equal(*clips)


def test_nothing_is_captured_after_warm_up() -> None:
    generator = on_gpu()
    with generator.open("a maze", picture(), history=12) as stream, generator.open("steel", picture(1)) as other:
        step_together([stream, other], [camera(0)] * 2)
        stream.step(camera(1))
        engine = stream.engine
        captures = engine.captures
        assert captures == 2
        for i in range(2 * TINY.window):  # the window fills, and frames are evicted
            stream.step(camera(i))
        stream.set_prompt("another")
        stream.step()
        with stream.fork() as branch:
            step_together([branch, other], [None, None])
        stream.rewind(9)
        stream.step()
        assert engine.captures == captures


def test_what_overlaps_shows_the_bits_of_what_does_not(tmp_path: Path) -> None:
    """Ahead, the decoder works beside the next pass; a snapshot and a rewind in its middle find the same state."""
    generator = on_gpu()
    steps = 3 * TINY.window
    with (
        generator.open("a maze", picture(), seed=1, history=6) as stream,
        generator.open("a maze", picture(), 1) as twin,
    ):
        alone = [twin.step(camera(i)) for i in range(steps)]
        ahead = list(stream.run((camera(i) for i in range(steps)), ahead=True))
        assert np.array_equal(np.concatenate(ahead), np.concatenate(alone))
        for _ in stream.run((camera(steps + i) for i in range(4)), ahead=True):
            break  # one latent frame is still on its way
        stream.save(tmp_path / "stream")
        more = [twin.step(camera(steps + i)) for i in range(5)]
        with generator.restore(tmp_path / "stream") as again:
            assert np.array_equal(
                np.concatenate([again.step(camera(steps + i)) for i in (2, 3)]), np.concatenate(more[2:4])
            )
        stream.rewind(4)
        again = [stream.step(camera(steps - 2 + i)) for i in range(6)]
        assert np.array_equal(np.concatenate(again), np.concatenate([*alone[-2:], *more[:4]]))


def test_the_gpu_shows_what_the_cpu_shows() -> None:
    shown = []
    for generator in (tiny_generator(torch.float32, width=128, heads=2), on_gpu(torch.float32)):
        with generator.open("a maze", picture(), seed=1) as stream:
            shown.append(np.concatenate([stream.step(camera(i)) for i in range(TINY.pinned_cap + 3)]).astype(int))
    assert np.abs(shown[0] - shown[1]).max() <= 3
