"""The emulator runs correct kernels to the right result in any thread order, and notices planted mistakes.

The kernels and the list of mistakes are in kernels.cuh.
"""

import numpy as np
import pytest

from .conftest import Kernels, from_bf16, to_bf16

BUGS = [
    "correct",
    "missing arrive",
    "wrong parity",
    "no wait for data",
    "early release",
    "no wait for result",
    "no register fence",
    "wrong descriptor step",
    "no barrier fence",
    "too few bytes",
    "dropped syncthreads",
    "copy wait one too high",
    "one warp releases",
]


def gemm(kernels: Kernels, name: str, m: int, n: int, k: int, bug: str = "correct") -> tuple[str, float]:
    """The emulator's objection and the largest error relative to the largest element."""
    rng = np.random.default_rng(0)
    a, b = to_bf16(rng.normal(size=(m, k))), to_bf16(rng.normal(size=(n, k)))
    c = np.full((m, n), np.nan, np.float32)
    objection = kernels(name, a, b, c, m, n, k, BUGS.index(bug))
    truth = from_bf16(a) @ from_bf16(b).T
    return objection, float(np.max(np.abs(c - truth)) / np.max(np.abs(truth)))


def test_sm90_gemm_is_right_in_any_thread_order(kernels: Kernels, order: int) -> None:
    objection, error = gemm(kernels, "gemm_sm90", 200, 136, 384)
    assert objection == ""
    assert error < 1e-6


def test_sm80_gemm_is_right_in_any_thread_order(kernels: Kernels, order: int) -> None:
    objection, error = gemm(kernels, "gemm_sm80", 64, 128, 96)
    assert objection == ""
    assert error < 1e-6


@pytest.mark.parametrize(
    "bug, says",
    [
        ("missing arrive", "deadlock"),
        ("wrong parity", ""),
        ("no wait for data", ""),
        ("early release", ""),
        ("no wait for result", ""),
        ("no register fence", "wgmma_fence"),
        ("wrong descriptor step", ""),
        ("no barrier fence", "fence_mbarrier_init"),
        ("too few bytes", ""),
        ("one warp releases", ""),
    ],
)
def test_mistake_in_sm90_gemm_is_noticed_in_every_order(kernels: Kernels, bug: str, says: str, order: int) -> None:
    objection, error = gemm(kernels, "gemm_sm90", 128, 128, 2048, bug)
    assert objection or not error < 1e-3
    assert says in objection


@pytest.mark.parametrize("bug", ["copy wait one too high", "dropped syncthreads"])
def test_mistake_in_sm80_gemm_is_noticed(kernels: Kernels, bug: str, order: int) -> None:
    objection, error = gemm(kernels, "gemm_sm80", 128, 128, 1024, bug)
    assert objection or not error < 1e-3


def test_row_sums_meet_across_warps(kernels: Kernels, order: int) -> None:
    x = np.random.default_rng(1).normal(size=(5, 300)).astype(np.float32)
    out = np.full(5, np.nan, np.float32)
    assert kernels("row_sums", x, out, 5, 300, 0) == ""
    np.testing.assert_allclose(out, x.sum(1), rtol=1e-5)


def test_shared_memory_starts_as_nan(kernels: Kernels, order: int) -> None:
    x, out = np.ones((64, 128), np.float32), np.zeros(64, np.float32)
    kernels("row_sums", x, out, 64, 128, BUGS.index("dropped syncthreads"))
    assert np.isnan(out).any()


def test_multicast_reaches_both_blocks_of_a_cluster(kernels: Kernels, order: int) -> None:
    tiles = np.arange(2 * 64 * 64, dtype=np.uint16)
    out = np.zeros((2, tiles.size), np.uint16)
    assert kernels("multicast", tiles, out, 0) == ""
    # Shared memory is dumped as it lies: chunks of eight elements are swizzled within each row.
    row, chunk, element = np.meshgrid(np.arange(128), np.arange(8), np.arange(8), indexing="ij")
    swizzled = tiles.reshape(128, 8, 8)[row, chunk ^ (row % 8), element]
    for block in out:
        assert np.array_equal(block.reshape(128, 8, 8), swizzled)


@pytest.mark.parametrize("bug", ["no wait for data", "missing arrive"])
def test_mistake_in_multicast_is_noticed(kernels: Kernels, bug: str, order: int) -> None:
    tiles = np.arange(2 * 64 * 64, dtype=np.uint16)
    assert kernels("multicast", tiles, np.zeros((2, tiles.size), np.uint16), BUGS.index(bug)) != ""


def test_named_barriers_hand_over_in_both_directions(kernels: Kernels, order: int) -> None:
    value, out = np.arange(64, dtype=np.int32), np.zeros(64, np.int32)
    assert kernels("hand_over", value, out, 0) == ""
    assert np.array_equal(out, 2 * (value + 1))


def test_deadlock_names_the_threads_and_what_they_wait_for(kernels: Kernels, order: int) -> None:
    out = np.zeros(64, np.int32)
    objection = kernels("hand_over", np.arange(64, dtype=np.int32), out, BUGS.index("missing arrive"))
    assert "deadlock" in objection
    assert "thread 0 to 63 ended" in objection
    assert "thread 64 to 127 waits for barrier 2 (64 of 128 threads came)" in objection


def test_the_same_seed_gives_the_same_bits(kernels: Kernels) -> None:
    rng = np.random.default_rng(2)
    a, b = to_bf16(rng.normal(size=(128, 128))), to_bf16(rng.normal(size=(128, 128)))
    results = []
    for seed in (5, 5, 6):
        kernels.seed(seed)
        c = np.full((128, 128), np.nan, np.float32)
        assert kernels("gemm_sm90", a, b, c, 128, 128, 128, 0) == ""
        results.append(c)
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
