"""Streaming a codec is the same as running it over the whole clip, and the state is one value."""

import pytest
import torch
from codec_samples import CONFIGS, make_codec, make_video, split_frames
from safetensors.torch import load_file, save_file
from torch import Tensor

from aapt_video.codec import Codec, CodecState, named_config, state_bytes

BOUND = {torch.float32: 1e-5, torch.float64: 1e-10}


def decode_stream(codec: Codec, latents: Tensor, state: CodecState) -> Tensor:
    return torch.cat([codec.decode_step(latent, state) for latent in latents.unbind(2)], dim=2)


def encode_stream(codec: Codec, video: Tensor, state: CodecState) -> Tensor:
    parts = split_frames(video, codec.config.time)
    return torch.stack([codec.encode_step(frames, state) for frames in parts], dim=2)


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("latents", [1, 2, 5])
@pytest.mark.parametrize("name", CONFIGS)
def test_streaming_equals_the_whole_clip(name: str, latents: int, dtype: torch.dtype) -> None:
    codec = make_codec(CONFIGS[name], dtype)
    video = make_video(codec.config, latents, dtype=dtype)
    batch, _, _, height, width = video.shape

    encoded = codec.encode(video)
    assert encoded.shape[2] == latents
    streamed = encode_stream(codec, video, codec.open_encoder(batch, height, width))
    torch.testing.assert_close(streamed, encoded, rtol=0, atol=BOUND[dtype])

    decoded = codec.decode(encoded)
    assert decoded.shape == video.shape
    streamed = decode_stream(codec, encoded, codec.open_decoder(batch, height, width))
    torch.testing.assert_close(streamed, decoded, rtol=0, atol=BOUND[dtype])


def test_the_world_codec_streams_exactly_in_float32() -> None:
    codec = make_codec(named_config("world"), torch.float32)
    video = make_video(codec.config, latents=3, batch=1, dtype=torch.float32)
    latents = codec.encode(video)
    streamed = decode_stream(codec, latents, codec.open_decoder(1, *video.shape[3:]))
    torch.testing.assert_close(streamed, codec.decode(latents), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_past_reaches_as_far_as_the_taps_allow(name: str) -> None:
    """Equality alone would be met by a net without memory."""
    codec = make_codec(CONFIGS[name])
    latents = codec.encode(make_video(codec.config, latents=3))
    changed = latents.clone()
    changed[:, :, 1] += 1
    late = codec.decode(changed)[:, :, -codec.config.time :] - codec.decode(latents)[:, :, -codec.config.time :]
    assert bool(late.abs().max() > 1e-6) == (name != "no state")


@pytest.mark.parametrize("name", CONFIGS)
def test_the_future_changes_nothing(name: str) -> None:
    codec = make_codec(CONFIGS[name])
    time, space = codec.config.time, codec.config.space
    video = make_video(codec.config, latents=4)
    latents = codec.encode(video)
    pictures = codec.decode(latents)
    for kept in range(1, 4):
        frames = 1 + time * (kept - 1)
        other = video.clone()
        other[:, :, frames:] = -other[:, :, frames:]
        assert torch.equal(codec.encode(other)[:, :, :kept], latents[:, :, :kept])
        assert not torch.equal(codec.encode(other)[:, :, kept], latents[:, :, kept])
        redrawn = latents.clone()
        redrawn[:, :, kept:] = -redrawn[:, :, kept:]
        assert torch.equal(codec.decode(redrawn)[:, :, :frames], pictures[:, :, :frames])
        assert not torch.equal(codec.decode(redrawn)[:, :, frames:], pictures[:, :, frames:])
    assert latents.shape[3:] == (video.shape[3] // space, video.shape[4] // space)


def test_a_clone_is_a_fork_and_a_way_back() -> None:
    codec = make_codec(CONFIGS["test"])
    latents = codec.encode(make_video(codec.config, latents=6))
    other = -latents
    state = codec.open_decoder(2, 16, 24)
    decode_stream(codec, latents[:, :, :3], state)

    fork = state.clone()
    kept = fork.clone()
    ours = decode_stream(codec, latents[:, :, 3:], state)
    theirs = decode_stream(codec, other[:, :, 3:], fork)
    again = decode_stream(codec, latents[:, :, 3:], fork.copy_(kept))

    frames = 1 + codec.config.time * 2
    torch.testing.assert_close(ours, codec.decode(latents)[:, :, frames:], rtol=0, atol=1e-10)
    branch = torch.cat([latents[:, :, :3], other[:, :, 3:]], dim=2)
    torch.testing.assert_close(theirs, codec.decode(branch)[:, :, frames:], rtol=0, atol=1e-10)
    assert torch.equal(again, ours)


def test_a_clone_of_an_unused_state_starts_a_video_of_its_own() -> None:
    codec = make_codec(CONFIGS["test"])
    latents = codec.encode(make_video(codec.config, latents=3))
    fresh = codec.open_decoder(2, 16, 24)
    used = fresh.clone()
    first = decode_stream(codec, latents, used)
    assert not fresh.started
    assert torch.equal(decode_stream(codec, latents, used.copy_(fresh)), first)


def test_a_row_of_a_batch_is_a_stream_of_its_own() -> None:
    codec = make_codec(CONFIGS["stepwise"])
    latents = codec.encode(make_video(codec.config, latents=5, batch=3))
    height, width = latents.shape[3] * codec.config.space, latents.shape[4] * codec.config.space
    alone = [codec.open_decoder(1, height, width) for _ in range(3)]
    for b, state in enumerate(alone):
        decode_stream(codec, latents[b : b + 1, :, :2], state)

    together = codec.open_decoder(3, height, width)
    together.started = True
    for b, state in enumerate(alone):
        together.row(b).copy_(state)
    decode_stream(codec, latents[:, :, 2:4], together)
    for b, state in enumerate(alone):
        state.copy_(together.row(b))
        last = codec.decode_step(latents[b : b + 1, :, 4], state)
        whole = codec.decode(latents[b : b + 1])[:, :, -codec.config.time :]
        torch.testing.assert_close(last, whole, rtol=0, atol=1e-10)


def test_a_step_leaves_the_tensors_of_the_state_where_they_are() -> None:
    codec = make_codec(CONFIGS["test"])
    latents = codec.encode(make_video(codec.config, latents=3))
    state = codec.open_decoder(2, 16, 24)
    addresses = [late.data_ptr() for late in state.late]
    decode_stream(codec, latents, state)
    state.copy_(state.clone())
    assert [late.data_ptr() for late in state.late] == addresses


def test_a_step_builds_no_graph() -> None:
    codec = make_codec(CONFIGS["test"]).requires_grad_(True)
    state = codec.open_decoder(1, 16, 24)
    pictures = codec.decode_step(torch.zeros(1, codec.config.channels, 2, 3), state)
    assert not pictures.requires_grad
    assert not any(late.requires_grad for late in state.late)


def test_a_step_traces_as_one_graph() -> None:
    """So that torch.compile can have all of it."""
    codec = make_codec(CONFIGS["test"])
    state = codec.open_decoder(1, 16, 24)
    latents = codec.encode(make_video(codec.config, latents=3, batch=1))
    codec.decode_step(latents[:, :, 0], state)
    fork = state.clone()
    traced = torch.compile(codec.decode_step, backend="eager", fullgraph=True)
    for latent in latents[:, :, 1:].unbind(2):
        assert torch.equal(traced(latent, state), codec.decode_step(latent, fork))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_state_bytes_are_known_before_allocation(name: str, dtype: torch.dtype) -> None:
    config = CONFIGS[name]
    height, width = 2 * config.space, 3 * config.space
    state = Codec(config).to(dtype).open_decoder(3, height, width)
    held = sum(late.untyped_storage().nbytes() for late in state.late)
    assert state_bytes(config, height, width, dtype, batch=3) == state.bytes == held


def test_a_state_survives_a_file(tmp_path: object) -> None:
    codec = make_codec(CONFIGS["test"])
    latents = codec.encode(make_video(codec.config, latents=5))
    state = codec.open_decoder(2, 16, 24)
    decode_stream(codec, latents[:, :, :2], state)
    path = f"{tmp_path}/state.safetensors"
    save_file({**state.tensors("decoder."), "something else": torch.zeros(1)}, path)
    restored = CodecState.from_tensors(load_file(path), "decoder.")
    assert restored.started and restored.shape == (2, 16, 24)
    rest = latents[:, :, 2:]
    assert torch.equal(decode_stream(codec, rest, restored), decode_stream(codec, rest, state))


def test_a_state_moves_between_dtypes() -> None:
    codec = make_codec(CONFIGS["test"], torch.float32)
    latents = codec.encode(make_video(codec.config, latents=3, dtype=torch.float32))
    state = codec.open_decoder(2, 16, 24)
    decode_stream(codec, latents[:, :, :2], state)
    moved = state.to(dtype=torch.float64)
    wide = make_codec(CONFIGS["test"], torch.float64).decode_step(latents[:, :, 2].double(), moved)
    assert moved.bytes == 2 * state.bytes
    assert wide.dtype == torch.float64 and wide.isfinite().all()


def test_no_two_frames_of_a_long_stream_are_a_surprise() -> None:
    """The state holds sums that are used once: nothing accumulates over hundreds of steps."""
    codec = make_codec(CONFIGS["test"], torch.float32)
    latent = torch.ones(1, codec.config.channels, 2, 3)
    state = codec.open_decoder(1, 16, 24)
    for _ in range(20):
        settled = codec.decode_step(latent, state)
    for _ in range(200):
        pictures = codec.decode_step(latent, state)
    assert torch.equal(pictures, settled)
