"""One stream in the middle of a long video, made at once: random weights at real scale, and a full window."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aapt_video.codec import Codec, CodecConfig, state_bytes, to_uint8
from aapt_video.codec import named_config as named_codec
from aapt_video.inspection import USUAL
from aapt_video.model import Transformer, TransformerConfig, named_config
from aapt_video.model.conditions import Camera, Plain, Pose
from aapt_video.model.size import size
from aapt_video.stream import Generator, Limits
from aapt_video.stream.generator import preferred_dtype
from aapt_video.stream.lane import captured
from aapt_video.stream.state import StreamState

SEED = 7


@dataclass(frozen=True)
class Case:
    """What is measured; two figures can be compared where these are equal."""

    model: str
    """A named configuration."""
    config: TransformerConfig
    """That configuration, with the window asked for."""
    decoder: str
    """A named codec configuration."""
    codec: CodecConfig
    height: int
    """Of the pictures, pixels."""
    width: int
    """Of the pictures, pixels."""
    dtype: torch.dtype
    device: torch.device

    @staticmethod
    def of(
        model: str,
        picture: str | None = None,
        window: int | None = None,
        decoder: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
    ) -> Case:
        """The case that words describe; None is the model's usual value.

        Args:
            picture: "WIDTHxHEIGHT" in pixels.
            device: "cpu" or "cuda"; a GPU where there is one.

        Raises:
            ValueError: a name is unknown, or a size does not fit.
        """
        config = named_config(model)
        usual_height, usual_width, usual_decoder = USUAL[model]
        height, width = (usual_height, usual_width) if picture is None else _picture(picture)
        decoder = decoder or usual_decoder
        codec = named_codec(decoder)
        if codec.channels != config.channels:
            raise ValueError(
                f"decoder is {decoder!r}, which takes latents of {codec.channels} channels; {model} makes "
                f"{config.channels}: choose another, e.g. {usual_decoder}"
            )
        if height % (2 * codec.space) or width % (2 * codec.space):
            raise ValueError(f"size is {width}x{height}; both must be multiples of {2 * codec.space} pixels")
        window = config.window if window is None else window
        # One frame beyond the window is measured; up to the cap ours and the alternatives compute the same.
        config = replace(config, window=window, pinned_cap=max(config.pinned_cap, window + 1))
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        number: torch.dtype = getattr(torch, dtype) if dtype else preferred_dtype(where)
        return Case(model, config, decoder, codec, height, width, number, where)

    @property
    def workload(self) -> dict[str, str | int | bool]:
        """For `Record.workload`."""
        return {
            "model": self.model,
            "size": f"{self.width}x{self.height}",
            "window": self.config.window,
            "window full": True,
            "decoder": self.decoder,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
        }

    @property
    def latent(self) -> tuple[int, int]:
        """Height and width of a latent frame, in latent pixels."""
        return self.height // self.codec.space, self.width // self.codec.space

    def check_memory(self) -> None:
        """Raises ValueError where weights, those in fp8, pages and one rival's ring do not fit into what is free."""
        cost = size(self.config, *self.latent, self.dtype, self.device.type)
        weights = cost.weight_bytes * (2 if self.device.type == "cpu" else 1)  # a CPU's packed copy
        pages = cost.stream_bytes(0, state_bytes(self.codec, self.height, self.width, self.dtype))
        needed, free = weights + cost.fp8_bytes + 2 * pages, _free_bytes(self.device)
        if needed > free:
            raise ValueError(
                f"model {self.model} at {self.width}x{self.height} with window {self.config.window} needs about "
                f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on {self.device}; take a smaller model "
                "(--model world), size or window"
            )


@dataclass(frozen=True)
class CaseArguments:
    """What commands take to describe a case."""

    model: str = "aapt-8b"
    """A named configuration."""
    size: str | None = None
    """WIDTHxHEIGHT of the pictures, pixels; the model's usual size where it is not given."""
    window: int | None = None
    """Past latent frames that are seen; the model's where it is not given."""
    decoder: str | None = None
    """A codec configuration: full, light, tiny; the model's usual one where it is not given."""
    dtype: Literal["bfloat16", "float32"] | None = None
    """Of weights, keys and activations; the faster one where it is not given."""
    device: Literal["cpu", "cuda"] | None = None
    """A GPU where there is one, if it is not given."""

    def case(self) -> Case:
        """The case; raises ValueError as `Case.of` does."""
        return Case.of(self.model, self.size, self.window, self.decoder, self.dtype, self.device)


class Workload:
    """A generator of random weights, and a state of it whose next frame sees a full window.

    Args:
        case: is checked against the memory that is free.
    """

    @torch.no_grad()
    def __init__(self, case: Case) -> None:
        case.check_memory()
        self.case = case
        self.generator = random_generator(case)
        self.engine = self.generator.engine(case.height, case.width)
        self.picture = random_picture(case)
        self.embedding = random_prompt(case)
        self.condition = np.random.default_rng(SEED).standard_normal(
            (case.config.condition_channels, *case.latent), dtype=np.float32
        )
        self.number = case.config.window + 2
        """The position that is measured: the first with a full window and the pinned position outside of it."""

    def first_frame(self) -> NDArray[np.uint8]:
        """What a user waits for: a new stream, and its first pictures."""
        with self.generator.open(self.embedding, self.picture, SEED) as stream:
            return stream.step()

    @torch.no_grad()
    def full_state(self) -> StreamState:
        """A state at position `number` - 1; keys and values are random at unit scale, as after their norm."""
        engine, config, pool = self.engine, self.case.config, self.engine.pool
        state = engine.start(_unit(self.picture), SEED)
        pages = pool.allocate(config.window + 1)
        source = torch.Generator(self.case.device).manual_seed(SEED)
        shape = (2, pool.rows, pool.heads, pool.head_dim)
        for layer in range(pool.layers):
            for page in pages:
                k, v = torch.randn(shape, generator=source, dtype=pool.dtype, device=pool.device)
                pool.write(layer, page, k, v)
        prompt = None if self.embedding is None else self.generator.write_prompt(engine, self.embedding)
        return replace(state, frame=self.number - 1, first=pages[0], window=tuple(pages[1:]), prompt=prompt)


def random_transformer(config: TransformerConfig, dtype: torch.dtype, device: torch.device) -> Transformer:
    """Made on the device. Activations stay at unit scale; no part is silent, unlike at the start of training."""
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    source = torch.Generator(device).manual_seed(SEED)
    for name, parameter in model.named_parameters():
        if name.endswith("table"):
            parameter.normal_(0, 0.3, generator=source)
        elif parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=source)
        elif "norm" in name and not name.endswith("bias"):
            parameter.fill_(1)
        else:
            parameter.normal_(0, 0.02, generator=source)
    return model


def random_generator(case: Case) -> Generator:
    """Room for one stream, and for two pages more."""
    torch.manual_seed(SEED)
    with torch.device(case.device):
        codec = Codec(case.codec)
    conditions = {condition.channels: condition for condition in (Pose(), Camera(), Plain())}
    return Generator(
        random_transformer(case.config, case.dtype, case.device),
        codec,
        conditions[case.config.condition_channels],
        height=case.height,
        width=case.width,
        limits=Limits(streams=1, history=2),
        name=case.model,
    )


def random_picture(case: Case) -> NDArray[np.uint8]:
    """[H, W, 3]"""
    return np.random.default_rng(SEED).integers(0, 256, (case.height, case.width, 3), dtype=np.uint8)


def random_prompt(case: Case) -> Tensor | None:
    """The longest prompt, [S, text width], or None where the model knows no text."""
    config = case.config
    if config.text == "none":
        return None
    source = torch.Generator().manual_seed(SEED)
    return torch.randn(config.text_tokens, config.text_width, generator=source)


def decoder_call(workload: Workload) -> Callable[[Tensor], Tensor]:
    """Latent [1, C, H, W] -> pictures uint8 [1, 4, H, W, 3] on the device; on a GPU captured in a graph."""
    case, codec = workload.case, workload.generator.codec
    state = codec.open_decoder(1, case.height, case.width)
    state.started = True
    latent = torch.zeros(1, case.config.channels, *case.latent, dtype=case.dtype, device=case.device)
    run = captured(lambda: to_uint8(codec.decode_step(latent, state)), case.device)

    def decode(new: Tensor) -> Tensor:
        latent.copy_(new)
        return run()

    return decode


def _unit(picture: NDArray[np.uint8]) -> Tensor:
    """uint8 [H, W, 3] -> [3, H, W] in [-1, 1]."""
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1


def _picture(words: str) -> tuple[int, int]:
    sides = words.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() for side in sides):
        raise ValueError(f"size is {words!r}; it must be WIDTHxHEIGHT in pixels, e.g. 736x416")
    return int(sides[1]), int(sides[0])


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
