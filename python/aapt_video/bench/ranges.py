"""Names for what a step does, for profilers: one range per block and per operator.

The names are put around the functions while `ranges()` is open, and taken off again: without it nothing is added. A
CUDA graph replays kernels without names, so profile what is not captured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import torch
from torch.profiler import record_function

import aapt_ext
from aapt_ext import _C
from aapt_video.codec import Codec
from aapt_video.model import cached
from aapt_video.model.fp8 import Fp8Kernels
from aapt_video.model.kernels import Kernels

OPERATORS = ("patch_embed", "cache_write", "paged_attention", "modulate", "denoise")
FP8_OPERATORS = (*OPERATORS, "quantise")
"""Those of a step with linears in fp8."""


@contextmanager
def named(name: str) -> Iterator[None]:
    """A range of the torch profiler and, where there is a GPU, of NVTX."""
    nvtx = torch.cuda.is_available()
    with record_function(name):
        if nvtx:
            torch.cuda.nvtx.range_push(name)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            if nvtx:
                torch.cuda.nvtx.range_pop()  # type: ignore[no-untyped-call]


@contextmanager
def ranges(blocks: int) -> Iterator[None]:
    """While open, the transformer's `blocks` blocks, their operators and the decoder have names."""
    count = 0
    run_block: Callable[..., Any] = vars(cached)["run_block"]
    inside: set[str] = set()  # an operator may call the bound function of its name: one range for both

    def block(*arguments: Any) -> Any:
        nonlocal count
        with named(f"block {count % blocks}"):
            count += 1
            return run_block(*arguments)

    def projections(linear: Callable[..., Any]) -> Callable[..., Any]:
        def projection(self: Any, x: Any, weights: Any, into: str, *rest: Any) -> Any:
            with named(f"linear {into}"):
                return linear(self, x, weights, into, *rest)

        return projection

    def within(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            if name in inside:
                return function(*arguments, **keywords)
            inside.add(name)
            try:
                with named(name):
                    return function(*arguments, **keywords)
            finally:
                inside.discard(name)

        return call

    with ExitStack() as names:
        names.enter_context(mock.patch.object(cached, "run_block", block))
        for kernels in (Kernels, Fp8Kernels):
            names.enter_context(mock.patch.object(kernels, "linear", projections(kernels.linear)))
        names.enter_context(mock.patch.object(Codec, "decode_step", within("decoder", Codec.decode_step)))
        for name in FP8_OPERATORS:
            for module in (aapt_ext, _C):
                names.enter_context(mock.patch.object(module, name, within(name, getattr(module, name))))
        yield
