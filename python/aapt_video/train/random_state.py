"""The states of all global random generators, as JSON and tensors."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def random_state() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """States of python, numpy (as plain values) and torch (as tensors, per device)."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, gauss = random.getstate()
    facts = {"python": [version, list(internal), gauss], "numpy": [name, keys.tolist(), *rest]}  # type: ignore[union-attr]
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    return facts, tensors


def set_random_state(facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """The inverse of `random_state`; states of GPUs that are not here are ignored."""
    version, internal, gauss = facts["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = facts["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(tensors["cpu"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda{i}"], i)
