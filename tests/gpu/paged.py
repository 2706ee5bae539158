"""Random calls of paged attention on a GPU. Whatever must not be read is NaN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from operators.rule import assert_within_rule, summed_in_own_dtype

import aapt_ext
from aapt_ext import Segment, reference


@dataclass
class Call:
    """Arguments of `paged_attention` and its formula."""

    queries: list[torch.Tensor]  # one or two of [B, L, h, d]
    segments: list[Segment]

    def run(self) -> tuple[torch.Tensor, torch.Tensor]:
        return aapt_ext.paged_attention(self.queries, self.segments)

    def formula(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """The composition of torch operators on arguments of `dtype`, head by head for the sake of memory."""
        outs, sums = [], []
        for head in range(self.queries[0].shape[2]):
            one = slice(head, head + 1)
            fields = [
                [s.k_pages[:, one].to(dtype) for s in self.segments],
                [s.v_pages[:, one].to(dtype) for s in self.segments],
                [s.rows for s in self.segments],
                [s.page_table for s in self.segments],
                [s.page_count for s in self.segments],
                [s.last_rows for s in self.segments],
                [s.query for s in self.segments],
            ]
            queries = [q[:, :, one].to(dtype) for q in self.queries]
            out, lse = reference.paged_attention(queries, *fields, self.queries[0].shape[3] ** -0.5)
            outs.append(out)
            sums.append(lse)
        return torch.cat(outs, 2), torch.cat(sums, 1)

    def hold_against_reference(self) -> None:
        exact = self.formula(torch.float64)
        with summed_in_own_dtype():
            composed = self.formula(self.queries[0].dtype)
        assert_within_rule(self.run(), exact, composed)


def make_segment(
    heads: int, head_dim: int, rows: int, counts: list[int], last: list[int], query: int = 0, device: str = "cuda"
) -> Segment:
    """A pool of bf16 pages of which each stream lists `counts[b]` in random order, the last with `last[b]` keys."""
    pages = sum(counts) + 2
    shape = (pages, heads, rows, head_dim)
    k, v = (torch.full(shape, torch.nan, dtype=torch.bfloat16, device=device) for _ in range(2))
    numbers = torch.randperm(pages).tolist()
    table = torch.full((len(counts), max([*counts, 1])), 2**30, dtype=torch.int32)
    for b, count in enumerate(counts):
        for i in range(count):
            table[b, i] = page = numbers.pop()
            valid = last[b] if i + 1 == count else rows
            for pool in (k, v):
                pool[page, :, :valid] = torch.randn(heads, valid, head_dim, device=device)
    lengths = (torch.tensor(values, dtype=torch.int32, device=device) for values in (counts, last))
    return Segment(k, v, rows, table.to(device), *lengths, query)


def make_call(
    batch: int, tokens: int, heads: int, head_dim: int, segments: list[Segment], device: str = "cuda"
) -> Call:
    queries = 1 + max(segment.query for segment in segments)
    shape = (batch, tokens, heads, head_dim)
    return Call([torch.randn(shape, device=device).bfloat16() for _ in range(queries)], segments)


def window_call(tokens: int = 300, heads: int = 4, pages: int = 5, head_dim: int = 128, device: str = "cuda") -> Call:
    """One stream: text, a pinned position with its own query, and a window of frames."""
    segments = [
        make_segment(heads, head_dim, 64, [1], [37], device=device),
        make_segment(heads, head_dim, tokens, [1], [tokens], query=1, device=device),
        make_segment(heads, head_dim, tokens, [pages], [tokens], device=device),
    ]
    return make_call(1, tokens, heads, head_dim, segments, device)
