"""patch_embed: 2x2 patches of several channel groups times one weight."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import aapt_ext
from aapt_ext import pack_weight, reference, unpack_weight

from .backends import CPU_PATHS, every_path
from .rule import check


def random_arguments(batch, channels, height, width, outputs, bias=True):
    sources = [torch.randn(batch, c, height, width, dtype=torch.float64) for c in channels]
    weight = torch.randn(outputs, sum(channels), 2, 2, dtype=torch.float64)
    return sources, weight, torch.randn(outputs, dtype=torch.float64) if bias else None


def formula(sources, weight, bias):
    return reference.patch_embed(sources, weight, bias, weight.shape[0])


def operator(sources, weight, bias):
    plain = aapt_ext.patch_embed(sources, weight, bias)
    if bias is not None:
        assert torch.equal(aapt_ext.patch_embed(sources, pack_weight(weight), bias), plain)
    return plain


@every_path
@pytest.mark.parametrize(
    "shape", [(1, (1,), 2, 2, 1), (2, (16, 12, 16), 12, 16, 192), (1, (3, 5), 6, 10, 33), (1, (4, 4, 4, 4), 4, 2, 17)]
)
def test_every_path_keeps_the_error_rule(path, dtype, shape, seed):
    with aapt_ext.backend(path):
        check(operator, formula, random_arguments(*shape), dtype)


@given(
    st.integers(1, 2),
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 70),
    st.integers(0, 2**31),
    st.data(),
)
def test_any_shape_keeps_the_error_rule(batch, channels, height, width, outputs, seed, data):
    torch.manual_seed(seed)
    path, dtype = data.draw(st.sampled_from(CPU_PATHS))
    arguments = random_arguments(batch, channels, 2 * height, 2 * width, outputs, data.draw(st.booleans()))
    with aapt_ext.backend(path):
        check(operator, formula, arguments, dtype)


def test_it_is_a_convolution_of_the_concatenation(seed):
    sources, weight, bias = random_arguments(2, (3, 2, 4), 8, 6, 11)
    convolved = F.conv2d(torch.cat(sources, 1), weight, bias, stride=2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(aapt_ext.patch_embed(sources, weight, bias), convolved, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(1, 2), (16, 4), (17, 6), (100, 64)])
def test_packing_a_weight_loses_nothing(dtype, shape, seed):
    weight = torch.randn(shape).to(dtype)
    assert torch.equal(unpack_weight(pack_weight(weight), shape[0]), weight)
