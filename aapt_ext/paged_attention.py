"""`paged_attention`: softmax over every valid key of one to three segments of pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from . import _C, reference
from ._library import register
from .arrays import empty, is_torch
from .dispatch import cuda_stream


@dataclass(frozen=True)
class Segment:
    """Pages that a frame looks at with one query: its text, its pinned position, its window."""

    k_pages: Any
    """One layer of a pool, plain [pages, h, rows, d] or tiled (`aapt_ext.layout`)."""
    v_pages: Any
    """The same for V."""
    rows: int
    """Keys of a full page."""
    page_table: Any
    """[B, P] int32, page numbers in any order; entries past `page_count` are not read."""
    page_count: Any
    """[B] int32, pages listed for each stream, 0 to P."""
    last_rows: Any
    """[B] int32, valid keys of the last listed page, 1 to rows."""
    query: int = 0
    """Which of the queries looks at this segment."""


def paged_attention(
    queries: Any | Sequence[Any],
    segments: Sequence[Segment],
    *,
    scale: float | None = None,
    out: Any | None = None,
    lse: Any | None = None,
    dtype: str | None = None,
) -> tuple[Any, Any]:
    """Attention of one latent frame over paged keys and values.

    Args:
        queries: one or two arrays [B, L, h, d].
        segments: one to three.
        scale: multiplies q k^T; 1/sqrt(d) where None.
        out: [B, L, h, d] to write to; allocated where None.
        lse: [B, h, L] float32 to write to; allocated where None.
        dtype: `"bf16"` where 16-bit unsigned integers mean bfloat16 (NumPy).

    Returns:
        (out, lse): the output [B, L, h, d], and the natural logarithm of the sum of exponentials [B, h, L]
        (FlashInfer's is to base 2: multiply ours by 1/ln 2). A stream that lists no page gets 0 and -inf.

    Raises:
        ValueError: an argument's shape, dtype, device or strides are not as above, or a table on the CPU names a page
            outside the pool.
    """
    queries = list(queries) if isinstance(queries, (list, tuple)) else [queries]
    first = queries[0]
    batch, rows, heads, head_dim = first.shape
    scale = head_dim**-0.5 if scale is None else scale
    if out is None and lse is None and is_torch(first):
        return torch.ops.aapt.paged_attention(  # type: ignore[no-any-return]
            queries,
            [s.k_pages for s in segments],
            [s.v_pages for s in segments],
            [s.rows for s in segments],
            [s.page_table for s in segments],
            [s.page_count for s in segments],
            [s.last_rows for s in segments],
            [s.query for s in segments],
            scale,
        )
    out = empty(first, (batch, rows, heads, head_dim)) if out is None else out
    lse = empty(first, (batch, heads, rows), _float32(first)) if lse is None else lse
    fields = [(s.k_pages, s.v_pages, s.rows, s.page_table, s.page_count, s.last_rows, s.query) for s in segments]
    _C.paged_attention(queries, fields, scale, out, lse, dtype=dtype, stream=cuda_stream(first))
    return out, lse


def _float32(array: Any) -> Any:
    return torch.float32 if is_torch(array) else "float32"


def _empty(queries: Sequence[torch.Tensor], *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    batch, rows, heads, _head_dim = queries[0].shape
    lse = queries[0].new_empty(batch, heads, rows, dtype=torch.float32)
    return torch.empty_like(queries[0], memory_format=torch.contiguous_format), lse


def _bound(arguments: tuple[Any, ...], results: tuple[torch.Tensor, torch.Tensor]) -> tuple[Any, ...]:
    queries, *fields, scale = arguments
    return queries, list(zip(*fields, strict=True)), scale, *results


register(
    "paged_attention",
    "(Tensor[] queries, Tensor[] k_pages, Tensor[] v_pages, int[] rows, Tensor[] page_tables, Tensor[] page_counts, "
    "Tensor[] last_rows, int[] query_index, float scale) -> (Tensor, Tensor)",
    empty=_empty,
    bound=_bound,
    reference=reference.paged_attention,
)
