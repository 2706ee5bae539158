"""The shipped Hopper attention kernel, run by the emulator, against float64.

Whatever the kernel must not look at is NaN: pages that nobody lists, rows after the last valid one, the output and the
workspace before the call. Table entries past the count are no page numbers.
"""

import numpy as np
import pytest

from .attention import Case, Segment, assert_right
from .conftest import Kernels


@pytest.mark.parametrize("head_dim", [64, 128])
def test_one_stream_over_whole_pages(kernels: Kernels, order: int, head_dim: int) -> None:
    assert_right(Case(70, 2, head_dim, [Segment(176, [[2, 0]], [176])]), kernels)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 175, 176, 177, 257])
def test_pages_of_any_size(kernels: Kernels, order: int, rows: int) -> None:
    assert_right(Case(65, 1, 64, [Segment(rows, [[1, 3, 0]], [rows])]), kernels)


@pytest.mark.parametrize("last", [1, 2, 175, 176, 177, 199])
def test_last_page_ends_anywhere_and_what_follows_is_nan(kernels: Kernels, order: int, last: int) -> None:
    assert_right(Case(30, 2, 64, [Segment(200, [[1, 0]], [last])], gangs=2), kernels)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 127, 128, 129, 300])
def test_any_number_of_queries(kernels: Kernels, rows: int) -> None:
    assert_right(Case(rows, 1, 64, [Segment(140, [[0]], [140])]), kernels)


@pytest.mark.parametrize("gangs", [1, 2, 3, 5, 7, 40])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_work_may_be_cut_anywhere(kernels: Kernels, gangs: int, head_dim: int) -> None:
    assert_right(Case(20, 3, head_dim, [Segment(130, [[4, 1, 2], [0]], [130, 7])], gangs=gangs), kernels)


@pytest.mark.parametrize(("gang_tiles", "gangs"), [(1, 1), (1, 4), (2, 1), (2, 3)])
def test_query_tiles_may_form_groups(kernels: Kernels, gang_tiles: int, gangs: int) -> None:
    segments = [Segment(200, [[1, 0], []], [77, 1])]
    assert_right(Case(300, 2, 64, segments, gangs=gangs, gang_tiles=gang_tiles), kernels)


def test_text_pinned_and_window(kernels: Kernels, order: int) -> None:
    """Three segments of different page sizes; the pinned one is seen by its own query; all counts differ."""
    segments = [
        Segment(90, [[0], [1], [2]], [11, 90, 33]),
        Segment(150, [[0], [], [3]], [150, 1, 150], query=1),
        Segment(150, [[1, 2], [5, 6, 4], []], [150, 150, 1]),
    ]
    assert_right(Case(100, 2, 64, segments, gangs=3, queries=2), kernels)


def test_tails_in_a_row(kernels: Kernels, order: int) -> None:
    """Every step ends within its page, so every V tile must be cleaned, as fast as they come."""
    segments = [Segment(128, [[0], [1]], [last, last + 1]) for last in (3, 100, 64)]
    assert_right(Case(20, 5, 64, segments), kernels)


@pytest.mark.parametrize("order_of_queries", [(0, 1, 0), (1, 0, 1), (1, 1, 0)])
def test_each_segment_is_seen_by_its_query(kernels: Kernels, order_of_queries: tuple[int, ...]) -> None:
    segments = [Segment(60, [[i]], [60], query=q) for i, q in enumerate(order_of_queries)]
    assert_right(Case(10, 2, 128, segments, gangs=1, queries=2), kernels)


def test_stream_without_any_key_gives_zero_and_minus_infinity(kernels: Kernels, order: int) -> None:
    case = Case(200, 2, 64, [Segment(40, [[], [1], []], [1, 40, 1])], gangs=2)
    assert_right(case, kernels)
    _, out, lse, _ = case.run(kernels)
    assert np.all(out[[0, 2]] == 0) and np.all(lse[[0, 2]] == -np.inf)


def test_no_key_at_all(kernels: Kernels) -> None:
    assert_right(Case(5, 1, 64, [Segment(40, [[]], [1])], gangs=3), kernels)


def test_page_listed_twice_counts_twice(kernels: Kernels) -> None:
    once = Case(40, 1, 64, [Segment(100, [[1, 0]], [100])])
    twice = Case(40, 1, 64, [Segment(100, [[1, 0, 0, 1]], [100])])
    twice.segments[0].k, twice.segments[0].v, twice.q = once.segments[0].k, once.segments[0].v, once.q
    (_, out, lse, _), (_, out_twice, lse_twice, _) = once.run(kernels), twice.run(kernels)
    np.testing.assert_allclose(lse_twice, lse + np.log(2), atol=1e-5)
    np.testing.assert_allclose(out_twice, out, atol=0.02)


def test_equal_calls_give_equal_bits_in_any_thread_order(kernels: Kernels) -> None:
    case = Case(200, 2, 64, [Segment(130, [[0, 1, 2]], [77])], gangs=3)
    kernels.seed(0)
    _, out, lse, _ = case.run(kernels)
    for seed in range(1, 4):
        kernels.seed(seed)
        _, again, lse_again, _ = case.run(kernels)
        assert np.array_equal(out, again) and np.array_equal(lse, lse_again)


def test_huge_scores_do_not_overflow(kernels: Kernels) -> None:
    case = Case(64, 1, 64, [Segment(130, [[0]], [130])])
    case.scale = 60.0
    objection, out, lse, _ = case.run(kernels)
    assert objection == "" and np.isfinite(out).all() and np.isfinite(lse).all()
    np.testing.assert_allclose(lse, case.reference()[1], rtol=1e-5)


@pytest.mark.parametrize("page", [-1, 9])
def test_page_beyond_the_pool_raises_the_flag_and_is_not_read(kernels: Kernels, page: int) -> None:
    case = Case(10, 1, 64, [Segment(40, [[0, 1]], [40], pages=3)])
    case.segments[0].table[0, 1] = page
    objection, _, _, bad_page = case.run(kernels)
    assert objection == "" and bad_page == max(page, 0) + 1
