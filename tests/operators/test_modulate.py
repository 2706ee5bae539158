"""modulate: residual = x + gate y, out = (norm(residual) weight + bias) (1 + scale) + shift."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import aapt_ext
from aapt_ext import reference

from .backends import CPU_PATHS, every_path
from .rule import assert_within_rule, cast, check, summed_in_own_dtype


def random_arguments(batch, rows, width, present):
    """x, y, gate, scale, shift, weight, bias; None where `present` says so."""
    shapes = [(batch, rows, width)] * 2 + [(batch, width)] * 3 + [(width,)] * 2
    return [
        torch.randn(shape, dtype=torch.float64) * 2 if here else None
        for shape, here in zip(shapes, [True, *present], strict=True)
    ]


def formula(x, y, gate, scale, shift, weight, bias):
    if y is None:
        return reference.modulate(x, scale, shift, weight, bias, 1e-6)
    return reference.residual_modulate(x, y, gate, scale, shift, weight, bias, 1e-6)


def operator(x, y, gate, scale, shift, weight, bias):
    residual, out = aapt_ext.modulate(x, y, gate=gate, scale=scale, shift=shift, weight=weight, bias=bias)
    return out if y is None else (residual, out)


@every_path
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 17, 33), (1, 300, 384), (3, 5, 1536)])
@pytest.mark.parametrize("present", [(1, 1, 1, 1, 0, 0), (0, 0, 1, 1, 0, 0), (1, 0, 0, 0, 1, 1), (0, 0, 0, 0, 0, 0)])
def test_every_path_keeps_the_error_rule(path, dtype, shape, present, seed):
    with aapt_ext.backend(path):
        check(operator, formula, random_arguments(*shape, present), dtype)


@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 200), st.integers(0, 2**31), st.data())
def test_any_shape_keeps_the_error_rule(batch, rows, width, seed, data):
    torch.manual_seed(seed)
    path, dtype = data.draw(st.sampled_from(CPU_PATHS))
    present = data.draw(st.tuples(*[st.booleans()] * 6).filter(lambda p: p[0] or not p[1]))
    with aapt_ext.backend(path):
        check(operator, formula, random_arguments(batch, rows, width, present), dtype)


@every_path
def test_residual_may_be_written_over_x(path, dtype, seed):
    x, y = (torch.randn(2, 9, 40).to(dtype) for _ in range(2))
    with aapt_ext.backend(path):
        residual, out = aapt_ext.modulate(x, y)
        in_place = x.clone()
        aapt_ext.modulate(in_place, y, residual=in_place, out=(again := torch.empty_like(x)))
    assert torch.equal(in_place, residual)
    assert torch.equal(again, out)


def test_large_means_do_not_cancel(seed):
    """Two passes over a row, not E[x^2] - E[x]^2."""
    x = torch.randn(1, 4, 256, dtype=torch.float64) + 1000
    for path in aapt_ext._C.cpu_backends():
        with aapt_ext.backend(path):
            ours = aapt_ext.modulate(x.float())[1]
        with summed_in_own_dtype():
            composed = reference.modulate(x.float(), None, None, None, None, 1e-6)
        exact = reference.modulate(cast(x.float(), torch.float64), None, None, None, None, 1e-6)
        assert_within_rule(ours, exact, composed)
