"""The schedule of attention: every step of every head exactly once, evenly, in an order that can be merged."""

import ctypes
import itertools
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


def pieces_of(
    kernels: Kernels, batch: int, heads: int, segments: list[Segment], gangs: int, groups: int = 1
) -> np.ndarray:
    out = np.zeros((2 * gangs + 2 * batch * heads * groups, 8), np.int32)
    arrays = c_segments(segments)
    count = kernels.compiled.plan_pieces(arrays, len(segments), batch, heads, groups, TILE_KEYS, gangs, address_of(out))
    return out[:count]


@pytest.mark.parametrize("seed", range(60))
def test_every_step_of_every_job_belongs_to_one_piece(kernels: Kernels, seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, heads, segments = lengths(rng)
    gangs, groups = int(rng.integers(1, 2 * MULTIPROCESSORS)), int(rng.integers(1, 4))
    covered: dict[tuple[int, int, int], list[tuple[int, int, int]]] = defaultdict(list)
    work = np.zeros(gangs, int)
    pieces = pieces_of(kernels, batch, heads, segments, gangs, groups)
    assert np.all(np.diff(pieces[:, 0]) >= 0)
    for gang, b, head, group, first, last, steps, slot in pieces.tolist():
        assert steps == len(steps_of(segments, b)) and 0 <= first < last <= steps
        assert (slot == -1) == (first == 0 and last == steps)
        covered[b, head, group].append((first, last, slot))
        work[gang] += last - first
    for b in range(batch):
        for head, group in itertools.product(range(heads), range(groups)):
            parts, steps = covered[b, head, group], len(steps_of(segments, b))
            assert [part[0] for part in parts] == [0, *(part[1] for part in parts[:-1])][: len(parts)]
            assert sum(last - first for first, last, _ in parts) == steps
    busy = work[work > 0]
    assert busy.size == min(gangs, work.sum()) and (busy.size == 0 or busy.max() - busy.min() <= 1)


@pytest.mark.parametrize("seed", range(30))
def test_merge_reads_the_slots_that_the_pieces_wrote_in_order(kernels: Kernels, seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    batch, heads, segments = lengths(rng)
    gangs, groups = int(rng.integers(1, MULTIPROCESSORS + 1)), int(rng.integers(1, 4))
    written: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for _, b, head, group, _, _, _, slot in pieces_of(kernels, batch, heads, segments, gangs, groups).tolist():
        if slot >= 0:
            written[b, head, group].append(slot)
    slots = [slot for job in written.values() for slot in job]
    assert len(slots) == len(set(slots)) and all(slot < 2 * gangs for slot in slots)
    out = np.zeros(gangs, np.int32)
    for b, head, group in itertools.product(range(batch), range(heads), range(groups)):
        count = kernels.compiled.plan_partials(
            c_segments(segments), len(segments), batch, heads, groups, TILE_KEYS, gangs, b, head, group, address_of(out)
        )
        assert out[:count].tolist() == written[b, head, group]


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
        kernels.compiled.plan_steps(
            c_segments(segments), len(segments), batch, TILE_KEYS, b, first, len(out),
            address_of(out),
        )  # fmt: skip
        assert [tuple(row) for row in out.tolist()] == expected[first:]


def plan_of(kernels: Kernels, rows: int, multiprocessors: int = MULTIPROCESSORS) -> tuple[int, int, int]:
    """query_tiles, gang_tiles, gangs."""
    out = np.zeros(3, np.int32)
    kernels.compiled.plan_shape(rows, TILE_ROWS, multiprocessors, address_of(out))
    return tuple(out.tolist())


@pytest.mark.parametrize(
    ("rows", "heads", "pages", "expected"),
    [
        (1196, 24, 32, (10, 10, 13)),
        (1196, 32, 32, (10, 10, 13)),
        (3600, 3, 17, (29, 10, 13)),
        (1560, 12, 21, (13, 13, 10)),
        (1560, 12, 7, (13, 13, 10)),
        (880, 12, 60, (7, 7, 18)),
    ],
)
def test_gangs_fill_an_h100_and_no_block_works_a_step_more(
    kernels: Kernels, rows: int, heads: int, pages: int, expected: tuple[int, int, int]
) -> None:
    tiles, gang_tiles, gangs = plan_of(kernels, rows)
    assert (tiles, gang_tiles, gangs) == expected
    segments = [Segment(512, [[0]], [300]), Segment(rows, [list(range(pages))], [rows])]
    work = np.zeros(gangs, int)
    for gang, *_, first, last, _, _ in pieces_of(kernels, 1, heads, segments, gangs, -(-tiles // gang_tiles)).tolist():
        work[gang] += last - first
    assert work.max() - work.min() <= 1


@pytest.mark.parametrize("multiprocessors", [1, 7, 78, 132])
def test_any_number_of_rows_keeps_the_multiprocessors_busy(kernels: Kernels, multiprocessors: int) -> None:
    for tiles in range(1, 300):
        planned, gang_tiles, gangs = plan_of(kernels, tiles * TILE_ROWS, multiprocessors)
        groups = -(-tiles // gang_tiles)
        assert planned == tiles and 1 <= gangs * gang_tiles <= multiprocessors
        assert gangs * gang_tiles / multiprocessors * tiles / (groups * gang_tiles) >= 0.94
