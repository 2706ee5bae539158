"""The emulator's reading of the instructions against the GPU itself."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from emulator import layout
from emulator.conftest import Kernels, kernels

__all__ = ["kernels"]

sys.path.insert(0, str(Path(__file__).parents[2]))

pytestmark = pytest.mark.gpu


def test_emulator_puts_everything_where_the_gpu_does(kernels: Kernels) -> None:
    if torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("wgmma and TMA as emulated are Hopper's")
    from tools import dump_layout

    emulated = np.full(kernels.compiled.layout_dump_size(), -1, np.int32)
    assert kernels("layout_dump", layout.source(), emulated) == ""
    sections, gpu = layout.split(emulated), dump_layout.take_dump()
    different = [name for name in sections if not np.array_equal(sections[name], gpu[name])]
    assert not different
