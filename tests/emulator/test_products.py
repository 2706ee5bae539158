"""patch_embed and denoise: the shipped CUDA sources in the emulator, under the error rule."""

import pytest
import torch
from operators.rule import check
from operators.test_denoise import random_arguments

from aapt_ext import reference

from .conftest import Kernels
from .operators import Emulated
from .test_rows import both_dtypes


def patch_arguments(batch, channels, height, width, outputs, bias=True):
    def randn(*shape):
        return torch.randn(shape, dtype=torch.float64)

    sources = [randn(batch, c, height, width) for c in channels]
    weight = randn(outputs, sum(channels), 2, 2) / (4 * sum(channels)) ** 0.5
    return sources, weight, randn(outputs) if bias else None, outputs


# Parts of a tile in tokens, outputs and inputs; sources that end within a stage; several stages; tokens of two streams
# in one tile.
EMBEDDINGS = [
    (1, [2], 2, 2, 8),
    (2, [3, 4, 1], 6, 10, 136),
    (1, [16, 20, 4], 10, 14, 40),
    (3, [5, 1, 7, 5], 4, 6, 128),
    (1, [34], 16, 18, 16),
]


@pytest.mark.parametrize("shape", EMBEDDINGS)
def test_patch_embed_on_tensor_cores_keeps_the_error_rule(kernels: Kernels, order: int, shape, seed) -> None:
    emulated = Emulated(kernels)
    check(emulated.patch_embed, reference.patch_embed, patch_arguments(*shape), torch.bfloat16)
    assert emulated.was_on_tensor_cores


@both_dtypes
@pytest.mark.parametrize("shape", [(2, [3], 4, 6, 13), (1, [2, 1], 2, 2, 1), (1, [40, 1], 2, 4, 7)])
def test_patch_embed_of_any_shape_keeps_the_error_rule(kernels: Kernels, order: int, dtype, shape, seed) -> None:
    emulated = Emulated(kernels)
    check(emulated.patch_embed, reference.patch_embed, patch_arguments(*shape), dtype)
    assert not emulated.was_on_tensor_cores


@both_dtypes
def test_patch_embed_needs_no_bias(kernels: Kernels, dtype, seed) -> None:
    check(Emulated(kernels).patch_embed, reference.patch_embed, patch_arguments(1, [4], 4, 4, 16, False), dtype)


def denoise_arguments(*shape, timestep=0.7, bias=True):
    return *random_arguments(*shape, timestep, bias), 1e-6


# (B, C, H, W, D): parts of a tile in tokens and inputs, two tiles of outputs, tiles that end with their stream.
DENOISINGS = [(1, 6, 2, 6, 8), (2, 3, 6, 10, 40), (1, 17, 4, 6, 264), (3, 16, 2, 6, 520), (1, 4, 4, 18, 32)]


@pytest.mark.parametrize("shape", DENOISINGS)
def test_denoise_on_tensor_cores_keeps_the_error_rule(kernels: Kernels, order: int, shape, seed) -> None:
    emulated = Emulated(kernels)
    check(emulated.denoise, reference.denoise, denoise_arguments(*shape), torch.bfloat16)
    assert emulated.was_on_tensor_cores


@both_dtypes
@pytest.mark.parametrize("shape", [(1, 1, 2, 2, 2), (2, 3, 6, 2, 34), (1, 5, 2, 4, 130)])
def test_denoise_of_any_shape_keeps_the_error_rule(kernels: Kernels, order: int, dtype, shape, seed) -> None:
    emulated = Emulated(kernels)
    check(emulated.denoise, reference.denoise, denoise_arguments(*shape), dtype)
    assert not emulated.was_on_tensor_cores


@both_dtypes
def test_denoise_at_timestep_zero_returns_the_latent(kernels: Kernels, dtype, seed) -> None:
    arguments = [a.to(dtype) if torch.is_tensor(a) else a for a in denoise_arguments(1, 4, 6, 8, 32, timestep=0.0)]
    assert torch.equal(Emulated(kernels).denoise(*arguments), arguments[5])


@both_dtypes
def test_denoise_needs_no_bias(kernels: Kernels, dtype, seed) -> None:
    check(Emulated(kernels).denoise, reference.denoise, denoise_arguments(1, 4, 4, 4, 16, bias=False), dtype)


def test_a_row_that_shared_memory_does_not_hold_goes_without_tensor_cores(kernels: Kernels, seed) -> None:
    emulated = Emulated(kernels)
    check(emulated.denoise, reference.denoise, denoise_arguments(1, 1, 2, 2, 4096), torch.bfloat16)
    assert not emulated.was_on_tensor_cores
