"""Arrays of any library: torch tensors go through torch's dispatcher, everything else straight to the C++ module."""

from __future__ import annotations

import sys
from typing import Any

import torch


def is_torch(array: Any) -> bool:
    return isinstance(array, torch.Tensor)


def empty(like: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
    """An uninitialised array of `like`'s library, device and (unless `dtype` is given) dtype.

    Raises:
        ValueError: the library is not one that we know how to allocate in; pass `out=`.
    """
    if is_torch(like):
        return torch.empty(shape, dtype=dtype or like.dtype, device=like.device)
    library = sys.modules.get(type(like).__module__.split(".")[0])
    if library is None or not hasattr(library, "empty"):
        raise ValueError(f"out is missing, and no array can be allocated like a {type(like).__name__}; pass out=")
    return library.empty(shape, dtype=dtype or like.dtype)


def empty_quantised(like: Any, values: Any = None, scale: Any = None) -> tuple[Any, Any]:
    """`values` and `scale` of fp8 rows of `like`'s shape; an uninitialised one in place of each that is None."""
    shape = tuple(like.shape)
    fp8, float32 = (torch.float8_e4m3fn, torch.float32) if is_torch(like) else ("uint8", "float32")
    values = empty(like, shape, fp8) if values is None else values
    return values, empty(like, shape[:-1], float32) if scale is None else scale


def fp8_bytes(array: Any) -> Any:
    """The same memory as uint8, which every torch exports; not every one that we support exports fp8 by DLPack."""
    return array.view(torch.uint8) if is_torch(array) and array.dtype == torch.float8_e4m3fn else array
