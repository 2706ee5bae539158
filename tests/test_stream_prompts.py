"""Equal prompts are one page, and nobody can tell by the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from models import camera, picture, tiny_generator

from aapt_ext import CapacityError
from aapt_video.stream import Generator, Stream, step_together
from aapt_video.stream.generator import PROMPTS_PER_STREAM

pytestmark = pytest.mark.usefixtures("one_thread")


def held(generator: Generator) -> int:
    """Text pages in use."""
    pool = generator.engine(generator.height, generator.width).text_pool
    return pool.pages - pool.pages_free


def open_stream(generator: Generator, prompt: str | torch.Tensor, seed: int = 0, history: int = 0) -> Stream:
    return generator.open(prompt, picture(seed), seed=seed, history=history)


def test_streams_of_one_prompt_show_what_each_would_show_alone() -> None:
    prompts = ("a maze", "steel", "a maze", "steel", "a maze")
    generator = tiny_generator()
    opened = [open_stream(generator, prompt, seed) for seed, prompt in enumerate(prompts)]
    assert held(generator) == 2
    together = [step_together(opened, [camera(i)] * len(opened), exact=True) for i in range(6)]
    for seed, prompt in enumerate(prompts):
        with open_stream(tiny_generator(), prompt, seed) as alone:
            for i, shown in enumerate(together):
                assert np.array_equal(shown[seed], alone.step(camera(i)))


def test_a_page_is_free_when_the_last_stream_has_let_it_go() -> None:
    generator = tiny_generator()
    first, second = open_stream(generator, "a"), open_stream(generator, "a")
    branch = second.fork()
    for stream in (first, second):
        stream.close()
        assert held(generator) == 1
    branch.set_prompt("b")
    assert held(generator) == 1
    branch.close()
    assert held(generator) == 0


def test_a_page_that_was_free_in_between_is_another_prompt() -> None:
    generator = tiny_generator()
    open_stream(generator, "a").close()
    with open_stream(generator, "b") as other:
        page = other.state.prompt.page
        with open_stream(generator, "a") as stream:
            assert stream.state.prompt.page != page
            stream.step()
    with open_stream(generator, "b") as other, open_stream(generator, "a") as stream:
        assert held(generator) == 2


def test_a_prompt_that_a_history_holds_is_shared_too() -> None:
    generator = tiny_generator()
    with open_stream(generator, "a", history=4) as stream:
        page = stream.state.prompt.page
        stream.step()
        stream.set_prompt("b")
        stream.step()
        stream.set_prompt("a")
        assert stream.state.prompt.page == page and held(generator) == 2
        stream.step()
        stream.rewind(2)
        assert stream.prompt == "b" and held(generator) == 2
    assert held(generator) == 0


def test_words_are_encoded_once_while_a_stream_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = tiny_generator()
    encoded: list[str] = []
    encode = generator.encoder.encode
    monkeypatch.setattr(generator.encoder, "encode", lambda words: (encoded.append(words), encode(words))[1])
    with open_stream(generator, "a"), open_stream(generator, "a"), open_stream(generator, "b"):
        assert encoded == ["a", "b"]
    with open_stream(generator, "a"):
        assert encoded == ["a", "b", "a"]


def test_embeddings_are_equal_where_their_bits_are() -> None:
    generator = tiny_generator()
    embedding = generator.encoder.encode("a")
    with open_stream(generator, embedding) as stream, open_stream(generator, embedding.clone()) as same:
        assert stream.state.prompt == same.state.prompt and held(generator) == 1
        with open_stream(generator, embedding + 1e-6), open_stream(generator, "a") as words:
            assert held(generator) == 3 and words.prompt == "a" and stream.prompt is None


def test_restored_streams_share_among_themselves(tmp_path: Path) -> None:
    generator = tiny_generator()
    with open_stream(generator, "a") as stream:
        stream.step(camera(0))
        stream.save(tmp_path / "snapshot")
        expected = stream.step(camera(1)).copy()
    with generator.restore(tmp_path / "snapshot") as one, generator.restore(tmp_path / "snapshot") as two:
        assert held(generator) == 1
        assert np.array_equal(one.step(camera(1)), expected) and np.array_equal(two.step(camera(1)), expected)
    assert held(generator) == 0


def test_sharing_never_takes_a_page_more_and_a_full_pool_still_shares() -> None:
    generator = tiny_generator()
    with open_stream(generator, "0", history=50) as stream:
        pool = stream.engine.text_pool
        assert pool.pages == PROMPTS_PER_STREAM * generator.limits.streams
        for i in range(1, pool.pages):
            stream.step()
            stream.set_prompt(str(i))
        assert pool.pages_free == 0
        with open_stream(generator, "7"), pytest.raises(CapacityError):
            open_stream(generator, "another")
        stream.set_prompt("0")
    assert held(generator) == 0 and stream.engine._reserved == 0
