"""The CUDA operators in the emulator, on torch tensors of the CPU: the signatures of `aapt_ext.reference`.

Whatever a kernel must not read is NaN, and so are its outputs before the call; guard elements lie around them.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import torch

from .conftest import Kernels

GUARD = 64
NAN = float("nan")


def address(tensor: torch.Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


class StridedSegment(ctypes.Structure):
    """`StridedSegment` of attention_sm80.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("k", "v", "table", "count", "last")),
        ("stride", ctypes.c_int64 * 6),
        *((name, ctypes.c_int) for name in ("pages", "rows", "listed", "query")),
    )


@dataclass
class Outputs:
    """Outputs between guard elements, NaN to begin with."""

    dtype: torch.dtype
    offset: int = 0
    """Elements by which the outputs miss the alignment of 128 bytes."""
    buffers: list[torch.Tensor] = field(default_factory=list)

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        size = int(torch.tensor(shape).prod())
        buffer = torch.full((size + 3 * GUARD,), 7.0, dtype=dtype or self.dtype)
        start = -(buffer.data_ptr() // buffer.itemsize) % GUARD + GUARD + self.offset
        self.buffers += [buffer[:start], buffer[start + size :]]
        view = buffer[start : start + size].view(shape)
        view.fill_(NAN)
        return view

    def quantised(self, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows in fp8, and their scales."""
        return self.empty(*shape, dtype=torch.float8_e4m3fn), self.empty(*shape[:-1], dtype=torch.float32)

    def assert_guarded(self) -> None:
        for guard in self.buffers:
            assert (guard == 7).all(), "a guard element was overwritten"


@dataclass
class Emulated:
    """The operators of one build of the kernels."""

    kernels: Kernels
    offset: int = 0
    """Elements by which outputs miss the alignment that vector accesses need."""

    def __call__(self, name: str, outputs: Outputs, *arguments: object) -> None:
        passed = [address(a) if isinstance(a, torch.Tensor) else a for a in arguments]
        objection = self.kernels(name, int(outputs.dtype == torch.bfloat16), *passed)
        assert objection == "", objection
        outputs.assert_guarded()

    def modulate(self, x, scale, shift, weight, bias, eps):
        outputs = Outputs(x.dtype, self.offset)
        out = outputs.empty(*x.shape)
        self("modulate_rows", outputs, *x.shape, x, None, None, scale, shift, weight, bias, eps, None, out, None)
        return out

    def residual_modulate(self, x, y, gate, scale, shift, weight, bias, eps):
        outputs = Outputs(x.dtype, self.offset)
        residual, out = outputs.empty(*x.shape), outputs.empty(*x.shape)
        self("modulate_rows", outputs, *x.shape, x, y, gate, scale, shift, weight, bias, eps, residual, out, None)
        return residual, out

    def residual_modulate_quantised(self, x, y, gate, scale, shift, weight, bias, eps):
        outputs = Outputs(x.dtype, self.offset)
        residual, (out, row_scale) = outputs.empty(*x.shape), outputs.quantised(*x.shape)
        vectors = gate, scale, shift, weight, bias
        self("modulate_rows", outputs, *x.shape, x, y, *vectors, eps, residual, out, row_scale)
        return residual, out, row_scale

    def quantise(self, x, activation):
        outputs = Outputs(x.dtype, self.offset)
        out, row_scale = outputs.quantised(*x.shape)
        self("quantise_rows", outputs, *x.shape, x, int(activation == "gelu_tanh"), out, row_scale)
        return out, row_scale

    def cache_write(
        self, qkv, q_weight, k_weight, eps, time_rotation, space_rotation, pinned_rotation, page, k_pages, v_pages
    ):
        """Writes the pages; returns (q, q_pinned or None, the flag for bad pages)."""
        batch, rows, _, heads, head_dim = qkv.shape
        outputs = Outputs(qkv.dtype, self.offset)
        q = outputs.empty(batch, rows, heads, head_dim)
        q_pinned = None if pinned_rotation is None else outputs.empty(batch, rows, heads, head_dim)
        norm = 0 if q_weight is None else 1 if q_weight.numel() == head_dim else 2
        strides = (ctypes.c_int64 * 6)(*k_pages.stride()[:3], *v_pages.stride()[:3])
        bad_page = ctypes.c_int(0)
        self(
            "write_rows", outputs, batch, rows, heads, head_dim, time_rotation.shape[1], qkv, norm, q_weight, k_weight,
            eps, time_rotation, space_rotation, pinned_rotation, page, k_pages.shape[0], k_pages, v_pages, strides, q,
            q_pinned, ctypes.byref(bad_page),
        )  # fmt: skip
        return q, q_pinned, bad_page.value

    def patch_embed(self, sources, weight, bias, outputs):
        batch, _, height, width = sources[0].shape
        made = Outputs(sources[0].dtype, self.offset)
        out = made.empty(batch, height // 2 * (width // 2), outputs)
        pointers = (ctypes.c_void_p * len(sources))(*(s.data_ptr() for s in sources))
        channels = (ctypes.c_int * len(sources))(*(s.shape[1] for s in sources))
        inputs = weight[0].numel()
        self(
            "embed_patches", made, len(sources), pointers, channels, batch, height, width, weight, inputs, outputs,
            bias, out,
        )  # fmt: skip
        return out

    def denoise(self, x, scale, shift, weight, bias, noisy, timestep, eps):
        made = Outputs(x.dtype, self.offset)
        out = made.empty(*noisy.shape)
        self("denoise_tokens", made, *noisy.shape, x.shape[2], x, scale, shift, weight, bias, noisy, timestep, eps, out)
        return out

    @property
    def was_on_tensor_cores(self) -> bool:
        """Whether the last product ran on tensor cores."""
        return bool(self.kernels.compiled.last_was_on_tensor_cores())

    def paged_attention(
        self, queries, k_pages, v_pages, rows, page_tables, page_counts, last_rows, query_index, scale, tensor_cores
    ):
        """(out, lse, the flag for bad pages)."""
        batch, length, heads, head_dim = queries[0].shape
        made = Outputs(queries[0].dtype, self.offset)
        out = made.empty(batch, length, heads, head_dim)
        lse = made.empty(batch, heads, length, dtype=torch.float32)
        segments = (StridedSegment * len(rows))()
        fields = zip(k_pages, v_pages, rows, page_tables, page_counts, last_rows, query_index, strict=True)
        for to, (k, v, page_rows, table, count, last, query) in zip(segments, fields, strict=True):
            to.k, to.v, to.table, to.count, to.last = (t.data_ptr() for t in (k, v, table, count, last))
            to.stride = (ctypes.c_int64 * 6)(*k.stride()[:3], *v.stride()[:3])
            to.pages, to.rows, to.listed, to.query = k.shape[0], page_rows, table.stride(0), query
        bad_page = ctypes.c_int(0)
        self(
            "attend_anywhere", made, int(tensor_cores), queries[0], queries[1] if len(queries) > 1 else None, segments,
            len(rows), batch, length, heads, head_dim, scale, out, lse, ctypes.byref(bad_page),
        )  # fmt: skip
        return out, lse, bad_page.value
