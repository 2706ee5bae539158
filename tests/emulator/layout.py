"""The sections of the layout dump, as `csrc/emulator/layout_dump.cuh` orders them."""

import numpy as np

ROWS, BOX_ROWS, COLUMNS, WIDTH, THREADS = 20, 24, 128, 128, 128
ACCUMULATORS = WIDTH // 2
PER_THREAD = (THREADS, ACCUMULATORS)

SECTIONS: dict[str, tuple[int, ...]] = {
    "tma_box": (BOX_ROWS * COLUMNS,),
    "accumulator_row": PER_THREAD,
    "accumulator_column": PER_THREAD,
    "fragment_thread": PER_THREAD,
    "fragment_slot": PER_THREAD,
    "k_major": PER_THREAD,
    "mn_major": PER_THREAD,
    "load_matrix": (32, 4),
    "load_transposed": (32, 4),
    "store_matrix": (4, 8, 8),
    "warp_mma": (32, 4),
    "pack": (1,),
}


def source() -> np.ndarray:
    """The dumped tensor: bit patterns 0, 1, 2, ... over [2 pages, 20 rows, 128 columns], uint16."""
    return np.arange(2 * ROWS * COLUMNS, dtype=np.uint16)


def split(dump: np.ndarray) -> dict[str, np.ndarray]:
    """The int32 dump by section."""
    sections, at = {}, 0
    for name, shape in SECTIONS.items():
        size = int(np.prod(shape))
        sections[name] = dump[at : at + size].reshape(shape)
        at += size
    assert at == dump.size
    return sections
