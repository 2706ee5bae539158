"""Which implementation serves which operator on which device.

On a CPU the C++ module picks the widest instruction set at run time. On a GPU an operator is served by its CUDA kernel
where the module has one for the device, and by the torch composition of `reference.py` where it has none.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

import torch

from . import _C

OPERATORS = ("patch_embed", "cache_write", "paged_attention", "modulate", "quantise", "denoise", "linear")
PORTABLE_ALONE = ("quantise",)
"""What has no vector path: on a CPU it serves comparisons with a GPU."""
REFERENCE = "reference"

_reference_is_forced = False


class backend:
    """Forces the implementation of every later call in this process; as a context manager, until its end.

    Args:
        name: `"portable"`, `"avx2"`, `"avx512"`, `"avx512_bf16"` (CPU; float64 is always served by `portable`),
            `"reference"` (the torch composition, any device), or `"auto"` (the best there is).

    Raises:
        ValueError: the name is unknown, or this CPU lacks the instructions.
    """

    def __init__(self, name: str) -> None:
        global _reference_is_forced
        self._before = REFERENCE if _reference_is_forced else _C.forced_cpu_backend()
        _C.force_cpu_backend("auto" if name == REFERENCE else name)
        _reference_is_forced = name == REFERENCE

    def __enter__(self) -> backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        backend(self._before)


def cuda_kernels() -> tuple[str, ...]:
    """Operators that the module has CUDA kernels for, in float32 and bfloat16."""
    return _C.cuda_operators


def implementation(operator: str, device: str, dtype: torch.dtype = torch.float32) -> str:
    """The name of what serves `operator` on `device` ("cpu" or "cuda") for `dtype`."""
    if _reference_is_forced:
        return REFERENCE
    if device == "cpu":
        alone = dtype == torch.float64 or operator in PORTABLE_ALONE
        return "portable" if alone else str(_C.cpu_backend())
    return "cuda" if operator in cuda_kernels() and dtype != torch.float64 else REFERENCE


def served_natively(operator: str, tensor: torch.Tensor) -> bool:
    """Whether the C++ module, rather than the torch composition, serves this call."""
    return implementation(operator, tensor.device.type, tensor.dtype) != REFERENCE


def table() -> dict[tuple[str, str], str]:
    """The dispatch table, (operator, device) -> implementation; a GPU only where torch sees one."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return {(operator, device): implementation(operator, device) for operator in OPERATORS for device in devices}


def check(device: int = 0) -> None:
    """Waits for a GPU and raises where a kernel met a page number beyond its pool since the last check.

    A table in the GPU's memory cannot be checked at the call. A kernel that meets such a number writes no page for it
    and reads none of the pool's memory beyond its end; its result for that stream is meaningless.

    Raises:
        RuntimeError: a page number was beyond the pool; the message names one.
    """
    found = _C.take_bad_page(device) if _C.built_with_cuda and torch.cuda.is_available() else 0
    if found:
        number = "a negative page number" if found == 1 else f"page {found - 1}, which is beyond its pool"
        raise RuntimeError(
            f"check: a kernel on cuda:{device} met {number}; find the table or the `page` argument that was written "
            "with it, and discard the results since the last check"
        )


def cuda_stream(array: Any) -> int | None:
    """The caller's current stream for the module, where the array's library does not tell it by itself.

    That is torch before 2.10, and CuPy. None: the legacy default stream.
    """
    if isinstance(array, torch.Tensor):
        return int(torch.cuda.current_stream(array.device).cuda_stream) if array.is_cuda else None
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return int(cupy.cuda.get_current_stream().ptr)
    return None
