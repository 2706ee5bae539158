"""The streaming decoder of the shipped worlds: one latent frame (four pictures of 128x96) on the CPU.

`extra_info` holds what the figure means: dtype, threads, and the real-time factor of decoding alone at 24
pictures per second.
"""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from aapt_video.codec import Codec, decoder_cost, named_config

HEIGHT, WIDTH, FPS = 96, 128, 24


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def bench_decode_step(benchmark: BenchmarkFixture, dtype: torch.dtype) -> None:
    config = named_config("world")
    codec = Codec(config).prepare_inference(dtype)
    state = codec.open_decoder(1, HEIGHT, WIDTH)
    latent = torch.randn(1, config.channels, HEIGHT // config.space, WIDTH // config.space)
    codec.decode_step(latent, state)
    benchmark(codec.decode_step, latent, state)
    seconds = benchmark.stats.stats.median
    flops = decoder_cost(config, HEIGHT, WIDTH, dtype).flops
    benchmark.extra_info |= {
        "dtype": str(dtype),
        "threads": torch.get_num_threads(),
        "pictures per second": config.time / seconds,
        "real-time factor": config.time / FPS / seconds,
        "GFLOP per latent frame": flops / 1e9,
        "GFLOP/s": flops / 1e9 / seconds,
    }
