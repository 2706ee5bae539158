"""The forward of a stream: one latent frame, through the operators, over pages.

    weights = CachedTransformer(model)                   # once: laid out, and run for the constant timestep
    forward = weights.open(batch, height, width, pool, text_pool)     # once per (batch, resolution)
    forward.plan([FramePlan(...), ...])                  # each step: small integers into static tables
    latent = forward.run(noise, condition, previous)     # the pass; nothing here depends on the plan's values

`run` may be captured in a CUDA graph: what changes from step to step is in tables at fixed addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

import aapt_ext
from aapt_ext import _C, PagePool, Segment, reference

from .block import Modulation, modulation, run_block
from .config import TransformerConfig
from .fp8 import Fp8Kernels, Linears, check_linears, quantised_projection
from .kernels import BlockWeights, Buffer, Kernels, Projection
from .rotary import pinned_time, rotation_dtype, space_angles, time_table
from .transformer import Transformer


@dataclass(frozen=True)
class FramePlan:
    """What one stream does in one step. Page numbers are those of the pools that the forward was opened with."""

    number: int
    """The position, from 1 on."""
    page: int
    """Where its keys and values go."""
    window: tuple[int, ...]
    """Pages of the newest positions before it, at most N, in any order."""
    pinned: int | None = None
    """The first position's page, where it is not among `window`."""
    text: int | None = None
    """The prompt's page."""
    text_tokens: int = 0
    """Valid tokens of the prompt."""


class CachedTransformer:
    """A transformer's weights for streams, in the dtype and on the device that the model has.

    Args:
        model: is not changed; on a GPU its weights are shared, on a CPU they are packed.
        timestep: of the single pass; 1 is pure noise.
        linears: "fp8" multiplies the blocks' projections of every frame in fp8 (`fp8.py`), which a GPU must be able to;
            their weights are held in fp8 beside the model's own. None: in the model's dtype.

    Raises:
        ValueError: the model is not causal, or cannot have such linears.
    """

    @torch.no_grad()
    def __init__(self, model: Transformer, timestep: float = 1.0, linears: Linears | None = None) -> None:
        config = model.config
        if not config.causal:
            raise ValueError("config.causal is False; a stream needs a model that was adapted to see only the past")
        self.model, self.config, self.timestep = model, config, timestep
        weight = model.head.weight
        self.dtype, self.device, self.linears = weight.dtype, weight.device, linears
        check_linears(linears, config, self.dtype, self.device)
        self.patch, self.head = Projection.of(model.patch), Projection.of(model.head)
        project = Projection.of if linears is None else quantised_projection
        self.blocks = [BlockWeights.of(block, project) for block in model.stack]
        embedding = model.time_embedding(torch.full((1,), timestep, dtype=torch.float64, device=self.device))
        embedding = reference.wide(embedding)
        silu = torch.nn.functional.silu(embedding)
        time = torch.nn.functional.linear(
            silu, reference.wide(model.time_blocks.weight), reference.wide(model.time_blocks.bias)
        )
        self.modulations = [
            Modulation(*(vector.to(self.dtype) for vector in modulation(reference.wide(block.table), time)))
            for block in model.stack
        ]
        self.shift, self.scale = (reference.wide(model.final_table) + embedding).to(self.dtype).unsqueeze(1)

    def page_pool(self, pages: int, tokens: int) -> PagePool:
        """A pool for frames of `tokens` tokens."""
        config = self.config
        return PagePool(
            config.blocks, pages, config.heads, tokens, config.head_dim, dtype=self.dtype, device=self.device
        )

    def text_pool(self, pages: int) -> PagePool:
        """A pool for prompts."""
        return self.page_pool(pages, self.config.text_tokens)

    @torch.no_grad()
    def write_text(self, embedding: Tensor, pool: PagePool, page: int) -> None:
        """Runs the text side for one prompt [S, text width] and writes its keys to a page of a text pool."""
        embedding = embedding.to(self.device, self.dtype)[None]
        keys = self.model.encode_text(embedding, [embedding.shape[1]], self.timestep)
        for layer, (k, v) in enumerate(keys.layers):
            pool.write(layer, page, k[0].transpose(0, 1), v[0].transpose(0, 1))

    def open(self, batch: int, height: int, width: int, pool: PagePool, text_pool: PagePool | None) -> Forward:
        """Buffers for `batch` streams of height x width latent pixels."""
        return Forward(self, batch, height, width, pool, text_pool)


class Tables:
    """The small values that change every step, in one piece of memory that is filled on the host and copied once."""

    def __init__(self, config: TransformerConfig, batch: int, rows: int, exact: torch.dtype, device: torch.device):
        pairs = config.rope_pairs[0]
        shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "time": ((batch, pairs, 2), exact),
            "pinned_time": ((batch, pairs, 2), exact),
            "page": ((batch,), torch.int32),
            "window": ((batch, config.window + 1), torch.int32),
            "window_count": ((batch,), torch.int32),
            "window_last": ((batch,), torch.int32),
            "pinned": ((batch, 1), torch.int32),
            "pinned_count": ((batch,), torch.int32),
            "text": ((batch, 1), torch.int32),
            "text_count": ((batch,), torch.int32),
            "text_last": ((batch,), torch.int32),
        }
        spans, end = {}, 0
        for name, (shape, dtype) in shapes.items():
            spans[name] = (end, end + dtype.itemsize * torch.Size(shape).numel())
            end = -(-spans[name][1] // 16) * 16
        self._host = torch.zeros(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._device = self._host if device.type == "cpu" else torch.zeros_like(self._host, device=device)

        def views(memory: Tensor) -> dict[str, Tensor]:
            return {
                name: memory[slice(*spans[name])].view(dtype).view(shape) for name, (shape, dtype) in shapes.items()
            }

        if device.type == "cuda":
            self._uploaded = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.on_device = views(self._device)
        self.on_host = {name: view.numpy() for name, view in views(self._host).items()}
        self.on_host["window_last"][:] = rows
        self.on_host["text_last"][:] = 1

    def upload(self) -> None:
        if self._device is not self._host:
            self._device.copy_(self._host, non_blocking=True)
            self._uploaded.record()

    def refill(self) -> dict[str, NDArray[Any]]:
        """The host's side, once the device has taken what it was filled with before."""
        if self._device is not self._host:
            self._uploaded.synchronize()
        return self.on_host


class Forward:
    """One pass for a fixed number of streams at a fixed resolution."""

    @torch.no_grad()
    def __init__(
        self,
        weights: CachedTransformer,
        batch: int,
        height: int,
        width: int,
        pool: PagePool,
        text_pool: PagePool | None,
    ) -> None:
        config, dtype, device = weights.config, weights.dtype, weights.device
        self.weights, self.config, self.batch = weights, config, batch
        tokens = config.tokens(height, width)
        exact = rotation_dtype(dtype)
        self._tables = Tables(config, batch, tokens, exact, device)
        self._kernels: Kernels | Fp8Kernels = (
            Kernels(config, batch, tokens, dtype, device)
            if weights.linears is None
            else Fp8Kernels(config.eps, batch, dtype)
        )
        self._space = space_angles(config, height, width).to(device, exact)
        self._modulations = [Modulation(*(self._per_stream(v) for v in m)) for m in weights.modulations]
        self._shift, self._scale = self._per_stream(weights.shift), self._per_stream(weights.scale)
        self._capped = config.pinned == "cap"
        if (qkv := self._kernels.buffer("qkv")) is not None:
            self._qkv = torch.unflatten(qkv.tokens, 2, (3, config.heads, config.head_dim))
            self._q = torch.empty_like(self._qkv[:, :, 0], memory_format=torch.contiguous_format)
            self._q_pinned = torch.empty_like(self._q) if self._capped else None
            self._queries = [self._q] if self._q_pinned is None else [self._q, self._q_pinned]
        self._layers = [self._layer(layer, pool, text_pool) for layer in range(config.blocks)]

    def _per_stream(self, vector: Tensor) -> Tensor:
        return vector.expand(self.batch, -1).contiguous()

    def plan(self, plans: Sequence[FramePlan]) -> None:
        """Fills the tables for the next `run`.

        Raises:
            ValueError: their number is not the batch that was opened, or a window is too long.
        """
        if len(plans) != self.batch:
            raise ValueError(f"plans has {len(plans)} entries; this forward was opened for {self.batch} streams")
        config = self.config
        for plan in plans:
            if len(plan.window) > config.window:
                raise ValueError(f"window lists {len(plan.window)} pages; it must list at most {config.window}")
        host = self._tables.refill()
        for b, plan in enumerate(plans):
            seen = len(plan.window)
            host["page"][b] = plan.page
            host["window"][b, :seen] = plan.window
            host["window"][b, seen] = plan.page
            host["window_count"][b] = seen + 1
            host["pinned"][b, 0] = plan.pinned or 0
            host["pinned_count"][b] = plan.pinned is not None
            host["text"][b, 0] = plan.text or 0
            host["text_count"][b] = plan.text is not None
            host["text_last"][b] = max(1, plan.text_tokens)
        numbers = [plan.number for plan in plans]
        seeming = [pinned_time(config, number) for number in numbers]
        table = time_table(config, numbers + seeming)
        host["time"][:], host["pinned_time"][:] = table.reshape(2, *host["time"].shape)
        self._tables.upload()

    @torch.no_grad()
    def run(self, noise: Tensor, condition: Tensor | None, previous: Tensor, out: Tensor | None = None) -> Tensor:
        """One pass over the planned frames; keys and values go to the planned pages.

        Args:
            noise, previous: [B, C, H, W].
            condition: [B, condition channels, H, W] or None.
            out: [B, C, H, W] to write to; allocated where None.

        Returns:
            The clean latents [B, C, H, W].
        """
        weights, kernels = self.weights, self._kernels
        sources = [source for source in (noise, condition, previous) if source is not None]
        place = kernels.buffer("x")
        embedded = aapt_ext.patch_embed(
            sources, weights.patch.weight, weights.patch.bias, out=None if place is None else place.tokens
        )
        x = Buffer.over(embedded) if place is None else place
        y: Buffer | None = None
        gate: Tensor | None = None
        for block, vectors, (attend, attend_text) in zip(weights.blocks, self._modulations, self._layers, strict=True):
            x, y, gate = run_block(block, x, y, gate, vectors, kernels, attend, attend_text)
        x, _ = kernels.modulate(x, y, gate)
        if out is None and kernels.in_place:
            out = torch.empty_like(noise)
        latent: Tensor = aapt_ext.denoise(
            x.tokens, self._scale, self._shift, weights.head.weight, weights.head.bias, noise, weights.timestep,
            eps=self.config.eps, out=out,
        )  # fmt: skip
        return latent

    def _layer(
        self, layer: int, pool: PagePool, text_pool: PagePool | None
    ) -> tuple[Callable[[Buffer], Buffer], Callable[[Buffer], Buffer]]:
        """The attention of one block, over one layer of the pools."""
        config, tables, block = self.config, self._tables.on_device, self.weights.blocks[layer]
        k_pages, v_pages = pool.layer(layer)
        far = 1 if self._capped else 0  # the query for what may seem nearer than it is
        segments = [
            Segment(k_pages, v_pages, pool.rows, tables["pinned"], tables["pinned_count"], tables["window_last"], far),
            Segment(k_pages, v_pages, pool.rows, tables["window"], tables["window_count"], tables["window_last"]),
        ]
        text: list[Segment] = []
        if text_pool is not None:
            fields = (tables["text"], tables["text_count"], tables["text_last"])
            joint = config.text == "joint"
            text = [Segment(*text_pool.layer(layer), text_pool.rows, *fields, far if joint else 0)]
            segments = text + segments if joint else segments
        norm, heads = block.qk_norm, (config.heads, config.head_dim)
        rotations = (tables["time"], self._space, tables["pinned_time"] if self._capped else None)
        look, look_at_text = self._attention(segments), self._attention(text)

        def attend(qkv: Buffer) -> Buffer:
            (time, space, pinned), split = rotations, torch.unflatten(qkv.tokens, 2, (3, *heads))
            q, q_pinned = aapt_ext.cache_write(
                split, norm.q, norm.k, time, space, tables["page"], k_pages, v_pages,
                pinned_rotation=pinned, eps=config.eps,
            )  # fmt: skip
            return look([q] if q_pinned is None else [q, q_pinned])

        def attend_in_place(qkv: Buffer) -> Buffer:
            _C.cache_write(
                self._qkv, norm.q, norm.k, config.eps, *rotations, tables["page"], k_pages, v_pages, self._q,
                self._q_pinned,
            )  # fmt: skip
            return look(self._queries)

        def attend_text(q: Buffer) -> Buffer:
            assert block.cross is not None
            asked = torch.unflatten(q.tokens, 2, heads)
            normed = reference.qk_norm(reference.wide(asked), block.cross.qk_norm.q, config.eps)
            return look_at_text([normed.to(asked.dtype)])

        return attend_in_place if self._kernels.in_place else attend, attend_text

    def _attention(self, segments: list[Segment]) -> Callable[[list[Tensor]], Buffer]:
        """Attention over fixed segments, to the buffer where there is one."""
        out = self._kernels.buffer("seen")
        if out is None:
            return lambda queries: Buffer.over(aapt_ext.paged_attention(queries, segments)[0].flatten(2))
        fields = [(s.k_pages, s.v_pages, s.rows, s.page_table, s.page_count, s.last_rows, s.query) for s in segments]
        seen = torch.unflatten(out.tokens, 2, (self.config.heads, self.config.head_dim))
        scale = self.config.head_dim**-0.5

        def look(queries: list[Tensor]) -> Buffer:
            _C.paged_attention(queries, fields, scale, seen)
            return out

        return look
