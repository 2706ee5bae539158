"""Where each instruction puts what: the emulator against the manual's formulas, and against a GPU's dump once there is
one (fixture `layout_h100.npz`, written by tools/dump_layout.py)."""

from pathlib import Path

import numpy as np
import pytest

from . import layout
from .conftest import Kernels

FIXTURE = Path(__file__).with_name("layout_h100.npz")
THREAD, INDEX = np.meshgrid(np.arange(layout.THREADS), np.arange(layout.ACCUMULATORS), indexing="ij")
LANE, WARP = THREAD % 32, THREAD // 32
ROW = 16 * WARP + LANE // 4 + 8 * (INDEX // 2 % 2)
COLUMN = 8 * (INDEX // 4) + 2 * (LANE % 4) + INDEX % 2


@pytest.fixture(scope="module")
def dump(kernels: Kernels) -> dict[str, np.ndarray]:
    out = np.full(kernels.compiled.layout_dump_size(), -1, np.int32)
    assert kernels("layout_dump", layout.source(), out) == ""
    return layout.split(out)


def test_box_is_swizzled_and_zero_beyond_the_tensor(dump: dict[str, np.ndarray]) -> None:
    page = layout.source().reshape(2, layout.ROWS, 2, 8, 8)[1]
    box = np.zeros((2, layout.BOX_ROWS, 8, 8), np.int32)  # [half, row, chunk, element]
    for row in range(layout.ROWS):
        for half in range(2):
            for chunk in range(8):
                line = half * layout.BOX_ROWS + row
                box[half, row, chunk ^ (line % 8)] = page[row, half, chunk]
    assert np.array_equal(dump["tma_box"], box.ravel())


def test_accumulators_are_spread_as_documented(dump: dict[str, np.ndarray]) -> None:
    assert np.array_equal(dump["accumulator_row"], ROW)
    assert np.array_equal(dump["accumulator_column"], COLUMN)


def test_a_in_registers_is_spread_as_documented(dump: dict[str, np.ndarray]) -> None:
    thread = np.zeros((64, 16), np.int32)
    slot = np.zeros((64, 16), np.int32)  # 2 register + half
    for t in range(layout.THREADS):
        for register in range(4):
            for half in range(2):
                row = 16 * (t // 32) + t % 32 // 4 + 8 * (register % 2)
                k = 8 * (register // 2) + 2 * (t % 4) + half
                thread[row, k], slot[row, k] = t, 2 * register + half
    seen = COLUMN < 16
    assert np.array_equal(dump["fragment_thread"][seen], thread[ROW[seen], COLUMN[seen]])
    assert np.array_equal(dump["fragment_slot"][seen], slot[ROW[seen], COLUMN[seen]])


@pytest.mark.parametrize("major", ["k_major", "mn_major"])
def test_b_is_the_same_matrix_in_either_order(dump: dict[str, np.ndarray], major: str) -> None:
    assert np.array_equal(dump[major], np.where(ROW < 16, 7 * ROW + COLUMN, 0))


def test_warp_matrices_move_as_documented(dump: dict[str, np.ndarray]) -> None:
    matrices = np.arange(4 * 64).reshape(4, 8, 8)
    for lane in range(32):
        for m in range(4):
            low, high = matrices[m, lane // 4, 2 * (lane % 4) : 2 * (lane % 4) + 2]
            assert dump["load_matrix"][lane, m] == low | high << 16
            low, high = matrices[m, 2 * (lane % 4) : 2 * (lane % 4) + 2, lane // 4]
            assert dump["load_transposed"][lane, m] == low | high << 16
            stored = dump["store_matrix"][m, lane // 4, 2 * (lane % 4) : 2 * (lane % 4) + 2]
            assert list(stored) == [lane * 8 + m * 2, lane * 8 + m * 2 + 1]


def test_warp_product_is_the_matrix_product(dump: dict[str, np.ndarray]) -> None:
    a, b = np.zeros((16, 16), int), np.zeros((16, 8), int)
    for lane in range(32):
        group, pair = lane // 4, 2 * (lane % 4)
        for i in range(4):
            a[group + 8 * (i % 2), pair + 8 * (i // 2)] = lane % 8 + i
            a[group + 8 * (i % 2), pair + 8 * (i // 2) + 1] = lane // 8 - i
        for i in range(2):
            b[pair + 8 * i, group] = lane % 5 - i
            b[pair + 8 * i + 1, group] = 3 * i + lane % 3
    c = a @ b
    for lane in range(32):
        for i in range(4):
            assert dump["warp_mma"][lane, i] == c[lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2]


def test_packing_rounds_ties_to_even_and_puts_the_first_low(dump: dict[str, np.ndarray]) -> None:
    low, high = int(dump["pack"][0]) & 0xFFFF, int(dump["pack"][0]) >> 16 & 0xFFFF
    assert low == 0x3F80  # 1 + 2^-8 is halfway between 1 and 1 + 2^-7; even is 1
    assert high == 0xBF82  # -(1 + 3 * 2^-8) goes to -(1 + 2^-6)


def test_emulator_agrees_with_the_gpu(dump: dict[str, np.ndarray]) -> None:
    if not FIXTURE.exists():
        pytest.skip("uncalibrated: no GPU has written layout_h100.npz yet (tools/dump_layout.py)")
    with np.load(FIXTURE) as gpu:
        for name, section in dump.items():
            assert np.array_equal(section, gpu[name]), name
