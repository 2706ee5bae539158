"""How an operator becomes known to torch: schema, implementation, fake kernel, gradient.

`Library.define` + `impl`, since the `custom_op` decorator does far more work in each call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import library
from torch.utils import _pytree as pytree

# torch does not annotate this class.
_library: Any = library.Library("aapt", "DEF")  # type: ignore[no-untyped-call]


def register(
    name: str,
    schema: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    reference: Callable[..., Any] | None = None,
) -> None:
    """Makes `torch.ops.aapt.<name>`.

    Args:
        schema: arguments and results, e.g. `"(Tensor x, float eps) -> Tensor"`.
        run: the implementation on a CPU and on a GPU.
        fake: the same signature; returns empty results of the right shape.
        reference: a differentiable composition with the signature of `run`. The gradient recomputes through it, so
            that nothing but the inputs is kept. None: the operator has no gradient.
    """
    _library.define(name + schema)
    _library.impl(name, run, "CPU")
    _library.impl(name, run, "CUDA")
    library.register_fake(f"aapt::{name}", fake, lib=_library)
    if reference is not None:
        library.register_autograd(f"aapt::{name}", _backward(reference), setup_context=_keep_inputs, lib=_library)


def _is_leaf(value: Any) -> bool:
    """A list of numbers is one argument to torch, a list of tensors is several."""
    return isinstance(value, list) and not any(isinstance(item, torch.Tensor) for item in value)


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    leaves, ctx.spec = pytree.tree_flatten(inputs, is_leaf=_is_leaf)
    ctx.save_for_backward(*(leaf for leaf in leaves if isinstance(leaf, torch.Tensor)))
    ctx.others = [None if isinstance(leaf, torch.Tensor) else (leaf,) for leaf in leaves]
    ctx.wanted = [isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in leaves]


def _backward(reference: Callable[..., Any]) -> Callable[..., Any]:
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        saved = iter(ctx.saved_tensors)
        leaves = [next(saved) if other is None else other[0] for other in ctx.others]
        with torch.enable_grad():
            leaves = [
                leaf.detach().requires_grad_() if wanted else leaf
                for leaf, wanted in zip(leaves, ctx.wanted, strict=True)
            ]
            outputs = pytree.tree_leaves(reference(*pytree.tree_unflatten(leaves, ctx.spec)))
        pairs = [
            (output, gradient)
            for output, gradient in zip(outputs, gradients, strict=True)
            if gradient is not None and output.requires_grad
        ]
        wanted = [leaf for leaf, is_wanted in zip(leaves, ctx.wanted, strict=True) if is_wanted]
        found = iter(
            torch.autograd.grad(
                [output for output, _ in pairs],
                wanted,
                [gradient for _, gradient in pairs],
                allow_unused=True,
            )
            if pairs
            else [None] * len(wanted)
        )
        return pytree.tree_unflatten([next(found) if is_wanted else None for is_wanted in ctx.wanted], ctx.spec)

    return backward
