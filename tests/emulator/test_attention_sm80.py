"""Paged attention for every GPU: the shipped CUDA sources in the emulator, under the error rule.

Pages that nobody lists and rows past the last valid one are NaN; table entries past the count are no page numbers.
"""

import pytest
import torch
from operators.rule import assert_within_rule, summed_in_own_dtype
from operators.test_paged_attention import SHAPES, Case

from aapt_ext import reference

from .conftest import Kernels
from .operators import Emulated
from .test_rows import both_dtypes

NOT_TENSOR_CORES = {"one key"}
ON_TENSOR_CORES = [name for name in SHAPES if name not in NOT_TENSOR_CORES]


def hold_against_reference(emulated: Emulated, case: Case, tensor_cores: bool) -> None:
    *result, bad_page = emulated.paged_attention(*case.formula_arguments(), tensor_cores)
    assert bad_page == 0
    exact = reference.paged_attention(*case.formula_arguments(torch.float64))
    with summed_in_own_dtype():
        composed = reference.paged_attention(*case.formula_arguments())
    assert_within_rule(tuple(result), exact, composed)


@pytest.mark.parametrize("shape", ON_TENSOR_CORES)
def test_tensor_cores_keep_the_error_rule(kernels: Kernels, order: int, shape: str, seed: int) -> None:
    hold_against_reference(Emulated(kernels), Case(*SHAPES[shape], torch.bfloat16, "plain"), tensor_cores=True)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 129])
@pytest.mark.parametrize("head_dim", [8, 72, 200])
def test_pages_of_any_size_and_heads_of_any_multiple_of_eight(kernels: Kernels, rows, head_dim, seed) -> None:
    case = Case(1, 3, 2, head_dim, [(rows, [3], [max(1, rows - 5)], 0)], torch.bfloat16, "plain")
    hold_against_reference(Emulated(kernels), case, tensor_cores=True)


@pytest.mark.parametrize("rows", [1, 64, 65, 150])
def test_any_number_of_queries(kernels: Kernels, order: int, rows: int, seed: int) -> None:
    case = Case(2, rows, 1, 64, [(20, [2, 1], [7, 20], 0), (70, [1, 2], [70, 1], 1)], torch.bfloat16, "plain")
    hold_against_reference(Emulated(kernels), case, tensor_cores=True)


def test_the_query_changes_with_every_segment(kernels: Kernels, order: int, seed: int) -> None:
    segments = [(64, [1, 2], [64, 3], 1), (40, [2, 1], [40, 40], 0), (64, [2, 0], [1, 1], 1)]
    hold_against_reference(Emulated(kernels), Case(2, 70, 1, 64, segments, torch.bfloat16, "plain"), tensor_cores=True)


def test_large_scores_neither_overflow_nor_vanish(kernels: Kernels, seed: int) -> None:
    case = Case(1, 9, 1, 64, [(100, [2], [60], 0)], torch.bfloat16, "plain", scale_up=8.0)
    hold_against_reference(Emulated(kernels), case, tensor_cores=True)


@both_dtypes
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_is_served_without_tensor_cores(kernels: Kernels, dtype, shape, seed) -> None:
    hold_against_reference(Emulated(kernels), Case(*shape, dtype, "plain"), tensor_cores=False)


@pytest.mark.parametrize("tensor_cores", [True, False])
@pytest.mark.parametrize(("number", "flag"), [(-3, 1), (4, 5), (70000, 70001)])
def test_a_page_beyond_the_pool_is_reported_and_not_read(kernels: Kernels, tensor_cores, number, flag, seed) -> None:
    case = Case(1, 5, 1, 64, [(16, [2], [16], 0)], torch.bfloat16, "plain")
    case.segments[0].page_table[0, 1] = number
    *_, bad_page = Emulated(kernels).paged_attention(*case.formula_arguments(), tensor_cores)
    assert bad_page == flag
