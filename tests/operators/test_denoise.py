"""denoise: norm, projection, unpatchify, x0 = noisy - t velocity."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import aapt_ext
from aapt_ext import pack_weight, reference

from .backends import CPU_PATHS, every_path
from .rule import check


def random_arguments(batch, channels, height, width, model_width, timestep, bias=True):
    def randn(*shape):
        return torch.randn(shape, dtype=torch.float64)

    tokens = height * width // 4
    return (
        randn(batch, tokens, model_width) * 3 + 1,
        randn(batch, model_width),
        randn(batch, model_width),
        randn(4 * channels, model_width) / model_width**0.5,
        randn(4 * channels) if bias else None,
        randn(batch, channels, height, width),
        timestep,
    )


def formula(x, scale, shift, weight, bias, noisy, timestep):
    return reference.denoise(x, scale, shift, weight, bias, noisy, timestep, 1e-6)


def operator(x, scale, shift, weight, bias, noisy, timestep):
    plain = aapt_ext.denoise(x, scale, shift, weight, bias, noisy, timestep)
    assert torch.equal(aapt_ext.denoise(x, scale, shift, pack_weight(weight), bias, noisy, timestep), plain)
    return plain


@every_path
@pytest.mark.parametrize("shape", [(1, 1, 2, 2, 2), (2, 16, 12, 16, 192), (1, 3, 6, 10, 34), (3, 5, 2, 4, 130)])
def test_every_path_keeps_the_error_rule(path, dtype, shape, seed):
    with aapt_ext.backend(path):
        check(operator, formula, random_arguments(*shape, 0.7), dtype)


@given(
    st.integers(1, 2),
    st.integers(1, 20),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 70),
    st.floats(0, 1),
    st.integers(0, 2**31),
    st.data(),
)
def test_any_shape_keeps_the_error_rule(batch, channels, height, width, half_width, timestep, seed, data):
    torch.manual_seed(seed)
    path, dtype = data.draw(st.sampled_from(CPU_PATHS))
    shape = batch, channels, 2 * height, 2 * width, 2 * half_width, timestep
    with aapt_ext.backend(path):
        check(operator, formula, random_arguments(*shape, data.draw(st.booleans())), dtype)


@every_path
def test_timestep_zero_returns_the_latent_itself(path, dtype, seed):
    x, scale, shift, weight, bias, noisy, _ = (
        a.to(dtype) if torch.is_tensor(a) else a for a in random_arguments(1, 4, 6, 8, 32, 0.0)
    )
    with aapt_ext.backend(path):
        assert torch.equal(aapt_ext.denoise(x, scale, shift, weight, bias, noisy, 0.0), noisy)


def test_unpatchify_inverts_a_patch_order(seed):
    """Output (2 y + x) C + c is channel c of pixel (y, x): Wan's order."""
    tokens = torch.arange(2 * 3 * 4 * 5, dtype=torch.float64).view(1, 6, 20)
    latent = reference.unpatchify(tokens, 4, 6)
    assert latent[0, 3, 2 * 1 + 1, 2 * 2 + 0] == tokens[0, 1 * 3 + 2, (2 * 1 + 0) * 5 + 3]
