"""modulate, quantise and cache_write: the shipped CUDA sources in the emulator, under the error rule."""

import ctypes

import pytest
import torch
from operators.rule import assert_within_rule, cast, check, summed_in_own_dtype
from operators.test_cache_write import Frame
from operators.test_quantise import activated, assert_quantised

from aapt_ext import reference

from .conftest import Kernels
from .operators import NAN, Emulated

DTYPES = [torch.bfloat16, torch.float32]
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def modulate_arguments(batch, rows, width, present="gate scale shift weight bias"):
    """x and y far from zero, as a residual stream is; and the vectors that are named."""
    x, y = (torch.randn(batch, rows, width, dtype=torch.float64) * 3 + 5 for _ in range(2))
    vectors = [
        torch.randn(batch if name in ("gate", "scale", "shift") else 1, width, dtype=torch.float64)
        if name in present
        else None
        for name in ("gate", "scale", "shift", "weight", "bias")
    ]
    return (x, y, *vectors[:3], *(None if v is None else v[0] for v in vectors[3:]), 1e-6)


# Widths: less than a warp of vectors, several warps, a part of a vector, odd, more than a warp per thread.
@both_dtypes
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 3, 264), (3, 2, 1536), (2, 2, 37), (1, 2, 1029), (1, 1, 1)])
def test_modulate_keeps_the_error_rule(kernels: Kernels, order: int, dtype, shape, seed) -> None:
    emulated = Emulated(kernels)
    arguments = modulate_arguments(*shape)
    check(emulated.residual_modulate, reference.residual_modulate, arguments, dtype)
    x, _, _, *rest = arguments
    check(emulated.modulate, reference.modulate, (x, *rest), dtype)


@both_dtypes
@pytest.mark.parametrize("present", ["", "gate", "scale", "shift", "weight", "bias"])
def test_modulate_takes_any_of_its_vectors(kernels: Kernels, dtype, present, seed) -> None:
    check(
        Emulated(kernels).residual_modulate, reference.residual_modulate, modulate_arguments(2, 2, 40, present), dtype
    )


@both_dtypes
def test_modulate_takes_arrays_that_begin_anywhere(kernels: Kernels, dtype, seed) -> None:
    check(
        Emulated(kernels, offset=1).residual_modulate, reference.residual_modulate, modulate_arguments(1, 2, 64), dtype
    )


def hold_quantised_modulate(emulated, arguments, dtype):
    rounded = cast(arguments, dtype)
    residual, exact = reference.residual_modulate(*cast(rounded, torch.float64))
    found, *quantised = emulated.residual_modulate_quantised(*rounded)
    torch.testing.assert_close(found, residual.to(dtype), rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)
    assert_quantised(quantised, exact)


def hold_quantise(emulated, rows, width, activation, dtype):
    x = (3 * torch.randn(rows, width)).to(dtype)
    assert_quantised(emulated.quantise(x, activation), activated(x.double(), activation))


@both_dtypes
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 3, 264), (1, 2, 1536), (2, 2, 37), (1, 1, 1029)])
def test_modulate_quantises_its_result(kernels: Kernels, order: int, dtype, shape, seed) -> None:
    hold_quantised_modulate(Emulated(kernels), modulate_arguments(*shape), dtype)


# Widths: one thread's vectors, less, some more warps, a part of a vector, odd, and several vectors for most threads.
@both_dtypes
@pytest.mark.parametrize("activation", ["none", "gelu_tanh"])
@pytest.mark.parametrize("shape", [(2, 32), (3, 8), (2, 1536), (2, 37), (1, 1029), (1, 4100)])
def test_quantise_stays_within_half_a_step(kernels: Kernels, order: int, dtype, activation, shape, seed) -> None:
    hold_quantise(Emulated(kernels), *shape, activation, dtype)


@both_dtypes
def test_fp8_arrays_may_begin_anywhere(kernels: Kernels, dtype, seed) -> None:
    hold_quantise(Emulated(kernels, offset=1), 2, 64, "none", dtype)
    hold_quantised_modulate(Emulated(kernels, offset=1), modulate_arguments(1, 2, 64), dtype)


@both_dtypes
def test_quantise_equals_the_reference_bit_for_bit(kernels: Kernels, dtype, seed) -> None:
    """Without an activation nothing but IEEE operations happens."""
    x = torch.randn(7, 300).to(dtype)
    x[3] = 0
    for found, expected in zip(Emulated(kernels).quantise(x, "none"), reference.quantise(x, "none"), strict=True):
        assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8))


def test_a_row_that_no_block_holds_is_refused(kernels: Kernels) -> None:
    wide = torch.zeros(1, 16385)
    with pytest.raises(AssertionError, match="x has width K = 16385; it must be at most 16384"):
        Emulated(kernels).quantise(wide, "none")


def test_conversion_to_e4m3_rounds_to_even_and_saturates(kernels: Kernels, seed) -> None:
    """Every bfloat16, and floats around the ties."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16).float()
    steps = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    steps = steps[steps.isfinite()].sort().values
    ties = (steps[1:] + steps[:-1]) / 2
    near = [torch.nextafter(ties, torch.tensor(to)) for to in (-torch.inf, torch.inf)]
    x = torch.cat([every, steps, ties, *near, 500 * torch.randn(10_000), torch.randn(10_000) / 100])
    x = x[: len(x) // 2 * 2]
    found = torch.zeros(len(x), dtype=torch.uint8)
    kernels.compiled.convert_to_e4m3(ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(found.data_ptr()), len(x) // 2)
    expected = x.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8)
    nan = x.isnan()
    assert nan.sum() > 200 and (found[nan] & 0x7F == 0x7F).all()
    assert torch.equal(found[~nan], expected[~nan])


class Pages:
    """Pages [pages, h, rows, d] of NaN, one run of memory per head or per row."""

    def __init__(self, frame, dtype, layout, pages=6):
        _, rows, _, heads, head_dim = frame.qkv.shape
        if layout == "row by row":
            storage = torch.full((2, pages, rows, heads, head_dim), NAN, dtype=dtype).transpose(2, 3)
        else:
            storage = torch.full((2, pages, heads, rows, head_dim), NAN, dtype=dtype)
        self.k, self.v = storage


def write(emulated, frame, dtype, layout="head by head", numbers=(3, 1, 4)):
    pages = Pages(frame, dtype, layout)
    page = torch.tensor(numbers[: frame.qkv.shape[0]], dtype=torch.int32)
    q, q_pinned, bad_page = emulated.cache_write(*frame.inputs(dtype), page, pages.k, pages.v)
    return q, q_pinned, pages, page.tolist(), bad_page


def hold_against_reference(emulated, frame, dtype, layout="head by head"):
    q, q_pinned, pages, numbers, bad_page = write(emulated, frame, dtype, layout)
    assert bad_page == 0
    others = [n for n in range(6) if n not in numbers]
    assert pages.k[others].isnan().all() and pages.v[others].isnan().all(), "another page was written"
    k, v = (side[numbers].transpose(1, 2) for side in (pages.k, pages.v))
    inputs = frame.inputs(dtype)
    assert torch.equal(v, inputs[0][:, :, 2]), "values arrive bit for bit"
    exact = reference.norm_and_rotate(*cast(inputs, torch.float64))
    with summed_in_own_dtype():
        composed = reference.norm_and_rotate(*inputs)
    assert_within_rule((q, k, v, q_pinned), exact, composed)


@both_dtypes
@pytest.mark.parametrize("norm", ["none", "head", "all"])
@pytest.mark.parametrize("shape", [(2, 3, 2, 64), (1, 2, 3, 18), (1, 1, 1, 2), (3, 2, 5, 40)])
def test_cache_write_keeps_the_error_rule(kernels: Kernels, order: int, dtype, norm, shape, seed) -> None:
    hold_against_reference(Emulated(kernels), Frame(*shape, norm), dtype)


@both_dtypes
@pytest.mark.parametrize("shape", [(1, 1, 12, 128), (1, 1, 9, 250)])
def test_a_token_is_spread_over_many_warps(kernels: Kernels, order: int, dtype, shape, seed) -> None:
    hold_against_reference(Emulated(kernels), Frame(*shape, "all"), dtype)


@both_dtypes
def test_pages_may_have_other_strides_and_outputs_begin_anywhere(kernels: Kernels, dtype, seed) -> None:
    hold_against_reference(Emulated(kernels), Frame(2, 3, 2, 16, "head"), dtype, "row by row")
    hold_against_reference(Emulated(kernels, offset=2), Frame(2, 3, 2, 16, "all"), dtype)


@pytest.mark.parametrize(("number", "flag"), [(6, 7), (900, 901), (-1, 1)])
def test_a_page_beyond_the_pool_is_reported_and_not_written(kernels: Kernels, number, flag, seed) -> None:
    frame = Frame(2, 3, 2, 16, "all")
    q, _, pages, _, bad_page = write(Emulated(kernels), frame, torch.bfloat16, numbers=(2, number))
    assert bad_page == flag
    assert q.isfinite().all()
    for side in (pages.k, pages.v):
        assert side[2].isfinite().all() and side[[0, 1, 3, 4, 5]].isnan().all()
