"""The operators from CuPy, on the caller's stream."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

import aapt_ext

pytestmark = pytest.mark.gpu


@pytest.fixture
def cp() -> Any:
    return pytest.importorskip("cupy", reason="CuPy is not installed: pip install '.[cupy]'")


def test_the_example_runs(cp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[2] / "examples" / "cupy_operators.py"
    runpy.run_path(str(example), run_name="__main__")
    assert "largest error" in capsys.readouterr().out


def test_cupy_and_torch_get_the_same_bits(cp: Any, seed: int) -> None:
    x = torch.randn(1, 40, 64, device="cuda")
    _, expected = aapt_ext.modulate(x)
    _, found = aapt_ext.modulate(cp.asarray(x))
    assert torch.equal(torch.from_dlpack(found), expected)


def test_work_goes_to_cupys_stream(cp: Any, seed: int) -> None:
    """The input is made on the stream behind long work; a kernel elsewhere would read what was there before."""
    truth, big = cp.random.standard_normal((1, 40, 64), dtype=cp.float32), cp.zeros(1 << 28, cp.float32)
    _, expected = aapt_ext.modulate(truth)
    cp.cuda.Device().synchronize()
    with cp.cuda.Stream(non_blocking=True) as stream:
        x = cp.full_like(truth, cp.nan)
        for _ in range(20):
            big += 1
        x[...] = truth
        _, found = aapt_ext.modulate(x)
        stream.synchronize()
    assert (found == expected).all()
