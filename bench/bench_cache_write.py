"""cache_write on the CPU: norm of q and k over all heads, 3-D RoPE, keys and values into the page, against eager torch
and torch.compile.

The alternatives write a plain page [h, L, d] with one rotation for all pairs, which is less work than ours. `ratio` is
the best alternative's median over ours, all timed in turns in one process.
"""

from __future__ import annotations

import pytest
import torch
from interleave import interleave
from pytest_benchmark.fixture import BenchmarkFixture

from aapt_ext import _C
from aapt_ext.layout import page_shapes

EPS = 1e-6


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    normed = x.float() * torch.rsqrt(x.float().square().mean((-2, -1), keepdim=True) + EPS)
    return normed.to(x.dtype) * weight


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.float()[..., 0::2], x.float()[..., 1::2]
    return torch.stack((first * cos - second * sin, first * sin + second * cos), -1).flatten(-2).to(x.dtype)


def as_its_authors_write_it(
    qkv: torch.Tensor,
    q_weight: torch.Tensor,
    k_weight: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_page: torch.Tensor,
    v_page: torch.Tensor,
) -> torch.Tensor:
    q, k, v = qkv.unbind(2)
    q, k = rotate(rms_norm(q, q_weight), cos, sin), rotate(rms_norm(k, k_weight), cos, sin)
    k_page.copy_(k[0].transpose(0, 1))
    v_page.copy_(v[0].transpose(0, 1))
    return q


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("rows, heads, head_dim", [(300, 6, 64), (1196, 12, 128)])
def bench_cache_write(benchmark: BenchmarkFixture, rows: int, heads: int, head_dim: int, dtype: torch.dtype) -> None:
    qkv = torch.randn(1, rows, 3, heads, head_dim).to(dtype)
    q_weight, k_weight = (torch.randn(heads, head_dim).to(dtype) for _ in range(2))
    flat_weights = [weight.flatten() for weight in (q_weight, k_weight)]
    angles = torch.rand(1, rows, 1, head_dim // 2)
    cos, sin = angles.cos(), angles.sin()
    time_pairs = head_dim // 2 - 2 * (head_dim // 6)
    rotation = torch.stack((cos, sin), -1)[0, :, 0]
    time, space = rotation[:1, :time_pairs].contiguous(), rotation[:, time_pairs:].contiguous()
    pages = [torch.zeros(shape, dtype=dtype) for shape in page_shapes("tiled", 2, heads, rows, head_dim, dtype)]
    plain = [torch.zeros(heads, rows, head_dim, dtype=dtype) for _ in range(2)]
    page, q = torch.tensor([1], dtype=torch.int32), torch.empty(1, rows, heads, head_dim, dtype=dtype)

    def ours() -> None:
        _C.cache_write(qkv, *flat_weights, EPS, time, space, None, page, *pages, q, None)

    compiled = torch.compile(as_its_authors_write_it)
    with torch.no_grad():
        medians = interleave(
            {
                "ours": ours,
                "eager torch": lambda: as_its_authors_write_it(qkv, q_weight, k_weight, cos, sin, *plain),
                "torch.compile": lambda: compiled(qkv, q_weight, k_weight, cos, sin, *plain),
            }
        )
    benchmark(ours)
    benchmark.extra_info |= {
        "ratio": min(medians["eager torch"], medians["torch.compile"]) / medians["ours"],
        "eager torch / ours": medians["eager torch"] / medians["ours"],
        "torch.compile / ours": medians["torch.compile"] / medians["ours"],
        "GB/s": 2 * qkv.nbytes / medians["ours"] / 1e9,
        "isa": _C.cpu_backend(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
