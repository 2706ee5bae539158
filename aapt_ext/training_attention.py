"""Attention of a whole clip as its latent frames will see it when they are generated one by one (teacher forcing).

Every frame sees its text, the pinned first position, the newest N past positions and itself: a list of whole frames, so
no element is masked. There are two ways to compute it, and both read the same lists.

* Over pages: the forward pass is the call that inference makes, `paged_attention`, with the frames of the clip as pages
  and one page list per frame. The backward pass recomputes frame by frame.
* Frame by frame: torch's own attention, which has no mask to apply either and so takes its fastest kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dispatch import served_natively
from .paged_attention import Segment, paged_attention
from .reference import attention, key_mask, wide


@dataclass(frozen=True)
class ClipText:
    """A prompt that frames of a clip look at."""

    k: Tensor
    """[B, S, h, d]; prompts may differ in S."""
    v: Tensor
    """The same for V."""
    lengths: tuple[int, ...]
    """Valid tokens of each stream's prompt, 1 to S."""


@dataclass(frozen=True)
class _Sight:
    """Which keys each frame of a clip sees: the rule, for both ways."""

    frames: int
    window: int
    text_of: tuple[int, ...]
    """The prompt of each frame; empty where there is no text."""
    lengths: tuple[tuple[int, ...], ...]
    """Valid tokens: prompt, stream."""

    def near(self, frame: int) -> range:
        """The window, and the frame itself."""
        return range(max(0, frame - self.window), frame + 1)

    def pinned_is_far(self, frame: int) -> bool:
        """Whether frame 0 has left the window, and is seen apart from it."""
        return frame > self.window


def training_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    *,
    texts: Sequence[ClipText] = (),
    text_of: Sequence[int] | None = None,
    q_pinned: Tensor | None = None,
    scale: float | None = None,
    over_pages: bool | None = None,
) -> Tensor:
    """Block-causal window attention over the T latent frames of a clip, differentiable once.

    Frame i sees frame j where j <= i and (i - j <= window or j = 0); and its text.

    Args:
        q, k, v: [B, T, L, h, d], after norm and rotation.
        window: N, past frames that a frame sees; frame 0, the pinned position, is seen always.
        texts: the prompts that frames see; none for no text.
        text_of: T numbers, which of `texts` each frame sees; the first one where None.
        q_pinned: [B, F, L, h, d], for the last F frames the query that looks at the text, and at frame 0 once that has
            left the window; q does in the frames before, and in all of them where None.
        scale: multiplies q k^T; 1/sqrt(d) where None.
        over_pages: whether the forward pass is `paged_attention`, which keeps the inputs alone and is recomputed in the
            backward pass. None: on a GPU in bfloat16, where the kernel computes on tensor cores.

    Returns:
        [B, T, L, h, d].

    Raises:
        ValueError: an argument's shape, dtype or device is not as above.
    """
    _check_frames(q, k, v, q_pinned, window)
    _check_texts(q, texts, text_of)
    frames = q.shape[1]
    chosen = (0,) * frames if text_of is None else tuple(text_of)
    sight = _Sight(frames, window, chosen if texts else (), tuple(text.lengths for text in texts))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    sides = [side for text in texts for side in (text.k, text.v)]
    if over_pages is None:
        over_pages = q.is_cuda and q.dtype == torch.bfloat16 and served_natively("paged_attention", q)
    compute = _OverPages.apply if over_pages else _frame_by_frame
    return compute(sight, scale, q, k, v, q_pinned, *sides)


def _check_frames(q: Tensor, k: Tensor, v: Tensor, q_pinned: Tensor | None, window: int) -> None:
    if q.ndim != 5 or 0 in q.shape:
        raise ValueError(f"training_attention: q has shape {list(q.shape)}; it must be [B, T, L, h, d], none of them 0")
    batch, frames, *rest = q.shape
    for name, tensor in (("k", k), ("v", v)):
        if tensor.shape != q.shape:
            raise ValueError(
                f"training_attention: {name} has shape {list(tensor.shape)}; it must be q's {list(q.shape)}"
            )
        _check_like(name, tensor, q)
    if q_pinned is not None:
        if q_pinned.shape != (batch, *q_pinned.shape[1:2], *rest) or not 1 <= q_pinned.shape[1] <= frames:
            raise ValueError(
                f"training_attention: q_pinned has shape {list(q_pinned.shape)}; it must be q's {list(q.shape)}, of "
                f"the last 1 to {frames} frames"
            )
        _check_like("q_pinned", q_pinned, q)
    if window < 0:
        raise ValueError(f"training_attention: window is {window}; it must be 0 or more past frames")


def _check_texts(q: Tensor, texts: Sequence[ClipText], text_of: Sequence[int] | None) -> None:
    batch, frames, _, heads, head_dim = q.shape
    for i, text in enumerate(texts):
        tokens = text.k.shape[1:2]
        for name, tensor in ((f"texts[{i}].k", text.k), (f"texts[{i}].v", text.v)):
            if tensor.shape != (batch, *tokens, heads, head_dim):
                raise ValueError(
                    f"training_attention: {name} has shape {list(tensor.shape)}; it must be [B, S, h, d] = "
                    f"[{batch}, S, {heads}, {head_dim}], with one S for k and v"
                )
            _check_like(name, tensor, q)
        if len(text.lengths) != batch or not all(1 <= length <= tokens[0] for length in text.lengths):
            raise ValueError(
                f"training_attention: texts[{i}].lengths is {list(text.lengths)}; it must be {batch} numbers from 1 to "
                f"S = {tokens[0]}"
            )
    if text_of is not None and (len(text_of) != frames or not all(0 <= i < len(texts) for i in text_of)):
        raise ValueError(
            f"training_attention: text_of is {list(text_of)}; it must be T = {frames} numbers below {len(texts)}, the "
            "number of texts"
        )


def _check_like(name: str, tensor: Tensor, q: Tensor) -> None:
    if tensor.dtype != q.dtype or tensor.device != q.device:
        raise ValueError(
            f"training_attention: {name} is {tensor.dtype} on {tensor.device}; it must be {q.dtype} on {q.device} "
            "like q"
        )


class _OverPages(torch.autograd.Function):
    """Keeps its inputs alone."""

    @staticmethod
    def forward(
        ctx: Any, sight: _Sight, scale: float, q: Tensor, k: Tensor, v: Tensor, q_pinned: Tensor | None, *sides: Tensor
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, q_pinned, *sides)
        ctx.sight, ctx.scale = sight, scale
        rows = q.shape[2]
        queries = [q.flatten(0, 1).contiguous()]
        if q_pinned is not None:
            asking = torch.cat((q[:, : sight.frames - q_pinned.shape[1]], q_pinned), 1)
            queries.append(asking.flatten(0, 1))
        far = len(queries) - 1
        tables = _tables(sight, len(q), rows, q.device)
        pages = _pages(k.flatten(0, 1), v.flatten(0, 1))
        segments = [Segment(*pages, rows, *tables["near"])]
        if sight.pinned_is_far(sight.frames - 1):
            segments.append(Segment(*pages, rows, *tables["pinned"], query=far))
        if sides:
            pages = _pages(_same_length(sides[0::2]), _same_length(sides[1::2]))
            segments.append(Segment(*pages, pages[0].shape[2], *tables["text"], query=far))
        return paged_attention(queries, segments, scale=scale)[0].view(q.shape)  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        wanted = ctx.needs_input_grad[2:]
        inputs: list[Any] = [
            None if tensor is None else tensor.detach().requires_grad_(needed)
            for tensor, needed in zip(ctx.saved_tensors, wanted, strict=True)
        ]
        with torch.enable_grad():
            out = _frame_by_frame(ctx.sight, ctx.scale, *inputs)
        needed = [tensor for tensor in inputs if tensor is not None and tensor.requires_grad]
        found = iter(torch.autograd.grad(out, needed, gradient, allow_unused=True))
        return None, None, *(next(found) if is_wanted else None for is_wanted in wanted)


def _pages(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """[pages, rows, h, d] as pages [h, rows, d] each, without a copy: the elements of a key are neighbours, and other
    strides may be any."""
    k, v = (side if side.stride(-1) == 1 else side.contiguous() for side in (k, v))
    return k.transpose(1, 2), v.transpose(1, 2)


def _same_length(sides: Sequence[Tensor]) -> Tensor:
    """One side of P prompts [B, S, h, d], as [P B, longest S, h, d]."""
    if len(sides) == 1:
        return sides[0]
    longest = max(side.shape[1] for side in sides)
    return torch.cat([F.pad(side, (0, 0, 0, 0, 0, longest - side.shape[1])) for side in sides])


@lru_cache(maxsize=16)
def _tables(sight: _Sight, batch: int, rows: int, device: torch.device) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """(page_table, page_count, last_rows) of each segment, a stream per frame of the clip."""

    def segment(lists: list[list[int]], last: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        width = max(1, *map(len, lists))
        padded = [pages + [0] * (width - len(pages)) for pages in lists]

        def numbers(values: Any) -> Tensor:
            return torch.tensor(values, dtype=torch.int32, device=device)

        return numbers(padded), numbers([len(pages) for pages in lists]), numbers(last)

    streams = [(b, i) for b in range(batch) for i in range(sight.frames)]
    full = [rows] * len(streams)
    tables = {
        "near": segment([[b * sight.frames + j for j in sight.near(i)] for b, i in streams], full),
        "pinned": segment([[b * sight.frames] if sight.pinned_is_far(i) else [] for b, i in streams], full),
    }
    if sight.text_of:
        prompts = [(b, sight.text_of[i]) for b, i in streams]
        tables["text"] = segment([[p * batch + b] for b, p in prompts], [sight.lengths[p][b] for b, p in prompts])
    return tables


def _frame_by_frame(
    sight: _Sight, scale: float, q: Tensor, k: Tensor, v: Tensor, q_pinned: Tensor | None, *sides: Tensor
) -> Tensor:
    """[B, T, L, h, d] by torch's attention, a call per frame.

    Every frame adds to the gradients of what it sees, in float32 whatever the dtype.

    Where the far keys (text, pinned position) are seen by a query of their own, both queries are laid end to end in one
    twice as long, and each key is zero in the half of the query that does not look at it.
    """
    # On a CPU torch's bfloat16 gradients are less exact than a composition's.
    dtype = q.dtype if q.is_cuda else wide(q).dtype
    head_dim = q.shape[-1]
    frames = list(zip(*([x.transpose(1, 2) for x in wide(side).unbind(1)] for side in (k, v)), strict=True))
    texts = [wide(side).transpose(1, 2) for side in sides]
    asked_apart = sight.frames - (0 if q_pinned is None else q_pinned.shape[1])
    outputs = []
    for i in range(sight.frames):
        query, mask = q[:, i].transpose(1, 2), None
        near = [frames[j] for j in sight.near(i)]
        far = [frames[0]] if sight.pinned_is_far(i) else []
        if sight.text_of:
            prompt = sight.text_of[i]
            rest = sum(x.shape[2] for x, _ in (*far, *near))
            far.insert(0, (texts[2 * prompt], texts[2 * prompt + 1]))
            mask = key_mask(sight.lengths[prompt], far[0][0].shape[2], q.device, rest)
        keys, values = (torch.cat(parts, 2) for parts in zip(*far, *near, strict=True))
        if q_pinned is not None and i >= asked_apart and far:
            split = sum(x.shape[2] for x, _ in far)
            query = torch.cat((query, q_pinned[:, i - asked_apart].transpose(1, 2)), -1)
            keys = torch.cat((F.pad(keys[:, :, :split], (head_dim, 0)), F.pad(keys[:, :, split:], (0, head_dim))), 2)
            values = F.pad(values, (0, head_dim))
        query, keys, values = (x.to(dtype) for x in (query, keys, values))
        out = attention(query, keys, values, mask, scale)
        outputs.append(out[..., :head_dim].transpose(1, 2))
    return torch.stack(outputs, 1).to(q.dtype)
