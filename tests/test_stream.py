"""What a stream promises: pure noise, frame 0, controls, prompts, and that a failed step changes nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from models import TINY, camera, picture, tiny_generator

from aapt_ext import CapacityError
from aapt_video.codec import from_uint8, to_uint8
from aapt_video.stream import Frames, Limits, Stream, step_together
from aapt_video.stream.noise import NoiseAhead, gaussian
from aapt_video.stream.program import Program

pytestmark = pytest.mark.usefixtures("one_thread")


def watch(stream: Stream, steps: int, start: int = 0) -> np.ndarray:
    return np.concatenate([stream.step(camera(start + i)) for i in range(steps)])


def test_noise_depends_on_seed_and_frame_alone_and_is_normal() -> None:
    a = gaussian(7, 3, (4, 64, 64))
    assert np.array_equal(a, gaussian(7, 3, (4, 64, 64)))
    assert not np.array_equal(a, gaussian(7, 4, (4, 64, 64)))
    assert not np.array_equal(a, gaussian(8, 3, (4, 64, 64)))
    assert abs(a.mean()) < 0.03 and abs(a.std() - 1) < 0.03 and abs((a**3).mean()) < 0.1
    assert abs(np.corrcoef(a.ravel(), gaussian(7, 4, (4, 64, 64)).ravel())[0, 1]) < 0.03


def test_noise_that_was_drawn_ahead_is_the_noise_that_is_asked_for() -> None:
    ahead, shape = NoiseAhead((4, 6, 8)), (4, 6, 8)
    ahead.draw([(7, 3), (8, 1)])
    drawn = [ahead.take(7, 3), ahead.take(7, 4), ahead.take(8, 1)]
    for noise, (seed, frame) in zip(drawn, [(7, 3), (7, 4), (8, 1)], strict=True):
        assert np.array_equal(noise, gaussian(seed, frame, shape))
    generator = tiny_generator()
    with generator.open("a", picture(), seed=3) as stream:
        watch(stream, 2)
        assert set(stream.engine.noise._drawn) == {(3, 3)}, "the next step of this stream will ask for it"


def test_noise_of_one_stream_waits_while_others_draw_theirs_and_the_oldest_goes_first(monkeypatch) -> None:
    ahead = NoiseAhead((4, 6, 8), keep=2)
    ahead.draw([(1, 5)])
    ahead.draw([(2, 5)])
    monkeypatch.setattr("aapt_video.stream.noise.gaussian", lambda *_: pytest.fail("drawn a second time"))
    ahead.draw([(1, 5)])
    assert np.array_equal(ahead.take(1, 5), gaussian(1, 5, (4, 6, 8)))
    monkeypatch.undo()
    ahead.draw([(3, 5), (4, 5)])
    assert list(ahead._drawn) == [(3, 5), (4, 5)]


def test_a_program_passes_once_before_its_first_step(monkeypatch) -> None:
    with tiny_generator().open("a", picture()) as stream:
        codec, passes = stream.engine.codec, []
        decode = codec.decode_step
        monkeypatch.setattr(codec, "decode_step", lambda *given: passes.append(1) or decode(*given))
        Program(stream.engine, 2)
    assert len(passes) == 1


def philox(key: int, counter: list[int]) -> list[int]:
    """Philox 4x64-10 (Salmon et al., 2011) in plain integers."""
    word, low = (1 << 64) - 1, key & ((1 << 64) - 1)
    high, (a, b, c, d) = key >> 64, counter
    for _ in range(10):
        x, y = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
        a, b, c, d = (y >> 64) ^ b ^ low, y & word, (x >> 64) ^ d ^ high, x & word
        low, high = (low + 0x9E3779B97F4A7C15) & word, (high + 0xBB67AE8584CAA73B) & word
    return [a, b, c, d]


def test_noise_is_box_muller_over_philox() -> None:
    """The numbers themselves: snapshots and published clips rest on them."""
    seed, frame = 2**64 - 1, 10**6
    uniform = [((word >> 11) + 0.5) * 2.0**-53 for word in philox(seed, [1, frame, 0, 0])]
    radius = [math.sqrt(-2 * math.log(u)) for u in uniform[:2]]
    turn = [2 * math.pi * u for u in uniform[2:]]
    expected = [r * f(t) for f in (math.cos, math.sin) for r, t in zip(radius, turn, strict=True)]
    assert np.allclose(gaussian(seed, frame, (2, 1, 2)).ravel(), expected, rtol=1e-6)


def test_a_stream_computes_what_the_model_defines() -> None:
    """Noise, frame 0, control, recycling and window together, against the parallel forward in float64."""
    generator = tiny_generator(torch.float64)
    model, engine = generator.weights.model, generator.engine(generator.height, generator.width)
    steps = TINY.pinned_cap + 4
    with generator.open("a maze", picture(), seed=5) as stream:
        latents, shown = [stream.state.latent], []
        for i in range(steps):
            shown.append(stream.step(camera(i)))
            latents.append(stream.state.latent)
    first = generator.codec.encode(from_uint8(torch.from_numpy(picture())[None])[None].double())[0, :, 0]
    assert torch.equal(latents[0], first)

    noise = torch.stack([torch.from_numpy(gaussian(5, k, engine.latent_shape)) for k in range(1, steps + 1)])
    controls = np.stack([generator.condition.split(camera(i)) for i in range(steps)])
    condition = torch.from_numpy(generator.condition.pack(controls, *engine.latent_shape[1:]))
    embedding = generator.encoder.encode("a maze")[None].double()
    text = model.encode_text(embedding, [embedding.shape[1]])
    inputs = [x.double()[None] for x in (noise, torch.stack(latents[:-1]), condition)]
    expected = inputs[0] - model(inputs[0], inputs[1], 1.0, inputs[2], text)
    assert (torch.stack(latents[1:]) - expected[0]).abs().max() < 1e-10

    whole = to_uint8(generator.codec.decode(torch.stack(latents, 1)[None]))[0].numpy()
    assert len(whole) == 1 + 4 * steps
    assert np.abs(np.concatenate(shown).astype(int) - whole[1:]).max() <= 1  # one level: rounding of 1e-5


def test_seed_and_controls_decide_every_bit() -> None:
    generator = tiny_generator()
    clips = []
    for seed in (1, 1, 2):
        with generator.open("a", picture(), seed=seed) as stream:
            clips.append(watch(stream, 8))
    assert np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])
    with generator.open("a", picture(), seed=1) as stream:
        assert not np.array_equal(clips[0], watch(stream, 8, start=1))


def test_frames_are_arrays_that_know_their_place_and_their_control() -> None:
    with tiny_generator().open("a", picture()) as stream:
        frames = stream.step(camera(0), sequence=77)
        assert isinstance(frames, Frames) and isinstance(frames, np.ndarray)
        assert frames.shape == (4, 32, 48, 3) and frames.dtype == np.uint8
        assert (frames.latent_frame, frames.control) == (1, 77)
        assert stream.step().control == 2 and stream.state.control == 2


def test_one_control_for_the_step_is_split_evenly() -> None:
    generator = tiny_generator()
    quarter = generator.condition.split(camera(3))
    assert np.allclose(quarter[3] @ quarter[2] @ quarter[1] @ quarter[0], camera(3))
    shown = []
    for control in (camera(3), quarter):
        with generator.open("a", picture()) as stream:
            shown.append(stream.step(control))
    assert np.array_equal(*shown)


# -- ahead: the next latent frame begins before the pictures of the one before are there --


def test_a_run_ahead_shows_what_steps_show_and_takes_each_control_before_it_shows_the_frame_before() -> None:
    generator = tiny_generator()
    taken = []

    def controls():
        for i in range(7):
            taken.append(i)
            yield camera(i)

    with generator.open("a", picture(), history=8) as stream, generator.open("a", picture()) as twin:
        shown = []
        for frames in stream.run(controls(), ahead=True):
            shown.append(frames)
            assert frames.latent_frame == len(shown) and len(taken) == min(7, len(shown) + 1)
        assert np.array_equal(np.concatenate(shown), watch(twin, 7))
        stream.rewind(3)
        assert np.array_equal(watch(stream, 3, start=4), np.concatenate(shown[4:]))


def test_a_run_ahead_shows_what_it_made_before_it_fails() -> None:
    generator = tiny_generator()
    with generator.open("a", picture()) as stream, generator.open("a", picture()) as twin:
        run = stream.run([camera(0), camera(1), np.zeros(3), camera(3)], ahead=True)
        shown = [next(run), next(run)]
        with pytest.raises(ValueError, match="control"):
            next(run)
        assert np.array_equal(np.concatenate(shown), watch(twin, 2)) and stream.frame == 2


def test_a_run_ahead_that_is_left_early_has_gone_one_frame_further_and_the_stream_goes_on_from_there() -> None:
    generator = tiny_generator()
    with generator.open("a", picture()) as stream, generator.open("a", picture()) as twin:
        for frames in stream.run((camera(i) for i in range(9)), ahead=True):
            if frames.latent_frame == 2:
                break
        assert stream.frame == 3
        assert np.array_equal(watch(stream, 3, start=3), watch(twin, 6)[12:])


def test_pictures_may_be_fetched_late_and_in_any_order() -> None:
    """The buffers of a pass are used again only when its pictures are on the host."""
    generator = tiny_generator()
    with generator.open("a", picture()) as stream, generator.open("a", picture()) as twin:
        engine, state, coming = stream.engine, stream.state, []
        for i in range(5):
            condition = generator.condition.pack(generator.condition.split(camera(i)), *engine.latent_shape[1:])
            (stepped,) = engine.step([state], [condition], [i])
            state = stepped.state
            coming.append(stepped.pictures)
        shown = [fetch() for fetch in reversed(coming)][::-1]
        assert np.array_equal(np.concatenate(shown), watch(twin, 5))


@pytest.mark.parametrize("control", [np.zeros(3), np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(4)[None]])
def test_a_bad_control_raises_before_the_step_and_changes_nothing(control: np.ndarray) -> None:
    generator = tiny_generator()
    with generator.open("a", picture()) as stream, generator.open("a", picture()) as twin:
        watch(stream, 2), watch(twin, 2)
        before = stream.state
        with pytest.raises(ValueError, match="control"):
            stream.step(control)
        assert stream.state is before
        assert np.array_equal(watch(stream, 3), watch(twin, 3))


@pytest.mark.parametrize("part", ["transformer", "decoder"])
def test_a_step_that_fails_halfway_changes_nothing(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = tiny_generator()
    with generator.open("a", picture(), history=4) as stream, generator.open("a", picture()) as twin:
        watch(stream, 6), watch(twin, 6)
        before, free = stream.state, stream.engine.pool.pages_free
        place = stream.engine.program(1).forward if part == "transformer" else generator.codec
        name = "run" if part == "transformer" else "decode_step"
        run = getattr(place, name)

        def fail(*arguments: object) -> None:
            run(*arguments)
            raise RuntimeError("power cut")

        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            with pytest.raises(RuntimeError, match="power cut"):
                stream.step(camera(6))
        assert stream.state is before and stream.engine.pool.pages_free == free
        assert np.array_equal(watch(stream, 6), watch(twin, 6))


def test_a_prompt_takes_effect_with_the_next_frame_and_a_bad_one_changes_nothing() -> None:
    generator = tiny_generator()
    with generator.open("a maze", picture()) as stream, generator.open("a maze", picture()) as twin:
        assert np.array_equal(watch(stream, 3), watch(twin, 3))
        before = stream.state
        for bad in ("a prompt that is too long", torch.zeros(3, 5), torch.zeros(3)):
            with pytest.raises(ValueError, match=r"prompt|embedding"):
                stream.set_prompt(bad)
        assert stream.state is before
        stream.set_prompt("steel")
        assert stream.prompt == "steel"
        assert not np.array_equal(stream.step(), twin.step())
        stream.set_prompt(generator.encoder.encode("a maze"))
        assert stream.prompt is None
    assert stream.engine.text_pool.pages_free == stream.engine.text_pool.pages


def test_the_image_is_cropped_and_not_shown_and_must_be_there() -> None:
    generator = tiny_generator()
    wide = np.concatenate((picture(1, 32, 20), picture(), picture(2, 32, 20)), 1)
    with generator.open("a", picture()) as one, generator.open("a", wide) as other:
        assert one.frame == 0
        assert torch.equal(one.state.latent, other.state.latent)
    with pytest.raises(ValueError, match="gallery"):
        generator.open("a")


def test_what_a_model_does_not_know_raises() -> None:
    plain = tiny_generator(text="none", condition_channels=0)
    with pytest.raises(ValueError, match="knows no text"):
        plain.open("a maze", picture())
    with plain.open(image=picture()) as stream:
        with pytest.raises(ValueError, match="knows no text"):
            stream.set_prompt("a maze")
        with pytest.raises(ValueError, match="takes none"):
            stream.step(camera(0))
        stream.step()
        with pytest.raises(ValueError, match="0 to 0"):
            stream.rewind(1)
    with pytest.raises(ValueError, match="closed"):
        stream.step()
    with pytest.raises(ValueError, match="seed"):
        plain.open(image=picture(), seed=-1)
    with pytest.raises(ValueError, match="multiple of 16"):
        plain.open(image=picture(), height=40)


def test_streams_of_any_age_step_together() -> None:
    generator = tiny_generator()
    alone, together = [], []
    for exact in (True, False):
        opened = [generator.open(f"prompt {i}", picture(i), seed=i) for i in range(3)]
        for i, stream in enumerate(opened):
            watch(stream, 1 + 2 * i)
        together.append([step_together(opened, [camera(k)] * 3, exact=exact) for k in range(6)])
        for stream in opened:
            stream.close()
    for i in range(3):
        with generator.open(f"prompt {i}", picture(i), seed=i) as stream:
            watch(stream, 1 + 2 * i)
            alone.append([stream.step(camera(k)) for k in range(6)])
    for k in range(6):
        for i in range(3):
            assert np.array_equal(together[0][k][i], alone[i][k])
            assert np.abs(together[1][k][i].astype(int) - alone[i][k]).max() <= 2
    with generator.open("a", picture()) as stream, pytest.raises(ValueError, match="different"):
        step_together([stream, stream], [None, None])


def test_memory_is_counted_before_it_is_needed() -> None:
    generator = tiny_generator()
    generator.limits = Limits(streams=2, history=10)
    with generator.open("a", picture(), history=10) as stream:
        with pytest.raises(CapacityError, match="history"):
            generator.open("a", picture(), history=8)
        twin = stream.fork(history=0)
        with pytest.raises(CapacityError):
            stream.fork()
        twin.close()
        watch(stream, 30)
    assert stream.engine.pool.pages_free == stream.engine.pool.pages
    with generator.open("a", picture(), history=16):
        pass


@pytest.mark.slow
def test_ten_thousand_steps_take_no_more_memory_or_time_than_the_first_hundred() -> None:
    generator = tiny_generator()
    with generator.open("a", picture(), history=3) as stream:
        control = stream.generator.condition.split(None)
        watch(stream, 100)
        free, captures = stream.engine.pool.pages_free, stream.engine.captures
        for _ in range(9_900):
            frames = stream.step(control)
            assert stream.engine.pool.pages_free == free
        assert stream.engine.captures == captures == 1
        assert stream.frame == 10_000 and frames.latent_frame == 10_000
        assert len(stream.state.window) == TINY.window and stream.rewindable == 3
        assert torch.isfinite(stream.state.latent).all()
