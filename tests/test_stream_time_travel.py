"""Fork, rewind, save and restore: whatever a stream went through, it shows what a straight run would have shown."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import TINY, camera, picture, tiny_generator

from aapt_video.stream import Generator, load, save_generator

pytestmark = pytest.mark.usefixtures("one_thread")

HISTORY = 9
PROMPTS = ("a maze", "steel")


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator()


@dataclass(frozen=True)
class Past:
    """What should matter: the prompt in force at each position."""

    prompts: tuple[str, ...] = ()
    now: str = PROMPTS[0]


def replayed(generator: Generator, past: Past) -> np.ndarray:
    """The last pictures of a straight run."""
    with generator.open(PROMPTS[0], picture(), seed=3) as stream:
        for i, prompt in enumerate(past.prompts):
            if prompt != stream.prompt:
                stream.set_prompt(prompt)
            frames = stream.step(camera(i))
    return frames


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("step"), st.integers(1, 7)),
            st.tuples(st.just("rewind"), st.integers(0, HISTORY)),
            st.tuples(st.just("prompt"), st.integers(0, 1)),
            st.tuples(st.sampled_from(["fork", "restore"]), st.just(0)),
        ),
        min_size=3,
        max_size=12,
    )
)
def test_any_course_of_events_shows_what_a_straight_run_shows(
    generator: Generator, tmp_path: Path, request: pytest.FixtureRequest, actions: list[tuple[str, int]]
) -> None:
    stream, past = generator.open(PROMPTS[0], picture(), seed=3, history=HISTORY), Past()
    request.addfinalizer(lambda: stream.close())
    pasts = {0: past}
    for action, value in actions:
        if action == "step":
            for _ in range(value):
                frames = stream.step(camera(stream.frame))
                past = replace(past, prompts=(*past.prompts, past.now))
                pasts[stream.frame] = past
            assert np.array_equal(frames, replayed(generator, past))
        elif action == "rewind":
            frames_back = min(value, stream.rewindable)
            stream.rewind(frames_back)
            past = pasts[stream.frame] if frames_back else past
            assert stream.prompt == past.now
        elif action == "prompt":
            past = pasts[stream.frame] = replace(past, now=PROMPTS[value])
            stream.set_prompt(past.now)
        elif action == "fork":
            other, stream = stream, stream.fork()
            other.step()  # what it does now is its own affair
            other.close()
        else:
            stream.save(tmp_path / "snapshot")
            stream.close()
            stream = generator.restore(tmp_path / "snapshot", history=HISTORY)
    frames = stream.step(camera(stream.frame))
    assert np.array_equal(frames, replayed(generator, replace(past, prompts=(*past.prompts, past.now))))
    stream.close()
    engine = stream.engine
    assert engine.pool.pages_free == engine.pool.pages and engine.text_pool.pages_free == engine.text_pool.pages
    assert engine.captures == 1  # fork, rewind, another prompt, another stream: the same pass


def test_a_rewind_beyond_the_history_tells_how_far_it_reaches(generator: Generator) -> None:
    with generator.open("a", picture(), history=HISTORY) as stream:
        for i in range(4):
            stream.step(camera(i))
        with pytest.raises(ValueError, match="0 to 4 latent frames"):
            stream.rewind(5)
        for i in range(3 * HISTORY):
            stream.step(camera(i))
        assert stream.rewindable == HISTORY
        with pytest.raises(ValueError, match=f"0 to {HISTORY} latent frames"):
            stream.rewind(HISTORY + 1)
        assert stream.frame == 4 + 3 * HISTORY
        stream.rewind(HISTORY)
        assert stream.rewindable == 0


def test_a_history_holds_no_more_pages_than_it_has_reserved(generator: Generator) -> None:
    with generator.open("a", picture(), history=HISTORY) as stream:
        pool = stream.engine.pool
        for i in range(4 * HISTORY):
            stream.step(camera(i))
            assert pool.pages - pool.pages_free <= TINY.window + 1 + HISTORY


def test_a_fork_shares_every_page_and_outlives_its_origin(generator: Generator) -> None:
    with generator.open("a", picture(), history=HISTORY) as stream:
        for i in range(8):
            stream.step(camera(i))
        free = stream.engine.pool.pages_free
        branch, twin = stream.fork(), stream.fork(history=0)
        assert stream.engine.pool.pages_free == free
        shown = [stream.step(camera(8 + i)) for i in range(6)]
    for i in range(6):
        assert np.array_equal(branch.step(camera(8 + i)), shown[i])
        assert np.array_equal(twin.step(camera(8 + i)), shown[i])
    branch.rewind(HISTORY)  # the fork has its origin's past
    assert branch.frame == 14 - HISTORY
    branch.close()
    twin.close()
    branch.close()
    assert stream.engine.pool.pages_free == stream.engine.pool.pages


CONTINUE = """
import sys
import numpy as np, torch
torch.set_num_threads(1)
sys.path.insert(0, "tests")
from models import camera
from aapt_video import load
with load(sys.argv[1], device="cpu", dtype=getattr(torch, sys.argv[3])).restore(sys.argv[2]) as stream:
    np.save(sys.argv[2] + ".npy", np.concatenate([stream.step(camera(i)) for i in range(5)]))
    assert (stream.prompt, stream.frame) == ("steel", 16)
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_another_process_continues_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    save_generator(tiny_generator(getattr(torch, dtype)), tmp_path / "tiny")
    generator = load(tmp_path / "tiny", device="cpu", dtype=getattr(torch, dtype))
    snapshot = tmp_path / "game.snapshot"
    with generator.open("a maze", picture(), seed=2**63) as stream:
        for i in range(11):
            stream.step(camera(i))
        stream.set_prompt("steel")
        stream.save(snapshot)
        expected = np.concatenate([stream.step(camera(i)) for i in range(5)])
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", CONTINUE, str(tmp_path / "tiny"), str(snapshot), dtype]
    subprocess.run(command, check=True, cwd=root, timeout=120)
    assert np.array_equal(np.load(f"{snapshot}.npy"), expected)


def test_a_snapshot_of_another_model_is_refused(tmp_path: Path, generator: Generator) -> None:
    with generator.open("a", picture()) as stream:
        stream.step()
        stream.save(tmp_path / "snapshot")
    with pytest.raises(ValueError, match="another model"):
        tiny_generator(seed=1).restore(tmp_path / "snapshot")
