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
