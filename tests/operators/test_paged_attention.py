"""paged_attention: softmax over every valid key of one to three segments."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import aapt_ext
from aapt_ext import PagePool, Segment, reference

from .backends import CPU_PATHS, every_path
from .rule import assert_within_rule, cast, summed_in_own_dtype


class Case:
    """Random streams over one pool whose unlisted pages and unused rows are NaN.

    Args:
        rows: L, queries of a stream.
        segments: for each segment (rows of a page, pages listed by each stream, valid rows of the last, query).
    """

    def __init__(self, batch, rows, heads, head_dim, segments, dtype, layout, scale_up=1.0):
        queries = 1 + max(query for *_, query in segments)
        self.queries = [(torch.randn(batch, rows, heads, head_dim) * scale_up).to(dtype) for _ in range(queries)]
        self.segments = []
        for page_rows, counts, last, query in segments:
            pool = PagePool(1, sum(counts) + 2, heads, page_rows, head_dim, dtype=dtype, layout=layout)
            pool.k_pages.fill_(float("nan"))
            pool.v_pages.fill_(float("nan"))
            numbers = torch.randperm(pool.pages)[: sum(counts)].tolist()
            pool.allocate(pool.pages)
            table = torch.full((batch, max([*counts, 1]) + 1), 2**30, dtype=torch.int32)
            for b, count in enumerate(counts):
                for i in range(count):
                    table[b, i] = page = numbers.pop()
                    n = last[b] if i + 1 == count else page_rows
                    pool.write(0, page, *(torch.randn(2, n, heads, head_dim) * scale_up).to(dtype))
            self.segments.append(
                Segment(
                    *pool.layer(0),
                    page_rows,
                    table,
                    torch.tensor(counts, dtype=torch.int32),
                    torch.tensor(last, dtype=torch.int32),
                    query,
                )
            )

    def formula_arguments(self, dtype=None):
        fields = [
            [s.k_pages for s in self.segments],
            [s.v_pages for s in self.segments],
            [s.rows for s in self.segments],
            [s.page_table for s in self.segments],
            [s.page_count for s in self.segments],
            [s.last_rows for s in self.segments],
            [s.query for s in self.segments],
        ]
        arguments = (self.queries, *fields, self.queries[0].shape[-1] ** -0.5)
        return cast(arguments, dtype) if dtype else arguments

    def hold_against_reference(self):
        exact = reference.paged_attention(*self.formula_arguments(torch.float64))
        with summed_in_own_dtype():
            composed = reference.paged_attention(*self.formula_arguments())
        assert_within_rule(aapt_ext.paged_attention(self.queries, self.segments), exact, composed)


WINDOW = (48, [3, 1], [48, 5], 0)
SHAPES = {
    "one key": (1, 1, 1, 2, [(1, [1], [1], 0)]),
    "window": (2, 48, 3, 64, [WINDOW]),
    "text, pinned, window": (2, 30, 2, 32, [(64, [1, 1], [9, 64], 0), (48, [1, 0], [48, 1], 1), WINDOW]),
    "odd rows": (1, 7, 2, 128, [(17, [5], [3], 0)]),
    "no page at all": (2, 5, 1, 16, [(8, [0, 2], [1, 8], 0)]),
    "larger than a tile": (1, 130, 1, 80, [(300, [2], [299], 0)]),
    "head of 256": (1, 3, 1, 256, [(33, [2], [1], 0)]),
}


@every_path
@pytest.mark.parametrize("layout", ["plain", "tiled"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_path_keeps_the_error_rule(path, dtype, layout, shape, seed):
    with aapt_ext.backend(path):
        Case(*shape, dtype, layout).hold_against_reference()


@st.composite
def shapes(draw):
    batch = draw(st.integers(1, 3))
    segments = []
    for _ in range(draw(st.integers(1, 3))):
        rows = draw(st.integers(1, 70))
        counts = draw(st.lists(st.integers(0, 4), min_size=batch, max_size=batch))
        last = draw(st.lists(st.integers(1, rows), min_size=batch, max_size=batch))
        segments.append((rows, counts, last, draw(st.integers(0, 1))))
    return batch, draw(st.integers(1, 60)), draw(st.integers(1, 4)), 2 * draw(st.integers(1, 48)), segments


@given(shapes(), st.sampled_from(CPU_PATHS), st.sampled_from(["plain", "tiled"]), st.integers(0, 2**31))
def test_any_shape_keeps_the_error_rule(shape, path, layout, seed):
    torch.manual_seed(seed)
    name, dtype = path
    with aapt_ext.backend(name):
        Case(*shape, dtype, layout).hold_against_reference()


@every_path
def test_scores_far_apart_do_not_overflow(path, dtype, seed):
    with aapt_ext.backend(path):
        Case(1, 20, 2, 32, [(40, [3], [11], 0)], dtype, "tiled", scale_up=30.0).hold_against_reference()


@every_path
def test_without_a_page_the_output_is_zero_and_lse_minus_infinity(path, dtype, seed):
    case = Case(1, 9, 2, 16, [(8, [0], [1], 0)], dtype, "tiled")
    with aapt_ext.backend(path):
        out, lse = aapt_ext.paged_attention(case.queries, case.segments)
    assert torch.equal(out, torch.zeros_like(out))
    assert (lse == -math.inf).all()


@every_path
def test_values_of_one_give_an_output_of_one(path, dtype, seed):
    case = Case(2, 19, 2, 32, [(24, [3, 2], [24, 7], 0)], dtype, "tiled")
    case.segments[0].v_pages.fill_(1)
    with aapt_ext.backend(path):
        out, _ = aapt_ext.paged_attention(case.queries, case.segments)
    torch.testing.assert_close(out.float(), torch.ones(out.shape), rtol=0, atol=4e-3)


@every_path
def test_the_order_of_full_pages_does_not_matter(path, dtype, seed):
    case = Case(1, 30, 2, 64, [(32, [6], [32], 0)], dtype, "tiled")
    segment = case.segments[0]
    with aapt_ext.backend(path):
        out, lse = aapt_ext.paged_attention(case.queries, [segment])
        segment.page_table[0, :6] = segment.page_table[0, torch.randperm(6)]
        other, other_lse = aapt_ext.paged_attention(case.queries, [segment])
    tolerance = {torch.bfloat16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(out, other, rtol=0, atol=tolerance)
    torch.testing.assert_close(lse, other_lse, rtol=0, atol=1e-5)


@every_path
def test_listing_every_page_twice_adds_ln_2(path, dtype, seed):
    case = Case(1, 30, 2, 64, [(32, [3], [32], 0)], dtype, "tiled")
    s = case.segments[0]
    twice = Segment(
        s.k_pages, s.v_pages, 32, s.page_table[:, :3].repeat(1, 2).contiguous(), 2 * s.page_count, s.last_rows
    )
    with aapt_ext.backend(path):
        out, lse = aapt_ext.paged_attention(case.queries, [s])
        other, other_lse = aapt_ext.paged_attention(case.queries, [twice])
    torch.testing.assert_close(other_lse, lse + math.log(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(other, out, rtol=0, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)


@every_path
def test_parts_merged_by_lse_are_the_whole(path, dtype, seed):
    case = Case(2, 30, 2, 32, [(32, [3, 1], [32, 9], 0), (20, [2, 2], [20, 1], 0)], dtype, "tiled")
    with aapt_ext.backend(path):
        whole, lse = aapt_ext.paged_attention(case.queries, case.segments)
        parts = [aapt_ext.paged_attention(case.queries, [segment]) for segment in case.segments]
    weights = torch.softmax(torch.stack([part_lse for _, part_lse in parts]).double(), 0)
    merged = sum(w.transpose(1, 2)[..., None] * out.double() for w, (out, _) in zip(weights, parts, strict=True))
    torch.testing.assert_close(merged, whole.double(), rtol=0, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)
    torch.testing.assert_close(
        torch.logsumexp(torch.stack([part_lse for _, part_lse in parts]), 0), lse, rtol=0, atol=1e-5
    )


@every_path
def test_the_same_call_gives_the_same_bits(path, dtype, seed):
    case = Case(2, 61, 3, 64, [(50, [4, 3], [50, 20], 0)], dtype, "tiled")
    with aapt_ext.backend(path):
        first = aapt_ext.paged_attention(case.queries, case.segments)
        for _ in range(20):
            again = aapt_ext.paged_attention(case.queries, case.segments)
            assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


@every_path
def test_pages_of_other_strides_are_read_in_place(path, dtype, seed):
    """[pages, rows, h, d], as FlashInfer and vLLM hold it, is the plain layout with other strides."""
    case = Case(1, 10, 3, 16, [(12, [3], [5], 0)], dtype, "plain")
    s = case.segments[0]
    k, v = (p.transpose(1, 2).contiguous().transpose(1, 2) for p in (s.k_pages, s.v_pages))
    other = Segment(k, v, s.rows, s.page_table, s.page_count, s.last_rows)
    with aapt_ext.backend(path):
        out, lse = aapt_ext.paged_attention(case.queries, [s])
        again, lse_again = aapt_ext.paged_attention(case.queries, [other])
    assert torch.equal(out, again) and torch.equal(lse, lse_again)
