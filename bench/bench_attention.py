"""Paged attention on the CPU against torch's scaled_dot_product_attention on contiguous keys and values.

torch gets its best form: [B, h, rows, d], contiguous, gathered beforehand; ours reads pages whose number of rows is no
multiple of anything. `share of peak` (bf16) is of the machine's vdpbf16ps rate.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from compare import compare
from peak import vdpbf16_peak
from pytest_benchmark.fixture import BenchmarkFixture

from aapt_ext import PagePool, Segment, paged_attention

SHAPES = {  # rows of a page (and of the query), pages, heads, head size
    "300 x 4800": (300, 16, 6, 64),
    "1196 x 9568": (1196, 8, 12, 128),
    "48 x 768": (48, 16, 6, 64),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def bench_paged_attention(benchmark: BenchmarkFixture, dtype: torch.dtype, shape: str) -> None:
    rows, pages, heads, d = SHAPES[shape]
    torch.manual_seed(0)
    pool = PagePool(1, pages, heads, rows, d, dtype=dtype)
    numbers = pool.allocate(pages)
    keys, values = torch.randn(2, pages, rows, heads, d).to(dtype)
    for page, k, v in zip(numbers, keys, values, strict=True):
        pool.write(0, page, k, v)
    table = torch.tensor([numbers], dtype=torch.int32)
    segment = Segment(*pool.layer(0), rows, table, torch.tensor([pages]).int(), torch.tensor([rows]).int())

    query = torch.randn(1, rows, heads, d).to(dtype)
    contiguous = [x.reshape(1, -1, heads, d).transpose(1, 2).contiguous() for x in (query, keys, values)]
    out, lse = torch.empty_like(query), torch.empty(1, heads, rows)

    def ours() -> torch.Tensor:
        paged_attention(query, [segment], out=out, lse=lse)
        return out

    def sdpa() -> torch.Tensor:
        return F.scaled_dot_product_attention(*contiguous).transpose(1, 2)

    exact = torch.cat(
        [F.scaled_dot_product_attention(*(x[:, h : h + 1].double() for x in contiguous)) for h in range(heads)], 1
    ).transpose(1, 2)
    flops = 4 * rows * rows * pages * heads * d
    peak = vdpbf16_peak() if dtype == torch.bfloat16 else None
    compare(benchmark, "paged_attention", ours, {"torch SDPA": sdpa}, exact, flops, 15 if rows < 1000 else 5, peak)
