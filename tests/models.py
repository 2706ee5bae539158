"""Small transformers with weights that leave no part silent, clips for them, and a stream over pages without policy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aapt_ext import PagePool
from aapt_video.codec import Codec, CodecConfig, NetConfig
from aapt_video.model import (
    CachedTransformer,
    FramePlan,
    Linears,
    TextKeys,
    Transformer,
    TransformerConfig,
    named_config,
)
from aapt_video.model.conditions import Camera
from aapt_video.model.text import ByteEncoder
from aapt_video.stream import Generator, Limits

HEIGHT, WIDTH = 4, 6  # latent pixels: 6 tokens, which fill no tile
TINY = named_config("tiny")
CONFIGS: dict[str, TransformerConfig] = {
    "joint, cap": TINY,
    "joint, keep": replace(TINY, pinned="keep"),
    "joint, norm over all heads": replace(TINY, qk_norm="all"),
    "cross, Wan": replace(TINY, text="cross", qk_norm="all", condition_channels=0),
    "cross, keep": replace(TINY, text="cross", pinned="keep"),
    "no text, odd sizes": replace(TINY, text="none", width=30, heads=3, mlp=50, window=3, pinned_cap=3, blocks=3),
    "stretched grid": replace(TINY, rope_grid=(8, 8), rope_interval=0.5),
}


def random_model(config: TransformerConfig, seed: int = 0, dtype: torch.dtype = torch.float64) -> Transformer:
    """Every weight is random, also those that training starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Transformer(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64).mul(0.2).to(dtype))
    return model


@dataclass
class Clip:
    """Inputs of T positions of B streams."""

    noise: Tensor
    previous: Tensor
    condition: Tensor | None
    embeddings: list[Tensor]
    """Two prompts per stream, [B, S, text width] each; empty where there is no text."""
    lengths: list[list[int]]

    @staticmethod
    def random(config: TransformerConfig, batch: int, frames: int, dtype: torch.dtype = torch.float64) -> Clip:
        generator = torch.Generator().manual_seed(1)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        shape = (batch, frames, config.channels, HEIGHT, WIDTH)
        channels = config.condition_channels
        condition = normal(batch, frames, channels, HEIGHT, WIDTH) if channels else None
        has_text = config.text != "none"
        embeddings = [normal(batch, size, config.text_width) for size in (5, 9)] if has_text else []
        lengths = [[5 - b for b in range(batch)], [9 - 2 * b for b in range(batch)]] if has_text else []
        return Clip(normal(*shape), normal(*shape), condition, embeddings, lengths)

    def to(self, device: str, dtype: torch.dtype) -> Clip:
        condition = None if self.condition is None else self.condition.to(device, dtype)
        embeddings = [embedding.to(device, dtype) for embedding in self.embeddings]
        return Clip(self.noise.to(device, dtype), self.previous.to(device, dtype), condition, embeddings, self.lengths)

    def texts(self, model: Transformer) -> list[TextKeys]:
        return [
            model.encode_text(embedding, lengths)
            for embedding, lengths in zip(self.embeddings, self.lengths, strict=True)
        ]

    def frame(self, i: int, streams: slice = slice(None)) -> tuple[Tensor, Tensor | None, Tensor]:
        condition = None if self.condition is None else self.condition[streams, i].contiguous()
        return self.noise[streams, i].contiguous(), condition, self.previous[streams, i].contiguous()


class PagedStreams:
    """B streams over pages that never give a page back, so that every past can be returned to."""

    def __init__(self, model: Transformer, clip: Clip, pages: int = 200, linears: Linears | None = None) -> None:
        config = model.config
        self.config, self.clip, self.batch = config, clip, len(clip.noise)
        weights = CachedTransformer(model, linears=linears)
        self.pool: PagePool = weights.page_pool(pages, config.tokens(HEIGHT, WIDTH))
        self.text_pool = weights.text_pool(2 * self.batch) if config.text != "none" else None
        self.text_pages: list[list[int]] = []
        for embedding, lengths in zip(clip.embeddings, clip.lengths, strict=True):
            assert self.text_pool is not None
            self.text_pages.append(self.text_pool.allocate(self.batch))
            for b, page in enumerate(self.text_pages[-1]):
                weights.write_text(embedding[b, : lengths[b]], self.text_pool, page)
        self.forward = weights.open(self.batch, HEIGHT, WIDTH, self.pool, self.text_pool)
        self.own: list[list[int]] = [[] for _ in range(self.batch)]

    def plan(self, b: int, prompt: int = 0) -> FramePlan:
        number = len(self.own[b]) + 1
        page = self.pool.allocate()[0]
        pinned = self.own[b][0] if number - 1 > self.config.window else None
        text: dict[str, Any] = {}
        if self.text_pages:
            text = {"text": self.text_pages[prompt][b], "text_tokens": self.clip.lengths[prompt][b]}
        plan = FramePlan(number, page, tuple(self.own[b][-self.config.window :]), pinned, **text)
        self.own[b].append(page)
        return plan

    def step(self, prompt: int = 0) -> Tensor:
        """The next latents [B, C, H, W]; the clip's inputs are those of stream 0's position."""
        i = len(self.own[0])
        self.forward.plan([self.plan(b, prompt) for b in range(self.batch)])
        return self.forward.run(*self.clip.frame(i))


# One convolution each way, with a state: a step takes about a millisecond.
_NET = NetConfig(folds=((4, 8),), widths=(8,), blocks=(0,), taps=(2,))
TINY_CODEC = CodecConfig(encoder=_NET, decoder=_NET, channels=TINY.channels)


def tiny_generator(
    dtype: torch.dtype = torch.float32, seed: int = 0, linears: Linears | None = None, **changes: Any
) -> Generator:
    """Pictures of 32x48 pixels, steered by a camera, told by words; weights are random."""
    config = replace(TINY, **changes)
    torch.manual_seed(seed)
    codec = Codec(TINY_CODEC)
    encoder = ByteEncoder(config.text_width, config.text_tokens, layers=0) if config.text != "none" else None
    return Generator(
        random_model(config, seed, dtype),
        codec,
        Camera() if config.condition_channels else None,
        height=8 * HEIGHT,
        width=8 * WIDTH,
        encoder=encoder,
        limits=Limits(streams=6, history=60),
        linears=linears,
        name="tiny",
    )


def picture(seed: int = 0, height: int = 8 * HEIGHT, width: int = 8 * WIDTH) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]"""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def camera(step: int) -> NDArray[np.float64]:
    """A control that differs from step to step: [4, 4]."""
    angle = 0.1 * math.sin(step)  # numpy's sine of a bool has half precision
    motion = np.eye(4)
    motion[0, 0] = motion[2, 2] = np.cos(angle)
    motion[0, 2], motion[2, 0] = np.sin(angle), -np.sin(angle)
    motion[:3, 3] = [0.1 * step % 1, 0, 0.3]
    return motion
