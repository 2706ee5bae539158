"""What the machine itself gives, the roofs of every other figure: bf16 matrix rate, copy and L2 read bandwidth.

Inputs are random: zeros draw less power and run faster.
"""

from __future__ import annotations

import pytest
import torch
from gpu_timer import time_in_turns
from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.gpu

MATMULS = {
    "8192^3": (8192, 8192, 8192),
    "QKV of AAPT 736x416": (1196, 9216, 3072),
    "MLP of AAPT 736x416": (1196, 12288, 3072),
    "QKV of Wan 1.3B": (1560, 4608, 1536),
    "MLP of Wan 1.3B": (1560, 8960, 1536),
}


@pytest.mark.parametrize("name", MATMULS)
def bench_matrix_rate(benchmark: BenchmarkFixture, name: str) -> None:
    m, n, k = MATMULS[name]
    a = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)

    def run() -> None:
        torch.nn.functional.linear(a, b)
        torch.cuda.synchronize()

    benchmark.pedantic(run, rounds=5, warmup_rounds=2)
    timing = time_in_turns({"matmul": lambda: torch.nn.functional.linear(a, b)})["matmul"]
    benchmark.extra_info |= {"seconds": timing.median, "TFLOP/s": 2 * m * n * k / timing.median / 1e12}


def bench_copy_bandwidth(benchmark: BenchmarkFixture) -> None:
    source = torch.randn(256 << 20, device="cuda")
    target = torch.empty_like(source)

    def run() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    benchmark.pedantic(run, rounds=5, warmup_rounds=2)
    timing = time_in_turns({"copy": lambda: target.copy_(source)})["copy"]
    benchmark.extra_info |= {"seconds": timing.median, "TB/s": 2 * source.nbytes / timing.median / 1e12}


def bench_l2_read_bandwidth(benchmark: BenchmarkFixture) -> None:
    """A sum over 16 MiB that stay in L2: a lower bound, since the reduction has other costs."""
    data, rows = torch.randn(4 << 20, device="cuda"), 256

    def read() -> torch.Tensor:
        return data.expand(rows, -1).sum()

    def run() -> None:
        read()
        torch.cuda.synchronize()

    benchmark.pedantic(run, rounds=5, warmup_rounds=2)
    timing = time_in_turns({"read": read}, hot=True)["read"]
    benchmark.extra_info |= {"seconds": timing.median, "TB/s": rows * data.nbytes / timing.median / 1e12}
