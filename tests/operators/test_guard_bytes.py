"""No operator writes a byte outside its outputs."""

import pytest
import torch

import aapt_ext
from aapt_ext import _C, Segment

from .backends import every_path

GUARD = 64


class Guarded:
    """Outputs that lie between guard elements, filled with NaN to begin with."""

    def __init__(self, dtype):
        self.dtype, self.buffers = dtype, []

    def empty(self, *shape, dtype=None):
        size = int(torch.tensor(shape).prod())
        buffer = torch.full((size + 2 * GUARD,), 7.0, dtype=dtype or self.dtype)
        view = buffer[GUARD:-GUARD].view(shape)
        view.fill_(float("nan"))
        self.buffers.append((buffer, view))
        return view

    def assert_intact(self):
        for buffer, view in self.buffers:
            assert (buffer[:GUARD] == 7).all() and (buffer[-GUARD:] == 7).all(), "a guard element was overwritten"
            assert view.double().isfinite().all(), "an output element was not written"


def run_attention(g):
    k, v = torch.randn(2, 3, 2, 5, 18).to(g.dtype)
    one = torch.ones(1, dtype=torch.int32)
    segment = Segment(k, v, 5, torch.tensor([[2, 0]], dtype=torch.int32), 2 * one, 3 * one)
    aapt_ext.paged_attention(
        torch.randn(1, 7, 2, 18).to(g.dtype),
        [segment],
        out=g.empty(1, 7, 2, 18),
        lse=g.empty(1, 2, 7, dtype=torch.float32),
    )


def run_cache_write(g):
    rotation_dtype = torch.float64 if g.dtype == torch.float64 else torch.float32
    time, space = torch.randn(1, 4, 2, dtype=rotation_dtype), torch.randn(7, 5, 2, dtype=rotation_dtype)
    aapt_ext.cache_write(
        torch.randn(1, 7, 3, 2, 18).to(g.dtype),
        *torch.randn(2, 36).to(g.dtype),
        time,
        space,
        torch.tensor([0], dtype=torch.int32),
        g.empty(1, 2, 7, 18),
        g.empty(1, 2, 7, 18),
        pinned_rotation=time,
        q=g.empty(1, 7, 2, 18),
        q_pinned=g.empty(1, 7, 2, 18),
    )


def run_patch_embed(g):
    sources = [torch.randn(1, 3, 6, 10).to(g.dtype)] * 2
    aapt_ext.patch_embed(sources, torch.randn(13, 6, 2, 2).to(g.dtype), out=g.empty(1, 15, 13))


def run_modulate(g):
    x, y = torch.randn(2, 2, 7, 37).to(g.dtype)
    aapt_ext.modulate(x, y, residual=g.empty(2, 7, 37), out=g.empty(2, 7, 37))
    fp8, row_scale = g.empty(2, 7, 37, dtype=torch.float8_e4m3fn), g.empty(2, 7, dtype=torch.float32)
    aapt_ext.modulate(x, out=fp8, row_scale=row_scale, quantised=True)


def run_quantise(g):
    fp8, row_scale = g.empty(7, 37, dtype=torch.float8_e4m3fn), g.empty(7, dtype=torch.float32)
    aapt_ext.quantise(torch.randn(7, 37).to(g.dtype), "gelu_tanh", out=fp8, row_scale=row_scale)


def run_denoise(g):
    x, vectors = torch.randn(1, 15, 26).to(g.dtype), torch.randn(2, 1, 26).to(g.dtype)
    noisy, weight = torch.randn(1, 3, 6, 10).to(g.dtype), torch.randn(12, 26).to(g.dtype)
    aapt_ext.denoise(x, *vectors, weight, None, noisy, out=g.empty(1, 3, 6, 10))


def run_linear(g):
    aapt_ext.linear(torch.randn(7, 26).to(g.dtype), torch.randn(13, 26).to(g.dtype), out=g.empty(7, 13))


RUNS = [run_attention, run_cache_write, run_patch_embed, run_modulate, run_quantise, run_denoise, run_linear]


@every_path
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__.removeprefix("run_"))
def test_bytes_around_the_outputs_stay(path, dtype, run, seed):
    guarded = Guarded(dtype)
    with aapt_ext.backend(path):
        run(guarded)
    guarded.assert_intact()


def test_every_operator_is_guarded():
    assert len(RUNS) == len(aapt_ext.dispatch.OPERATORS)
    assert all(hasattr(_C, operator) for operator in aapt_ext.dispatch.OPERATORS)
