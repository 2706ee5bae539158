"""Other people's attention at our shapes, each as one call; those that cannot be imported are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass(frozen=True)
class Shape:
    """One latent frame of one stream over a full window."""

    tokens: int
    heads: int
    pages: int
    """Frames that are seen: the window, the pinned position and the current frame."""
    text: int = 512
    head_dim: int = 128

    @property
    def keys(self) -> int:
        return self.text + self.pages * self.tokens

    @property
    def flops(self) -> float:
        """Of the two products, without any padding."""
        return 4.0 * self.tokens * self.keys * self.heads * self.head_dim


SHAPES = {
    # 22 row tiles of 128 for each of 24 heads are four full waves of 132; keys and text are multiples of 176.
    "full waves": Shape(2816, 24, 6, text=352),
    "AAPT 736x416, 24 heads": Shape(1196, 24, 32),
    "AAPT 736x416, 32 heads": Shape(1196, 32, 32),
    "AAPT 1280x720, 24 heads": Shape(3600, 24, 17),
    "AAPT 1280x720, 3 heads of 24": Shape(3600, 3, 17),
    "Wan 1.3B 832x480, 20 past": Shape(1560, 12, 21),
    "Wan 1.3B 832x480, 6 past": Shape(1560, 12, 7),
}


CUDNN, FLASH_2, FLEX, FLASH_3, FLASH_3_PAGED, FLASHINFER, FLASHINFER_PAGED = METHODS = (
    "cuDNN through SDPA, contiguous",
    "FlashAttention-2 through SDPA, contiguous",
    "FlexAttention compiled, contiguous",
    "FlashAttention-3, contiguous",
    "FlashAttention-3, a page per frame, no text",
    "FlashInfer, contiguous",
    "FlashInfer, a page per frame, no text",
)


def baselines(shape: Shape) -> dict[str, Callable[[], Any]]:
    """Contiguous keys for those that know no pages; FlashInfer and FlashAttention also with a page per frame."""
    # [B, h, L, d]
    q, k, v = (
        torch.randn(1, shape.heads, n, shape.head_dim, device="cuda", dtype=torch.bfloat16)
        for n in (shape.tokens, shape.keys, shape.keys)
    )
    calls: dict[str, Callable[[], Any]] = {}

    def sdpa(backend: SDPBackend) -> Callable[[], torch.Tensor]:
        def call() -> torch.Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v)

        return call

    calls[CUDNN] = sdpa(SDPBackend.CUDNN_ATTENTION)
    calls[FLASH_2] = sdpa(SDPBackend.FLASH_ATTENTION)
    for add in (_add_flex, _add_flash_attention_3, _add_flashinfer):
        add(calls, shape, q, k, v)
    return {name: call for name, call in calls.items() if _runs(call)}


def _runs(call: Callable[[], Any]) -> bool:
    try:
        call()
        torch.cuda.synchronize()
    except (RuntimeError, NotImplementedError, ImportError) as refusal:
        print(f"left out: {refusal}")
        return False
    return True


def _add_flex(calls: dict[str, Callable[[], Any]], shape: Shape, q: Any, k: Any, v: Any) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    compiled = torch.compile(flex_attention)
    calls[FLEX] = lambda: compiled(q, k, v)


def _add_flash_attention_3(calls: dict[str, Callable[[], Any]], shape: Shape, q: Any, k: Any, v: Any) -> None:
    try:
        from flash_attn_interface import flash_attn_func, flash_attn_with_kvcache
    except ImportError:
        return
    q_rows, k_rows, v_rows = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    calls[FLASH_3] = lambda: flash_attn_func(q_rows, k_rows, v_rows)
    frames = shape.pages * shape.tokens
    pages = [x[0, :frames].reshape(shape.pages, shape.tokens, *x.shape[2:]).contiguous() for x in (k_rows, v_rows)]
    table = torch.arange(shape.pages, dtype=torch.int32, device="cuda")[None]
    lengths = torch.tensor([frames], dtype=torch.int32, device="cuda")
    calls[FLASH_3_PAGED] = lambda: flash_attn_with_kvcache(q_rows, *pages, cache_seqlens=lengths, page_table=table)


def _add_flashinfer(calls: dict[str, Callable[[], Any]], shape: Shape, q: Any, k: Any, v: Any) -> None:
    try:
        import flashinfer
    except ImportError:
        return
    q_rows, k_rows, v_rows = (x[0].transpose(0, 1).contiguous() for x in (q, k, v))
    calls[FLASHINFER] = lambda: flashinfer.single_prefill_with_kv_cache(q_rows, k_rows, v_rows)
    frames = shape.pages * shape.tokens
    pages = torch.stack(
        [x[:frames].reshape(shape.pages, shape.tokens, shape.heads, shape.head_dim) for x in (k_rows, v_rows)], 1
    )
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(
        torch.empty(256 << 20, dtype=torch.uint8, device="cuda"), "NHD"
    )
    wrapper.plan(
        torch.tensor([0, shape.tokens], dtype=torch.int32),
        torch.tensor([0, shape.pages], dtype=torch.int32),
        torch.arange(shape.pages, dtype=torch.int32),
        torch.tensor([shape.tokens], dtype=torch.int32),
        shape.heads, shape.heads, shape.head_dim, shape.tokens, q_data_type=torch.bfloat16,
    )  # fmt: skip
    calls[FLASHINFER_PAGED] = lambda: wrapper.run(q_rows, pages)
