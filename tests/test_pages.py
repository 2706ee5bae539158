"""The page pool: capacity, reference counts, both layouts."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aapt_ext import CapacityError, PagePool


def small_pool(pages=4, **options):
    return PagePool(2, pages, 2, 5, 6, dtype=torch.float32, **options)


class PoolAgainstModel(RuleBasedStateMachine):
    """Random allocate, retain and release against a dictionary of counts."""

    def __init__(self):
        super().__init__()
        self.pool = small_pool(pages=6)
        self.counts: dict[int, int] = {}
        self.births: set[int] = set()

    @rule(count=st.integers(0, 7))
    def allocate(self, count):
        if count > 6 - len(self.counts):
            with pytest.raises(CapacityError, match=f"{count} pages were asked for"):
                self.pool.allocate(count)
            return
        taken = self.pool.allocate(count)
        assert len(set(taken)) == count and not set(taken) & set(self.counts)
        births = {self.pool.birth(page) for page in taken}
        assert len(births) == count and not births & self.births
        self.births |= births
        self.counts.update(dict.fromkeys(taken, 1))

    @rule(pages=st.lists(st.integers(0, 5), max_size=4))
    def retain(self, pages):
        if all(page in self.counts for page in pages):
            self.pool.retain(pages)
            for page in pages:
                self.counts[page] += 1
        else:
            with pytest.raises(ValueError, match="is free"):
                self.pool.retain(pages)

    @rule(pages=st.lists(st.integers(0, 5), max_size=4))
    def release(self, pages):
        if all(pages.count(page) <= self.counts.get(page, 0) for page in pages):
            self.pool.release(pages)
            for page in pages:
                self.counts[page] -= 1
            self.counts = {page: count for page, count in self.counts.items() if count}
        else:
            with pytest.raises(ValueError, match="release: page"):
                self.pool.release(pages)

    @invariant()
    def counts_agree(self):
        assert self.pool.pages_free == 6 - len(self.counts)
        assert [self.pool.references(page) for page in range(6)] == [self.counts.get(p, 0) for p in range(6)]


PoolAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPoolAgainstModel = PoolAgainstModel.TestCase


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", ["plain", "tiled"])
@pytest.mark.parametrize("rows", [1, 16, 17, 48])
def test_what_is_written_is_read(dtype, layout, rows, seed):
    pool = PagePool(2, 3, 2, rows, 10, dtype=dtype, layout=layout)
    page = pool.allocate()[0]
    k, v = torch.randn(2, rows, 2, 10).to(dtype)
    pool.write(1, page, k, v)
    assert all(torch.equal(a, b) for a, b in zip(pool.read(1, page), (k, v), strict=True))
    other_k, _ = pool.read(0, page)
    assert torch.equal(other_k, torch.zeros_like(k)), "another layer was written"


@pytest.mark.parametrize("layout", ["plain", "tiled"])
def test_a_short_text_leaves_the_other_rows(layout, seed):
    pool = small_pool(layout=layout)
    page = pool.allocate()[0]
    full, short = torch.randn(2, 5, 2, 6), torch.randn(2, 3, 2, 6)
    pool.write(0, page, *full)
    pool.write(0, page, *short)
    k, v = pool.read(0, page)
    assert torch.equal(k[:3], short[0]) and torch.equal(v[:3], short[1])
    assert torch.equal(k[3:], full[0, 3:]) and torch.equal(v[3:], full[1, 3:])


@pytest.mark.parametrize("layout", ["plain", "tiled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_are_known_before_allocation(layout, dtype):
    pool = PagePool(3, 7, 2, 17, 8, dtype=dtype, layout=layout)
    assert pool.bytes_per_page == PagePool.page_bytes(3, 2, 17, 8, dtype, layout)
    assert pool.bytes == 7 * pool.bytes_per_page


def test_a_refused_allocation_changes_nothing():
    pool = small_pool(pages=3)
    pool.allocate(2)
    with pytest.raises(CapacityError, match="1 of 3 are free"):
        pool.allocate(2)
    assert pool.pages_free == 1


def test_a_refused_release_changes_nothing():
    pool = small_pool()
    page = pool.allocate()[0]
    with pytest.raises(ValueError, match="held 1 times"):
        pool.release([page, page])
    assert pool.references(page) == 1


BAD_WRITES = {
    "k has shape": (torch.zeros(6, 2, 6), torch.zeros(6, 2, 6)),
    "v has shape": (torch.zeros(5, 2, 6), torch.zeros(5, 2, 4)),
    "k has dtype": (torch.zeros(5, 2, 6).double(), torch.zeros(5, 2, 6)),
    "v has 4 rows": (torch.zeros(5, 2, 6), torch.zeros(4, 2, 6)),
    "k needs a gradient": (torch.zeros(5, 2, 6, requires_grad=True), torch.zeros(5, 2, 6)),
}


@pytest.mark.parametrize("message", BAD_WRITES)
def test_a_bad_write_is_refused(message):
    pool = small_pool()
    page = pool.allocate()[0]
    with pytest.raises(ValueError, match=message):
        pool.write(0, page, *BAD_WRITES[message])
    with pytest.raises(ValueError, match="is free"):
        pool.write(0, (page + 1) % 4, torch.zeros(5, 2, 6), torch.zeros(5, 2, 6))


BAD_SIZES = {
    "layers is 0": {"layers": 0},
    "pages is -1": {"pages": -1},
    "heads is 0": {"heads": 0},
    "rows is 0": {"rows": 0},
    "head_dim is 7": {"head_dim": 7},
    "dtype is torch.float16": {"dtype": torch.float16},
}


@pytest.mark.parametrize("message", BAD_SIZES)
def test_a_bad_size_is_refused(message):
    sizes = {"layers": 1, "pages": 1, "heads": 1, "rows": 1, "head_dim": 2, **BAD_SIZES[message]}
    with pytest.raises(ValueError, match=message):
        PagePool(**sizes)
