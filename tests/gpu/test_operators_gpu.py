"""The operators on a GPU: the error rule, guard bytes, repeatability, graphs, streams, bad pages."""

from __future__ import annotations

import pytest
import torch
from operators.test_cache_write import Frame
from operators.test_guard_bytes import RUNS, Guarded, run_linear
from torch.utils import _pytree as pytree

import aapt_ext

from .launches import LAUNCHES

pytestmark = pytest.mark.gpu
every_launch = pytest.mark.parametrize("make", LAUNCHES.values(), ids=LAUNCHES.keys())


def tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if torch.is_tensor(leaf)]


@every_launch
def test_the_error_rule_holds(make, seed: int) -> None:
    make().hold_against_reference()


@pytest.mark.parametrize("run", [r for r in RUNS if r is not run_linear], ids=lambda r: r.__name__)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_bytes_around_the_outputs_stay(run, dtype: torch.dtype, seed: int) -> None:
    guarded = Guarded(dtype)
    with torch.device("cuda"):
        run(guarded)
    guarded.assert_intact()


@every_launch
def test_a_hundred_launches_give_equal_bits(make, seed: int) -> None:
    launch = make()
    first = tensors(launch.run())
    for _ in range(100):
        assert all(torch.equal(a, b) for a, b in zip(tensors(launch.run()), first, strict=True))


@every_launch
def test_a_captured_launch_reads_what_changed_in_memory(make, seed: int) -> None:
    launch = make()
    inputs = launch.inputs()
    if "write_and_read" in str(launch.operator):
        pytest.skip("its helper reads the pages back on the host; the next test captures it")
    launch.operator(*inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = launch.operator(*inputs)
    x = next(t for t in tensors(inputs) if t.is_floating_point())
    x.copy_(torch.randn_like(x))
    graph.replay()
    for a, b in zip(tensors(captured), tensors(launch.operator(*inputs)), strict=True):
        assert torch.equal(a, b)


def device_frame() -> tuple[tuple[object, ...], torch.Tensor, torch.Tensor, torch.Tensor]:
    with torch.device("cuda"):
        frame = Frame(2, 30, 4, 64, "all")
        k_pages, v_pages = torch.zeros(2, 5, 4, 30, 64, dtype=torch.bfloat16)
        return frame.inputs(torch.bfloat16), torch.tensor([3, 1], dtype=torch.int32), k_pages, v_pages


def test_a_captured_cache_write_follows_the_page_number(seed: int) -> None:
    (qkv, q_weight, k_weight, eps, time, space, pinned), page, k_pages, v_pages = device_frame()
    arguments = qkv, q_weight, k_weight, eps, time, space, pinned, page, k_pages, v_pages
    torch.ops.aapt.cache_write(*arguments)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.ops.aapt.cache_write(*arguments)
    expected = k_pages[[3, 1]].clone()
    k_pages.zero_()
    page.copy_(torch.tensor([4, 0]))
    graph.replay()
    assert torch.equal(k_pages[[4, 0]], expected) and (k_pages[[1, 2, 3]] == 0).all()


@every_launch
def test_work_goes_to_the_callers_stream(make, seed: int) -> None:
    """What the stream has not done yet is not seen: the inputs are made there, behind a long wait."""
    launch = make()
    expected = tensors(launch.run())
    inputs = launch.inputs()
    x = next(t for t in tensors(inputs) if t.is_floating_point())
    truth = x.clone()
    x.fill_(torch.nan)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        x.copy_(truth)
        found = tensors(launch.operator(*inputs))
        torch.cuda.current_stream().synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("number", [5, -1, 1 << 20])
def test_a_page_beyond_the_pool_is_reported_and_not_written(number: int, seed: int) -> None:
    (qkv, q_weight, k_weight, eps, time, space, pinned), page, k_pages, v_pages = device_frame()
    aapt_ext.check()
    page[1] = number
    torch.ops.aapt.cache_write(qkv, q_weight, k_weight, eps, time, space, pinned, page, k_pages, v_pages)
    with pytest.raises(RuntimeError, match="page"):
        aapt_ext.check()
    aapt_ext.check()
    assert (k_pages[[0, 1, 2, 4]] == 0).all() and (v_pages[[0, 1, 2, 4]] == 0).all()


@pytest.mark.parametrize(
    "operator", ["modulate", "quantise", "cache_write", "patch_embed", "denoise", "paged_attention"]
)
def test_the_kernels_serve_the_gpu(operator: str) -> None:
    assert aapt_ext.implementation(operator, "cuda", torch.bfloat16) == "cuda"
    assert aapt_ext.implementation(operator, "cuda", torch.float64) == "reference"
