"""Attention of a whole clip as its latent frames will see it when they are generated one by one (teacher forcing).

For every frame this is the call that inference makes: it sees its text, the pinned first position, the newest N past
positions and itself. So the forward pass is `paged_attention` with one page list per frame: the frames of the clip are
the pages, and no element is masked. The backward pass recomputes frame by frame through torch's own attention, which
has no mask to apply either and so takes its fastest kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .paged_attention import Segment, paged_attention
from .reference import wide


def training_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    *,
    text_k: Tensor | None = None,
    text_v: Tensor | None = None,
    text_lengths: Sequence[int] | None = None,
    q_pinned: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Block-causal window attention over the T latent frames of a clip, differentiable.

    Frame i sees frame j where j <= i and (i - j <= window or j = 0); and its text.

    Args:
        q, k, v: [B, T, L, h, d], after norm and rotation.
        window: N, past frames that a frame sees; frame 0, the pinned position, is seen always.
        text_k, text_v: [B, S, h, d], or None for no text.
        text_lengths: valid tokens of each stream's text, 1 to S; all where None.
        q_pinned: [B, T, L, h, d], the query that looks at the text, and at frame 0 once that has left the window; q
            where None.
        scale: multiplies q k^T; 1/sqrt(d) where None.

    Returns:
        [B, T, L, h, d].

    Raises:
        ValueError: an argument's shape, dtype or device is not as above.
    """
    _check(q, k, v, window, text_k, text_v, text_lengths, q_pinned)
    lengths = None
    if text_k is not None:
        lengths = tuple(text_lengths) if text_lengths is not None else (text_k.shape[1],) * len(text_k)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _TrainingAttention.apply(  # type: ignore[no-any-return, no-untyped-call]
        q, k, v, q_pinned, text_k, text_v, lengths, window, scale
    )


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    text_k: Tensor | None,
    text_v: Tensor | None,
    text_lengths: Sequence[int] | None,
    q_pinned: Tensor | None,
) -> None:
    if q.ndim != 5 or 0 in q.shape:
        raise ValueError(f"training_attention: q has shape {list(q.shape)}; it must be [B, T, L, h, d], none of them 0")
    batch, _, _, heads, head_dim = q.shape
    for name, tensor in (("k", k), ("v", v), ("q_pinned", q_pinned)):
        if tensor is not None and tensor.shape != q.shape:
            raise ValueError(
                f"training_attention: {name} has shape {list(tensor.shape)}; it must be q's {list(q.shape)}"
            )
    if window < 0:
        raise ValueError(f"training_attention: window is {window}; it must be 0 or more past frames")
    if (text_k is None) != (text_v is None) or (text_k is None and text_lengths is not None):
        raise ValueError("training_attention: text_k or text_v is missing; give both, or no text at all")
    for name, tensor in (("text_k", text_k), ("text_v", text_v)):
        if tensor is not None and tensor.shape != (batch, *tensor.shape[1:2], heads, head_dim):
            raise ValueError(
                f"training_attention: {name} has shape {list(tensor.shape)}; it must be "
                f"[B, S, h, d] = [{batch}, any, {heads}, {head_dim}]"
            )
    if text_k is not None and text_v is not None and text_k.shape != text_v.shape:
        raise ValueError(f"training_attention: text_v has shape {list(text_v.shape)}; it must be text_k's")
    if text_k is not None and text_lengths is not None:
        tokens = text_k.shape[1]
        if len(text_lengths) != batch or not all(1 <= length <= tokens for length in text_lengths):
            raise ValueError(
                f"training_attention: text_lengths is {list(text_lengths)}; it must be {batch} numbers from 1 to "
                f"S = {tokens}"
            )
    for name, tensor in (("k", k), ("v", v), ("q_pinned", q_pinned), ("text_k", text_k), ("text_v", text_v)):
        if tensor is not None and (tensor.dtype != q.dtype or tensor.device != q.device):
            raise ValueError(
                f"training_attention: {name} is {tensor.dtype} on {tensor.device}; it must be {q.dtype} on {q.device} "
                "like q"
            )


class _TrainingAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_pinned: Tensor | None,
        text_k: Tensor | None,
        text_v: Tensor | None,
        lengths: tuple[int, ...] | None,
        window: int,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, q_pinned, text_k, text_v)
        ctx.lengths, ctx.window, ctx.scale = lengths, window, scale
        batch, frames = q.shape[:2]
        queries = [_streams(q)] if q_pinned is None else [_streams(q), _streams(q_pinned)]
        tables = _tables(batch, frames, window, lengths, q.shape[2], q.device)
        far = len(queries) - 1
        segments = [Segment(*_pages(k, v), q.shape[2], *tables["window"])]
        if frames > window + 1:
            segments.append(Segment(*_pages(k, v), q.shape[2], *tables["pinned"], query=far))
        if text_k is not None and text_v is not None:
            text = text_k.transpose(1, 2), text_v.transpose(1, 2)
            segments.append(Segment(*_last_dense(text), text_k.shape[1], *tables["text"], query=far))
        with torch.no_grad():
            out: Tensor = paged_attention(queries, segments, scale=scale)[0]
        return out.view(q.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        saved = ctx.saved_tensors
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[: len(saved)]) if needed]
        with torch.enable_grad():
            # Every frame adds to the gradients of what it sees: in float32, whatever the dtype.
            inputs: list[Any] = [
                None if tensor is None else wide(tensor.detach()).requires_grad_(i in wanted)
                for i, tensor in enumerate(saved)
            ]
            q, k, v, q_pinned, text_k, text_v = inputs
            # A CPU is no slower in float32, and torch's bfloat16 gradients there are less exact than a composition's.
            dtype = gradient.dtype if gradient.is_cuda else q.dtype
            out = _frame_by_frame(q, k, v, q_pinned, text_k, text_v, ctx.lengths, ctx.window, ctx.scale, dtype)
        found = torch.autograd.grad(out, [inputs[i] for i in wanted], gradient.to(dtype), allow_unused=True)
        gradients: list[Tensor | None] = [None] * len(ctx.needs_input_grad)
        for i, value in zip(wanted, found, strict=True):
            gradients[i] = None if value is None else value.to(gradient.dtype)
        return tuple(gradients)


def _streams(x: Tensor) -> Tensor:
    """[B, T, L, h, d] as the queries of B T streams."""
    return x.flatten(0, 1).contiguous()


def _last_dense(pages: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Pages whose elements of one key are neighbours; other strides may be any."""
    k, v = (side if side.stride(-1) == 1 else side.contiguous() for side in pages)
    return k, v


def _pages(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """[B, T, L, h, d] as B T pages [h, L, d] each, without a copy."""
    return _last_dense((k.flatten(0, 1).transpose(1, 2), v.flatten(0, 1).transpose(1, 2)))


@lru_cache(maxsize=16)
def _tables(
    batch: int, frames: int, window: int, lengths: tuple[int, ...] | None, rows: int, device: torch.device
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """(page_table, page_count, last_rows) of each segment, a stream per frame of the clip."""

    def segment(lists: list[list[int]], last: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        width = max(1, *map(len, lists))
        padded = [pages + [0] * (width - len(pages)) for pages in lists]

        def numbers(values: Any) -> Tensor:
            return torch.tensor(values, dtype=torch.int32, device=device)

        return numbers(padded), numbers([len(pages) for pages in lists]), numbers(last)

    streams = [(b, i) for b in range(batch) for i in range(frames)]
    full = [rows] * len(streams)
    tables = {
        "window": segment([[b * frames + j for j in range(max(0, i - window), i + 1)] for b, i in streams], full),
        "pinned": segment([[b * frames] if i > window else [] for b, i in streams], full),
    }
    if lengths is not None:
        tables["text"] = segment([[b] for b, _ in streams], [lengths[b] for b, _ in streams])
    return tables


def _frame_by_frame(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_pinned: Tensor | None,
    text_k: Tensor | None,
    text_v: Tensor | None,
    lengths: tuple[int, ...] | None,
    window: int,
    scale: float,
    dtype: torch.dtype,
) -> Tensor:
    """The same, [B, T, L, h, d], by torch's attention in `dtype`.

    Where the far keys (text, pinned position) are seen by a query of their own, both queries are laid end to end in one
    twice as long, and each key is zero in the half of the query that does not look at it.
    """
    outputs = []
    frames = list(zip(k.unbind(1), v.unbind(1), strict=True))
    for i, query in enumerate(q.unbind(1)):
        start = max(0, i - window)
        far = [(text_k, text_v)] if text_k is not None and text_v is not None else []
        if start > 0:
            far.append(frames[0])
        near_k = torch.cat([k for k, _ in frames[start : i + 1]], 1)
        keys = torch.cat([*(k for k, _ in far), near_k], 1)
        values = torch.cat([v for _, v in (*far, *frames[start : i + 1])], 1)
        if q_pinned is not None and far:
            far_k = torch.cat([k for k, _ in far], 1)
            query = torch.cat((query, q_pinned[:, i]), -1)
            keys = torch.cat((F.pad(far_k, (far_k.shape[-1], 0)), F.pad(near_k, (0, near_k.shape[-1]))), 1)
            values = F.pad(values, (0, values.shape[-1]))
        mask = _text_mask(lengths, 0 if text_k is None else text_k.shape[1], keys.shape[1], q.device)
        query, keys, values = (x.to(dtype).transpose(1, 2) for x in (query, keys, values))
        out = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
        outputs.append(out.transpose(1, 2)[..., : q.shape[-1]])
    return torch.stack(outputs, 1)


def _text_mask(lengths: tuple[int, ...] | None, tokens: int, keys: int, device: torch.device) -> Tensor | None:
    """[B, 1, 1, keys] bool, text first; None where all of it is valid."""
    if lengths is None or all(length == tokens for length in lengths):
        return None
    place = torch.arange(keys, device=device)
    return ((place < torch.tensor(lengths, device=device)[:, None]) | (place >= tokens))[:, None, None]
