"""A stream in a file: safetensors, with the rest as JSON in its header."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from aapt_ext import PagePool
from aapt_video.codec import CodecState

from .engine import Engine
from .state import Prompt, StreamState

if TYPE_CHECKING:
    from .generator import Generator
    from .stream import Stream

FORMAT = "aapt-video stream 1"


def save_snapshot(stream: Stream, path: str | Path) -> None:
    """Writes a stream's state; the file appears whole or not at all. Its history is not written."""
    state, engine = stream.state, stream.engine
    pages = list(dict.fromkeys(state.pages))
    tensors = {"latent": state.latent.contiguous(), **_read(engine.pool, pages, engine.pool.rows, "page")}
    assert state.decoder is not None
    tensors |= state.decoder.tensors("decoder.")
    facts: dict[str, Any] = {
        "model": stream.generator.fingerprint(),
        "size": stream.size,
        "seed": state.seed,
        "frame": state.frame,
        "control": state.control,
        "first": None if state.first is None else pages.index(state.first),
        "window": [pages.index(page) for page in state.window],
        "prompt": None,
    }
    if state.prompt is not None and engine.text_pool is not None:
        tensors |= _read(engine.text_pool, [state.prompt.page], state.prompt.tokens, "text")
        facts["prompt"] = {"words": state.prompt.words, "tokens": state.prompt.tokens}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_file(tensors, partial, metadata={"format": FORMAT, "facts": json.dumps(facts)})
    os.replace(partial, path)


def read_facts(path: str | Path) -> dict[str, Any]:
    """The JSON of a snapshot; raises ValueError for another kind of file."""
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise ValueError(f"path={str(path)!r} is not a saved stream: its format is {metadata.get('format')!r}")
    facts: dict[str, Any] = json.loads(metadata["facts"])
    return facts


def load_state(generator: Generator, engine: Engine, path: str | Path) -> StreamState:
    """The state in a file, its pages written to the engine's pools and held by the caller.

    Raises:
        ValueError: the file was saved by another model.
        CapacityError: the pages are not free.
    """
    facts = read_facts(path)
    if facts["model"] != generator.fingerprint():
        raise ValueError(f"path={str(path)!r} was saved by another model, or in another dtype; load that one")
    with safe_open(str(path), "pt") as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    device = engine.weights.device
    prompt = None
    if facts["prompt"] is not None and engine.text_pool is not None:
        (page,) = _write(engine.text_pool, tensors, "text")
        prompt = Prompt(facts["prompt"]["words"], page, facts["prompt"]["tokens"])
    pages = _write(engine.pool, tensors, "page")  # there are enough: the caller has reserved them
    state = StreamState(
        seed=facts["seed"],
        frame=facts["frame"],
        first=None if facts["first"] is None else pages[facts["first"]],
        window=tuple(pages[i] for i in facts["window"]),
        prompt=prompt,
        latent=tensors["latent"].to(device),
        decoder=CodecState.from_tensors(tensors, "decoder.").to(device),
        control=facts["control"],
    )
    engine.pool.retain(state.pages)
    engine.pool.release(pages)
    return state


def _read(pool: PagePool, pages: list[int], rows: int, name: str) -> dict[str, Tensor]:
    """Keys and values [layers, rows, h, d] of each page, whatever their layout."""
    tensors = {}
    for i, page in enumerate(pages):
        layers = [pool.read(layer, page) for layer in range(pool.layers)]
        for part, index in (("k", 0), ("v", 1)):
            tensors[f"{name}.{i}.{part}"] = torch.stack([layer[index][:rows] for layer in layers]).contiguous()
    return tensors


def _write(pool: PagePool, tensors: dict[str, Tensor], name: str) -> list[int]:
    count = sum(key.startswith(f"{name}.") and key.endswith(".k") for key in tensors)
    pages = pool.allocate(count)
    for i, page in enumerate(pages):
        k, v = (tensors[f"{name}.{i}.{part}"].to(pool.device) for part in ("k", "v"))
        for layer in range(pool.layers):
            pool.write(layer, page, k[layer], v[layer])
    return pages
