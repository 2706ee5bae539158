"""The operators of aapt-video and the pages that they work on.

    patch_embed -> [ modulate -> cache_write -> paged_attention -> modulate ] x blocks -> denoise

Between them linears: `linear` on a CPU, torch's on a GPU; `quantise` makes the activations of those in fp8.

Each operator takes torch, NumPy or CuPy arrays, has a float64 reference (`aapt_ext.reference`), and is known to torch
as `torch.ops.aapt.<name>`. `aapt_ext._C` holds the bound functions for loops that allocate nothing.
"""

from .cache_write import cache_write
from .denoise import denoise
from .dispatch import backend, check, implementation, table
from .layout import pack_weight, unpack_weight
from .linear import linear
from .modulate import modulate
from .paged_attention import Segment, paged_attention
from .pages import CapacityError, PagePool
from .patch_embed import patch_embed
from .quantise import Quantised, quantise
from .training_attention import ClipText, training_attention

__all__ = [
    "CapacityError",
    "ClipText",
    "PagePool",
    "Quantised",
    "Segment",
    "backend",
    "cache_write",
    "check",
    "denoise",
    "implementation",
    "linear",
    "modulate",
    "pack_weight",
    "paged_attention",
    "patch_embed",
    "quantise",
    "table",
    "training_attention",
    "unpack_weight",
]
