"""The error rule: an implementation may be at most twice as far from float64 as torch's own operators in its dtype.

It adapts to shape and scale by itself; the constant admits results that torch computes exactly by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree

from aapt_ext import reference


@contextmanager
def summed_in_own_dtype() -> Iterator[None]:
    """Inside, the references no longer widen: the same formula composed of torch operators in the inputs' dtype."""
    widen = reference.wide
    reference.wide = lambda x: x
    try:
        yield
    finally:
        reference.wide = widen


def cast(tree: Any, dtype: torch.dtype) -> Any:
    """Floating tensors of a tree in another dtype; rotations keep float32 unless the dtype is float64."""
    return pytree.tree_map(lambda x: x.to(dtype) if torch.is_tensor(x) and x.is_floating_point() else x, tree)


def leaves(result: Any) -> list[torch.Tensor]:
    return [leaf.double() for leaf in pytree.tree_leaves(result) if torch.is_tensor(leaf) and leaf.numel()]


def assert_within_rule(ours: Any, exact: Any, composed: Any) -> None:
    """Compares result by result, in the largest and in the mean error."""
    triples = list(zip(leaves(ours), leaves(exact), leaves(composed), strict=True))
    assert triples, "nothing was compared"
    for index, (a, truth, b) in enumerate(triples):
        assert a.shape == truth.shape == b.shape
        finite = torch.isfinite(truth)
        assert torch.equal(a[~finite], truth[~finite]), f"result {index}: not the same infinities"
        ours_error, torch_error = (a - truth)[finite].abs(), (b - truth)[finite].abs()
        if not finite.any():
            continue
        assert not ours_error.isnan().any(), f"result {index} is not finite where float64 is"
        for name, statistic in (("largest", torch.max), ("mean", torch.mean)):
            bound = 2 * statistic(torch_error) + 1e-5
            assert statistic(ours_error) <= bound, (
                f"result {index}: {name} error {statistic(ours_error):.3g} exceeds {bound:.3g}"
            )


def check(operator: Callable[..., Any], formula: Callable[..., Any], arguments: Any, dtype: torch.dtype) -> None:
    """Holds `operator(*arguments)` in `dtype` against `formula` in float64.

    Args:
        arguments: float64 tensors and plain values; every tensor is rounded to `dtype` first: all see the same.
    """
    rounded = cast(arguments, dtype)
    exact = formula(*cast(rounded, torch.float64))
    with summed_in_own_dtype():
        composed = formula(*rounded)
    assert_within_rule(operator(*rounded), exact, composed)
