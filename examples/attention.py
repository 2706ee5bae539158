"""Attention of one latent frame over a paged cache, beside torch's own on contiguous keys.

    python examples/attention.py

Prints the largest difference to float64 and the time of both, interleaved in one process.
"""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F

from aapt_ext import PagePool, Segment, paged_attention

ROWS, PAGES, HEADS, HEAD_DIM = 300, 16, 6, 64  # tokens of a latent frame, past latent frames, h, d
ROUNDS = 15


def main() -> None:
    torch.manual_seed(0)
    pool = PagePool(layers=1, pages=PAGES + 4, heads=HEADS, rows=ROWS, head_dim=HEAD_DIM, dtype=torch.bfloat16)
    window = pool.allocate(PAGES)
    keys, values = torch.randn(2, PAGES, ROWS, HEADS, HEAD_DIM).bfloat16()
    for page, k, v in zip(window, keys, values, strict=True):
        pool.write(0, page, k, v)

    query = torch.randn(1, ROWS, HEADS, HEAD_DIM).bfloat16()
    k_pages, v_pages = pool.layer(0)
    segment = Segment(
        k_pages,
        v_pages,
        rows=ROWS,
        page_table=torch.tensor([window], dtype=torch.int32),
        page_count=torch.tensor([PAGES], dtype=torch.int32),
        last_rows=torch.tensor([ROWS], dtype=torch.int32),
    )

    contiguous = [x.flatten(0, 1).transpose(0, 1)[None].contiguous() for x in (keys, values)]  # [1, h, keys, d]
    rival_query = query.transpose(1, 2).contiguous()

    def ours() -> torch.Tensor:
        return paged_attention(query, [segment])[0]

    def torchs() -> torch.Tensor:
        return F.scaled_dot_product_attention(rival_query, *contiguous)

    exact = F.scaled_dot_product_attention(rival_query.double(), *(x.double() for x in contiguous)).transpose(1, 2)
    times: dict[str, list[float]] = {"ours": [], "torch": []}
    for _ in range(ROUNDS):
        for name, run in (("ours", ours), ("torch", torchs)):
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values[2:]) for name, values in times.items()}

    print(f"{ROWS} queries x {PAGES} pages of {ROWS} keys, {HEADS} heads of {HEAD_DIM}, bfloat16, CPU")
    flops = 4 * ROWS * ROWS * PAGES * HEADS * HEAD_DIM
    for name, result in (("ours", ours()), ("torch", torchs().transpose(1, 2))):
        error = (result.double() - exact).abs().max().item()
        print(f"  {name:<6} {median[name] * 1e3:6.2f} ms  {flops / median[name] / 1e9:5.0f} GFLOP/s  error {error:.1e}")
    print(f"  paged attention is {median['torch'] / median['ours']:.2f} x as fast as torch's on contiguous keys")


if __name__ == "__main__":
    main()
