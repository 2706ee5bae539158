"""How an operator becomes known to torch: schema, dispatch, fake kernel, gradient.

`Library.define` + `impl`, since the `custom_op` decorator does far more work in each call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import library
from torch.autograd.function import once_differentiable
from torch.utils import _pytree as pytree

from . import _C
from .dispatch import cuda_stream, served_natively

# torch does not annotate this class.
_library: Any = library.Library("aapt", "DEF")  # type: ignore[no-untyped-call]


def register(
    name: str,
    schema: str,
    *,
    empty: Callable[..., Any],
    bound: Callable[[tuple[Any, ...], Any], tuple[Any, ...]],
    reference: Callable[..., Any],
    function: str = "",
    differentiable: bool = True,
) -> None:
    """Makes `torch.ops.aapt.<name>`, which a function of the C++ module serves where it can, and `reference` elsewhere.

    Args:
        schema: arguments and results, e.g. `"(Tensor x, float eps) -> Tensor"`; a tensor, or a list of them, is first.
        empty: takes the arguments; returns uninitialised results. It is the fake kernel as well.
        bound: takes the arguments and the results to write; returns the arguments of the C++ module's function.
        reference: a composition of torch functions with these arguments and results. The gradient recomputes through
            it, so that nothing but the inputs is kept.
        function: the name in the C++ module and in the dispatch table; `name` where empty.
        differentiable: False where there is no gradient.
    """
    function = function or name

    def run(*arguments: Any) -> Any:
        first = arguments[0][0] if isinstance(arguments[0], list) else arguments[0]
        if not served_natively(function, first):
            return reference(*arguments)
        results = empty(*arguments)
        stream = cuda_stream(first)
        # What serves a CPU alone takes no stream.
        options = {} if stream is None else {"stream": stream}
        getattr(_C, function)(*bound(arguments, results), **options)
        return results

    _library.define(name + schema)
    _library.impl(name, run, "CPU")
    _library.impl(name, run, "CUDA")
    library.register_fake(f"aapt::{name}", empty, lib=_library)
    if differentiable:
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
    @once_differentiable
    def gradients_of_leaves(ctx: Any, *gradients: torch.Tensor | None) -> Any:
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
        return tuple(next(found) if is_wanted else None for is_wanted in ctx.wanted)

    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        return pytree.tree_unflatten(gradients_of_leaves(ctx, *gradients), ctx.spec)

    return backward
