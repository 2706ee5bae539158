"""`aapt-video inspect`: what a configuration costs, before anything is allocated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from .codec import CodecConfig, decoder_cost
from .codec import named_config as named_codec
from .model.config import NAMED, TransformerConfig, named_config
from .model.fp8 import Linears
from .model.size import Size, size
from .stream.history import SNAPSHOT_EVERY

# Where a picture size is not given: the one that the configuration is meant for, and its decoder.
USUAL: dict[str, tuple[int, int, str]] = {
    "tiny": (32, 48, "test"),
    "world": (96, 128, "world"),
    "wan-1.3b": (480, 832, "light"),
    "wan-14b": (480, 832, "light"),
    "aapt-8b": (416, 736, "light"),
    "aapt-8b-4096": (416, 736, "light"),
}


@dataclass(frozen=True)
class Inspect:
    """Print parameters, FLOPs, bytes and a memory estimate; nothing is allocated."""

    config: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG")]
    """A named configuration, or a model's folder."""
    height: int | None = None
    """Of the pictures, pixels; the configuration's usual one where it is not given."""
    width: int | None = None
    """Of the pictures, pixels."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of weights, keys and values."""
    device: Literal["cpu", "cuda"] = "cuda"
    """Where it would run; a page's size depends on it."""
    linears: Linears | None = None
    """fp8 where the projections of every frame are multiplied in fp8; in dtype where it is not given."""
    history: int = 0
    """Latent frames that a stream can rewind."""
    window: int | None = None
    """Past latent frames that are seen; the configuration's where it is not given."""


def inspect(arguments: Inspect) -> None:
    for line in lines(arguments):
        print(line)


def lines(arguments: Inspect) -> Iterator[str]:
    """The report, line by line."""
    config, codec, height, width = _find(arguments.config)
    height, width = arguments.height or height, arguments.width or width
    if arguments.window is not None:
        cap = max(config.pinned_cap, arguments.window)
        config = TransformerConfig.from_dict({**config.to_dict(), "window": arguments.window, "pinned_cap": cap})
    dtype: torch.dtype = getattr(torch, arguments.dtype)
    if height % (2 * codec.space) or width % (2 * codec.space):
        raise ValueError(f"pictures of {height}x{width} do not fit: both must be multiples of {2 * codec.space}")
    cost = size(config, height // codec.space, width // codec.space, dtype, arguments.device)
    decoder = decoder_cost(codec, height, width, dtype)
    yield f"{arguments.config}, pictures {height}x{width}, {arguments.dtype}, {arguments.device}"
    for name, value in config.to_dict().items():
        yield f"  {name:<20} {value}"
    yield from _costs(cost, dtype.itemsize)
    yield f"decoder                {_count(decoder.parameters)} parameters, {_count(decoder.flops)}FLOP a latent frame"
    own = {"decoder weights": decoder.parameters * dtype.itemsize}
    own |= {"weights in fp8": cost.fp8_bytes} if arguments.linears else {}
    yield from _memory(cost, own, decoder.state_bytes, arguments.history)


def _costs(cost: Size, itemsize: int) -> Iterator[str]:
    yield f"parameters             {_count(cost.parameters)}, {_count(cost.frame_parameters)} of them for every frame"
    yield f"tokens                 {cost.tokens} per latent frame, which looks at {cost.keys} keys"
    yield (
        f"per latent frame       {_count(cost.flops)}FLOP (linear {_count(cost.linear_flops)}, attention "
        f"{_count(cost.attention_flops)}), {_count(cost.frame_bytes(itemsize))}B moved at least"
    )


def _memory(cost: Size, more_weights: dict[str, int], decoder_state: int, history: int) -> Iterator[str]:
    copies = history // SNAPSHOT_EVERY + 2 if history else 0
    parts = {
        "weights": cost.weight_bytes,
        **more_weights,
        f"{cost.pages} pages": cost.pages * cost.page_bytes,
        "prompt": cost.text_page_bytes,
        "decoder state": decoder_state,
        f"history of {history}": history * cost.page_bytes + copies * decoder_state,
    }
    yield f"memory of one stream   {_count(sum(parts.values()))}B"
    for name, value in parts.items():
        yield f"  {name:<20} {_count(value)}B"


def _find(name: str) -> tuple[TransformerConfig, CodecConfig, int, int]:
    folder = Path(name)
    if (folder / "config.json").is_file():
        values = json.loads((folder / "config.json").read_text())
        codec = CodecConfig.from_dict(json.loads((folder / "codec" / "codec.json").read_text()))
        return TransformerConfig.from_dict(values["transformer"]), codec, values["height"], values["width"]
    if name not in NAMED:
        raise ValueError(f"config is {name!r}; it must be a model's folder, or one of {', '.join(NAMED)}")
    height, width, decoder = USUAL[name]
    return named_config(name), named_codec(decoder), height, width


def _count(value: float) -> str:
    """A number with a prefix: 8.21 G."""
    for prefix, unit in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= unit:
            return f"{value / unit:.3g} {prefix}"
    return f"{value:.0f} "
