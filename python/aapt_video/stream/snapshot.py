"""A stream apart from every pool: what a file holds of it, and how a stream goes on from there.

In a file it is safetensors, with the rest as JSON in the header.
"""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from aapt_ext import PagePool
from aapt_video.codec import CodecState
from aapt_video.files import write_tensors

from .engine import Engine
from .state import StreamState

if TYPE_CHECKING:
    from .generator import Generator
    from .stream import Stream

FORMAT = "aapt-video stream 1"


class Page(NamedTuple):
    """Copies of a page's keys and values on the host, [layers, rows, h, d] each, whatever their layout in the pool."""

    k: Tensor
    v: Tensor


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A stream's state as values of its own. Its history is not in it."""

    facts: dict[str, Any]
    """What JSON can say. Pages are called by names, which one stream never uses twice in a process."""
    tensors: dict[str, Tensor]
    """The latent and the decoder's state."""
    pages: dict[str, Page]
    """By name; those that were known when it was taken are left out."""

    @property
    def names(self) -> frozenset[str]:
        """Every page of the state, text included."""
        prompt = self.facts["prompt"]
        return frozenset((*self.facts["pages"], *([] if prompt is None else [prompt["page"]])))


def take(stream: Stream, known: Container[str] = ()) -> Snapshot:
    """A copy of a stream's state.

    Args:
        known: names of pages that need not be copied again: what is in a page never changes.
    """
    state, engine = stream.state, stream.engine
    assert state.decoder is not None
    engine.lane.join()  # which the decoder's state may still be on its way through
    names = {page: f"page-{engine.pool.birth(page)}" for page in state.pages}
    pages = {name: _read(engine.pool, page, engine.pool.rows) for page, name in names.items() if name not in known}
    facts: dict[str, Any] = {
        "model": stream.generator.fingerprint(),
        "size": stream.size,
        "seed": state.seed,
        "frame": state.frame,
        "control": state.control,
        "first": None if state.first is None else names[state.first],
        "window": [names[page] for page in state.window],
        "pages": list(names.values()),
        "prompt": None,
    }
    if state.prompt is not None and engine.text_pool is not None:
        prompt = state.prompt
        name = f"text-{engine.text_pool.birth(prompt.page)}"
        if name not in known:
            pages[name] = _read(engine.text_pool, prompt.page, prompt.tokens)
        facts["prompt"] = {"words": prompt.words, "page": name}
    tensors = {"latent": state.latent, **state.decoder.tensors("decoder.")}
    return Snapshot(facts, {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, pages)


def load_state(generator: Generator, engine: Engine, snapshot: Snapshot) -> StreamState:
    """The state, its pages written to the engine's pools and held by the caller, who has reserved them.

    Raises:
        ValueError: it was taken from another model.
        CapacityError: the pages are not free.
    """
    facts = snapshot.facts
    if facts["model"] != generator.fingerprint():
        raise ValueError("the stream was saved by another model, in another dtype or with other linears; load that one")
    device, prompt = engine.weights.device, None
    pages = dict(zip(facts["pages"], engine.pool.allocate(len(facts["pages"])), strict=True))
    try:
        for name, page in pages.items():
            _write(engine.pool, page, snapshot.pages[name])
        if facts["prompt"] is not None and engine.texts is not None:
            prompt = engine.texts.of_keys(facts["prompt"]["words"], *snapshot.pages[facts["prompt"]["page"]])
        state = StreamState(
            seed=facts["seed"],
            frame=facts["frame"],
            first=None if facts["first"] is None else pages[facts["first"]],
            window=tuple(pages[name] for name in facts["window"]),
            prompt=prompt,
            latent=snapshot.tensors["latent"].to(device),
            decoder=CodecState.from_tensors(snapshot.tensors, "decoder.").to(device),
            control=facts["control"],
        )
        return engine.hold(state)
    finally:  # what the state does not hold is free again
        engine.pool.release(pages.values())
        if prompt is not None and engine.text_pool is not None:
            engine.text_pool.release([prompt.page])


def _read(pool: PagePool, page: int, rows: int) -> Page:
    k, v = zip(*(pool.read(layer, page) for layer in range(pool.layers)), strict=True)
    return Page(*(torch.stack([layer[:rows] for layer in part]).cpu().contiguous() for part in (k, v)))


def _write(pool: PagePool, page: int, values: Page) -> None:
    k, v = (part.to(pool.device) for part in values)
    for layer in range(pool.layers):
        pool.write(layer, page, k[layer], v[layer])


# -- files --


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Writes a file with the pages that the snapshot holds; it appears whole or not at all. Raises OSError."""
    tensors = dict(snapshot.tensors)
    for name, page in snapshot.pages.items():
        tensors |= {f"{name}.k": page.k, f"{name}.v": page.v}
    try:
        write_tensors(path, tensors, {"format": FORMAT, "facts": json.dumps(snapshot.facts)})
    except SafetensorError as error:
        raise OSError(f"path={str(path)!r} cannot be written: {error}") from error


def read_snapshot(path: Path) -> Snapshot:
    """The inverse of `write_snapshot`; raises ValueError for another kind of file."""
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"path={str(path)!r} is not a saved stream: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"path={str(path)!r} is not a saved stream: its format is {metadata.get('format')!r}")
    names = [key.removesuffix(".k") for key in tensors if key.endswith(".k")]
    pages = {name: Page(tensors.pop(f"{name}.k"), tensors.pop(f"{name}.v")) for name in names}
    return Snapshot(json.loads(metadata["facts"]), tensors, pages)
