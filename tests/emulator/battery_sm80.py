"""Small calls of the operators' kernels for every GPU that between them notice every planted bug."""

from __future__ import annotations

from pathlib import Path

import torch
from operators.rule import check
from operators.test_cache_write import Frame
from operators.test_paged_attention import Case

from aapt_ext import reference

from . import test_attention_sm80, test_products, test_rows
from .conftest import Kernels
from .operators import Emulated

DTYPES = (torch.bfloat16, torch.float32)


def rows(emulated: Emulated) -> None:
    for dtype in DTYPES:
        for shape in ((2, 3, 264), (2, 2, 70)):
            arguments = test_rows.modulate_arguments(*shape)
            check(emulated.residual_modulate, reference.residual_modulate, arguments, dtype)
            test_rows.hold_quantised_modulate(emulated, arguments, dtype)
        for shape in ((2, 520), (2, 70)):
            test_rows.hold_quantise(emulated, *shape, "gelu_tanh", dtype)
        for norm in ("all", "head"):
            test_rows.hold_against_reference(emulated, Frame(2, 3, 5, 64, norm), dtype, "row by row")
        test_rows.hold_against_reference(emulated, Frame(2, 2, 3, 18, "head"), dtype)
    for number, flag in ((6, 7), (-1, 1)):
        test_rows.test_a_page_beyond_the_pool_is_reported_and_not_written(emulated.kernels, number, flag, None)


def products(emulated: Emulated) -> None:
    for shape in ((2, [3, 4, 1], 6, 10, 136), (1, [2, 34], 16, 18, 16)):
        check(emulated.patch_embed, reference.patch_embed, test_products.patch_arguments(*shape), torch.bfloat16)
    for shape in ((2, 3, 6, 10, 40), (2, 16, 2, 6, 520)):
        check(emulated.denoise, reference.denoise, test_products.denoise_arguments(*shape), torch.bfloat16)
    embedding, denoising = test_products.patch_arguments(1, [2, 3], 4, 6, 13), (1, 5, 4, 4, 130)
    check(emulated.patch_embed, reference.patch_embed, embedding, torch.float32)
    check(emulated.denoise, reference.denoise, test_products.denoise_arguments(*denoising), torch.float32)


def attention_sm80(emulated: Emulated) -> None:
    segments = [(64, [1, 2], [60, 3], 1), (70, [3, 1], [40, 70], 0)]
    for dtype, tensor_cores in ((torch.bfloat16, True), (torch.float32, False)):
        for length in (70, 3):
            case = Case(2, length, 1, 64, segments, dtype, "plain")
            test_attention_sm80.hold_against_reference(emulated, case, tensor_cores)


def run(name: str, library: Path) -> None:
    """Raises AssertionError where a result is wrong or the emulator objects.

    Args:
        name: the file of C functions that `library` was compiled from.
    """
    kernels = Kernels(library)
    for seed in range(3):
        torch.manual_seed(seed)
        kernels.seed(seed)
        {"rows": rows, "products": products, "attention_sm80": attention_sm80}[name](Emulated(kernels))
