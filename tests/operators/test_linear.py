"""linear: activation(x W^T + bias) with a packed weight, on a CPU."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import aapt_ext
from aapt_ext import pack_weight, reference

from .backends import CPU_PATHS, every_path
from .rule import check


def random_arguments(rows, inputs, outputs, activation, bias=True):
    x = torch.randn(rows, inputs, dtype=torch.float64)
    weight = torch.randn(outputs, inputs, dtype=torch.float64) / inputs**0.5
    return x, weight, torch.randn(outputs, dtype=torch.float64) if bias else None, activation


def formula(x, weight, bias, activation):
    return reference.linear(x, weight, bias, activation, weight.shape[0])


def operator(x, weight, bias, activation):
    plain = aapt_ext.linear(x, weight, bias, activation=activation)
    packed = aapt_ext.linear(x, pack_weight(weight), bias, activation=activation, outputs=weight.shape[0])
    assert torch.equal(plain, packed)
    return packed


@every_path
@pytest.mark.parametrize("activation", ["none", "gelu_tanh", "silu"])
@pytest.mark.parametrize("shape", [(1, 2, 1), (48, 192, 576), (7, 34, 33), (65, 130, 16)])
def test_every_path_keeps_the_error_rule(path, dtype, activation, shape, seed):
    with aapt_ext.backend(path):
        check(operator, formula, random_arguments(*shape, activation), dtype)


@given(st.integers(1, 100), st.integers(1, 90), st.integers(1, 150), st.booleans(), st.integers(0, 2**31), st.data())
def test_any_shape_keeps_the_error_rule(rows, half_inputs, outputs, bias, seed, data):
    torch.manual_seed(seed)
    path, dtype = data.draw(st.sampled_from(CPU_PATHS))
    activation = data.draw(st.sampled_from(["none", "gelu_tanh", "silu"]))
    with aapt_ext.backend(path):
        check(operator, formula, random_arguments(rows, 2 * half_inputs, outputs, activation, bias), dtype)


@every_path
def test_rows_may_be_strided(path, dtype, seed):
    x, weight = torch.randn(9, 3, 32).to(dtype), torch.randn(20, 32).to(dtype)
    with aapt_ext.backend(path):
        assert torch.equal(aapt_ext.linear(x[:, 1], weight), aapt_ext.linear(x[:, 1].contiguous(), weight))


@pytest.mark.parametrize("activation", ["gelu_tanh", "silu"])
def test_activations_survive_large_values(activation):
    x = torch.tensor([[-1e4, -60.0], [60.0, 1e4]])
    for path in aapt_ext._C.cpu_backends():
        with aapt_ext.backend(path):
            out = aapt_ext.linear(x, torch.eye(2), activation=activation)
        torch.testing.assert_close(out, torch.where(x > 0, x, torch.zeros(())), rtol=1e-6, atol=1e-20)
