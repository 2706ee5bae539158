"""Paged attention for Hopper in the emulator, and its float64 reference."""

import ctypes
from dataclasses import dataclass, field

import numpy as np

from .conftest import Kernels, from_bf16, to_bf16

TILE_ROWS, TILE_KEYS = 128, 176
POISON = 0x7FC0  # a bf16 NaN


class SegmentArrays(ctypes.Structure):
    """`SegmentArrays` of attention.cpp."""

    _fields_ = (
        [(name, ctypes.c_void_p) for name in ("k", "v", "table", "count", "last")]
        + [(name, ctypes.c_int) for name in ("pages", "rows", "listed", "query")]
    )  # fmt: skip


@dataclass
class Segment:
    """Pages of `rows` keys; each stream lists some, of which the last holds `last` valid keys."""

    rows: int
    listed: list[list[int]]  # page numbers per stream
    last: list[int]  # per stream
    query: int = 0
    pages: int = 0  # of the pool; default: as many as the numbers need and one more
    k: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))  # [pages, h, rows, d] bf16
    v: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))
    table: np.ndarray = field(init=False)
    count: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        width = max(1, *(len(pages) for pages in self.listed))
        # Entries past the count must never be read as page numbers.
        self.table = np.full((len(self.listed), width), 1 << 20, np.int32)
        for b, pages in enumerate(self.listed):
            self.table[b, : len(pages)] = pages
        self.count = np.array([len(pages) for pages in self.listed], np.int32)
        self.last_rows = np.array(self.last, np.int32)
        self.pages = self.pages or 2 + max([-1, *(page for pages in self.listed for page in pages)])

    def fill(self, rng: np.random.Generator, heads: int, head_dim: int) -> None:
        """Random keys and values where some stream may look; NaN everywhere else."""
        shape = (self.pages, heads, self.rows, head_dim)
        valid = np.zeros((self.pages, self.rows), bool)
        for b, pages in enumerate(self.listed):
            for i, page in enumerate(pages):
                valid[page, : self.last[b] if i + 1 == len(pages) else self.rows] = True
        mask = np.broadcast_to(valid[:, None, :, None], shape)
        self.k = np.where(mask, to_bf16(rng.normal(size=shape)), POISON).astype(np.uint16)
        self.v = np.where(mask, to_bf16(rng.normal(size=shape)), POISON).astype(np.uint16)

    def arrays(self) -> SegmentArrays:
        pointers = (self.k, self.v, self.table, self.count, self.last_rows)
        shape = (self.pages, self.rows, self.table.shape[1], self.query)
        return SegmentArrays(*(a.ctypes.data for a in pointers), *shape)

    def keys_of(self, b: int, head: int) -> tuple[np.ndarray, np.ndarray]:
        """Valid keys and values of a stream's head in order, [n, d] float64."""
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for i, page in enumerate(self.listed[b]):
            n = self.last[b] if i + 1 == len(self.listed[b]) else self.rows
            parts.append((self.k[page, head, :n], self.v[page, head, :n]))
        empty = np.zeros((0, self.k.shape[3]), np.uint16)
        k, v = (np.concatenate([empty, *side]) for side in (zip(*parts, strict=True) if parts else ((), ())))
        return from_bf16(k), from_bf16(v)


def c_segments(segments: list[Segment]) -> ctypes.Array[SegmentArrays]:
    return (SegmentArrays * len(segments))(*(s.arrays() for s in segments))


@dataclass
class Case:
    """One call: q [B, L, h, d] for each query, segments, and how many gangs share the work."""

    rows: int
    heads: int
    head_dim: int
    segments: list[Segment]
    gangs: int = 1
    gang_tiles: int = 0
    """Query tiles of a group; 0 for all."""
    queries: int = 1
    seed: int = 0
    q: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.batch = len(self.segments[0].listed)
        shape = (self.batch, self.rows, self.heads, self.head_dim)
        self.q = [to_bf16(1.5 * rng.normal(size=shape)) for _ in range(self.queries)]
        for segment in self.segments:
            segment.fill(rng, self.heads, self.head_dim)
        self.scale = self.head_dim**-0.5

    def run(self, kernels: Kernels) -> tuple[str, np.ndarray, np.ndarray, int]:
        """The emulator's objection, out [B, L, h, d] float64, lse [B, h, L], the flag for bad pages."""
        out = np.full(self.q[0].shape, POISON, np.uint16)
        lse = np.full((self.batch, self.heads, self.rows), np.nan, np.float32)
        floats = kernels.compiled.sm90_workspace_floats(self.rows, self.head_dim, self.gang_tiles, self.gangs)
        workspace, bad_page = np.full(floats, np.nan, np.float32), np.zeros(1, np.int32)
        objection = kernels(
            "paged_attention", self.q[0], self.q[1] if self.queries > 1 else None, c_segments(self.segments),
            len(self.segments), self.batch, self.rows, self.heads, self.head_dim, self.gang_tiles, self.gangs,
            self.scale, out, lse, workspace, bad_page,
        )  # fmt: skip
        return objection, from_bf16(out), lse, int(bad_page[0])

    def reference(self, low_precision: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The formula in float64; or, for the size of errors to expect, with the roundings of a bf16 composition."""
        rounded = (lambda x: from_bf16(to_bf16(x))) if low_precision else (lambda x: x)
        out = np.zeros(self.q[0].shape)
        lse = np.full((self.batch, self.heads, self.rows), -np.inf)
        for b in range(self.batch):
            for h in range(self.heads):
                scores, values = [], []
                for segment in self.segments:
                    k, v = segment.keys_of(b, h)
                    scores.append(rounded(from_bf16(self.q[segment.query][b, :, h]) @ k.T * self.scale))
                    values.append(v)
                s, v = np.concatenate(scores, 1), np.concatenate(values)
                if s.shape[1] == 0:
                    continue
                top = s.max(1, keepdims=True)
                weights = np.exp(s - top)
                lse[b, h] = (top + np.log(weights.sum(1, keepdims=True)))[:, 0]
                out[b, :, h] = rounded(rounded(weights / weights.sum(1, keepdims=True)) @ v)
        return out, lse


def assert_right(case: Case, kernels: Kernels) -> None:
    """The error rule: at most twice the error of the composition in bf16, and 1e-5."""
    objection, out, lse, bad_page = case.run(kernels)
    assert objection == ""
    assert bad_page == 0
    truth, truth_lse = case.reference()
    composed, _ = case.reference(low_precision=True)
    assert np.isfinite(out).all()
    for statistic in (np.max, np.mean):
        assert statistic(np.abs(out - truth)) <= 2 * statistic(np.abs(composed - truth)) + 1e-5
    np.testing.assert_allclose(lse, truth_lse, rtol=1e-5, atol=1e-5)
