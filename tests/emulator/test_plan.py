"""The schedule of attention: every step of every head exactly once, evenly, in an order that can be merged."""

import ctypes
from collections import defaultdict

import numpy as np
import pytest

from .attention import TILE_KEYS, TILE_ROWS, Segment, c_segments
from .conftest import Kernels

MULTIPROCESSORS = 132


def address_of(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def lengths(rng: np.random.Generator) -> tuple[int, int, list[Segment]]:
    """Random streams, heads and segments; some segments and some streams empty."""
    batch, heads = int(rng.integers(1, 5)), int(rng.integers(1, 41))
    segments = []
    for _ in range(rng.integers(1, 4)):
        rows = int(rng.choice([1, 63, 64, 65, 127, 128, 129, 512, 880, 1196, 1560]))
        counts = rng.integers(0, 31, size=batch) * rng.integers(0, 2, size=batch)
        segments.append(
            Segment(rows, [list(range(n)) for n in counts], [int(rng.integers(1, rows + 1)) for _ in range(batch)])
        )
    return batch, heads, segments


def steps_of(segments: list[Segment], b: int) -> list[tuple[int, int, int, int]]:
    """The steps of one job of stream `b` as they must be: (segment, page, first row, keys)."""
    steps = []
    for s, segment in enumerate(segments):
        for page in range(len(segment.listed[b])):
            rows = segment.last[b] if page + 1 == len(segment.listed[b]) else segment.rows
            steps += [(s, page, row, min(TILE_KEYS, rows - row)) for row in range(0, rows, TILE_KEYS)]
    return steps


def pieces_of(kernels: Kernels, batch: int, heads: int, segments: list[Segment], gangs: int) -> np.ndarray:
    out = np.zeros((2 * gangs + 2 * batch * heads, 7), np.int32)
    arrays = c_segments(segments)
    count = kernels.library.plan_pieces(arrays, len(segments), batch, heads, TILE_KEYS, gangs, address_of(out))
    return out[:count]


@pytest.mark.parametrize("seed", range(60))
def test_every_step_of_every_job_belongs_to_one_piece(kernels: Kernels, seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, heads, segments = lengths(rng)
    gangs = int(rng.integers(1, 2 * MULTIPROCESSORS))
    covered: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    work = np.zeros(gangs, int)
    pieces = pieces_of(kernels, batch, heads, segments, gangs)
    assert np.all(np.diff(pieces[:, 0]) >= 0)
    for gang, b, head, first, last, steps, slot in pieces.tolist():
        assert steps == len(steps_of(segments, b)) and 0 <= first < last <= steps
        assert (slot == -1) == (first == 0 and last == steps)
        covered[b, head].append((first, last, slot))
        work[gang] += last - first
    for b in range(batch):
        for head in range(heads):
            parts, steps = covered[b, head], len(steps_of(segments, b))
            assert [part[0] for part in parts] == [0, *(part[1] for part in parts[:-1])][: len(parts)]
            assert sum(last - first for first, last, _ in parts) == steps
    busy = work[work > 0]
    assert busy.size == min(gangs, work.sum()) and (busy.size == 0 or busy.max() - busy.min() <= 1)


@pytest.mark.parametrize("seed", range(30))
def test_merge_reads_the_slots_that_the_pieces_wrote_in_order(kernels: Kernels, seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    batch, heads, segments = lengths(rng)
    gangs = int(rng.integers(1, MULTIPROCESSORS + 1))
    written: dict[tuple[int, int], list[int]] = defaultdict(list)
    for _, b, head, _, _, _, slot in pieces_of(kernels, batch, heads, segments, gangs).tolist():
        if slot >= 0:
            written[b, head].append(slot)
    slots = [slot for job in written.values() for slot in job]
    assert len(slots) == len(set(slots)) and all(slot < 2 * gangs for slot in slots)
    out = np.zeros(gangs, np.int32)
    for b in range(batch):
        for head in range(heads):
            count = kernels.library.plan_partials(
                c_segments(segments), len(segments), batch, heads, TILE_KEYS, gangs, b, head,
                address_of(out),
            )  # fmt: skip
            assert out[:count].tolist() == written[b, head]


@pytest.mark.parametrize("seed", range(30))
def test_steps_visit_every_valid_key_once_from_any_start(kernels: Kernels, seed: int) -> None:
    rng = np.random.default_rng(200 + seed)
    batch, _, segments = lengths(rng)
    for b in range(batch):
        expected = steps_of(segments, b)
        if not expected:
            continue
        first = int(rng.integers(0, len(expected)))
        out = np.zeros((len(expected) - first, 4), np.int32)
        kernels.library.plan_steps(
            c_segments(segments), len(segments), batch, TILE_KEYS, b, first, len(out),
            address_of(out),
        )  # fmt: skip
        assert [tuple(row) for row in out.tolist()] == expected[first:]


@pytest.mark.parametrize(
    "rows, heads, pages",
    [(1196, 24, 32), (1196, 32, 32), (3600, 3, 17), (1560, 12, 21), (1560, 12, 7), (880, 12, 60)],
)
def test_gangs_fill_the_gpu_and_no_block_works_a_step_more(kernels: Kernels, rows: int, heads: int, pages: int) -> None:
    gangs = kernels.library.plan_gangs(rows, TILE_ROWS, MULTIPROCESSORS)
    tiles = -(-rows // TILE_ROWS)
    assert gangs * tiles <= MULTIPROCESSORS < (gangs + 1) * tiles
    segments = [Segment(512, [[0]], [300]), Segment(rows, [list(range(pages))], [rows])]
    work = np.zeros(gangs, int)
    for gang, _, _, first, last, _, _ in pieces_of(kernels, 1, heads, segments, gangs).tolist():
        work[gang] += last - first
    assert work.max() - work.min() <= 1


def test_more_query_tiles_than_multiprocessors_leave_one_gang(kernels: Kernels) -> None:
    assert kernels.library.plan_gangs(200 * TILE_ROWS, TILE_ROWS, MULTIPROCESSORS) == 1
