"""The operators on CuPy arrays, without a torch tensor, on a stream of the caller's: one frame of a small window.

CuPy has no bfloat16 of its own everywhere, so 16-bit unsigned integers stand for it, and `dtype="bf16"` says so.
Needs an NVIDIA GPU and the extra `cupy`.
"""

from __future__ import annotations

import cupy as cp

import aapt_ext
from aapt_ext import Segment

STREAMS, TOKENS, HEADS, HEAD_DIM, PAGES = 1, 300, 4, 64, 4


def bf16(x: cp.ndarray) -> cp.ndarray:
    """The bits of bfloat16, rounded to nearest even, as uint16."""
    bits = cp.ascontiguousarray(x, dtype=cp.float32).view(cp.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(cp.uint16)


def wide(bits: cp.ndarray) -> cp.ndarray:
    return (bits.astype(cp.uint32) << 16).view(cp.float32)


def rotation(count: int, pairs: int) -> cp.ndarray:
    angle = cp.random.standard_normal((count, pairs)).astype(cp.float32)
    return cp.ascontiguousarray(cp.stack((cp.cos(angle), cp.sin(angle)), -1))


def main() -> None:
    cp.random.seed(7)
    shape = STREAMS, TOKENS, HEADS, HEAD_DIM
    with cp.cuda.Stream(non_blocking=True) as stream:
        k_pages, v_pages = (cp.zeros((PAGES, HEADS, TOKENS, HEAD_DIM), cp.uint16) for _ in range(2))
        space = rotation(TOKENS, HEAD_DIM // 2 - 8)
        for number in range(PAGES):
            qkv = bf16(cp.random.standard_normal((STREAMS, TOKENS, 3, HEADS, HEAD_DIM)))
            page = cp.full(STREAMS, number, cp.int32)
            q, _ = aapt_ext.cache_write(
                qkv, None, None, rotation(STREAMS, 8), space, page, k_pages, v_pages,
                q=cp.empty(shape, cp.uint16), dtype="bf16",
            )  # fmt: skip
        table = cp.arange(PAGES, dtype=cp.int32)[None]
        count, last = cp.full(STREAMS, PAGES, cp.int32), cp.full(STREAMS, TOKENS, cp.int32)
        out, lse = aapt_ext.paged_attention(q, [Segment(k_pages, v_pages, TOKENS, table, count, last)], dtype="bf16")

        keys, values = (wide(p).transpose(1, 0, 2, 3).reshape(HEADS, -1, HEAD_DIM) for p in (k_pages, v_pages))
        scores = wide(q)[0].transpose(1, 0, 2) @ keys.transpose(0, 2, 1) / HEAD_DIM**0.5
        weights = cp.exp(scores - scores.max(-1, keepdims=True))
        expected = (weights @ values / weights.sum(-1, keepdims=True)).transpose(1, 0, 2)
        error = float(abs(wide(out)[0] - expected).max())
        stream.synchronize()
    aapt_ext.check()
    print(f"attention of {TOKENS} queries over {PAGES * TOKENS} keys, lse {lse.shape}: largest error {error:.4f}")
    if not error < 0.02:
        raise SystemExit("that is more than bfloat16 explains")


if __name__ == "__main__":
    main()
