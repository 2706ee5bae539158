"""Paged attention on a GPU: the error rule, repeatability, graphs, streams, poison."""

from __future__ import annotations

import pytest
import torch

import aapt_ext

from .paged import make_call, make_segment, window_call

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 127, 128, 129, 880, 1196, 1560, 3600])
def test_any_number_of_tokens(tokens: int, head_dim: int, seed: int) -> None:
    window = make_segment(2, head_dim, tokens, [3], [tokens])
    make_call(1, tokens, 2, head_dim, [window]).hold_against_reference()


@pytest.mark.parametrize("heads", [1, 3, 12, 24, 32, 40])
@pytest.mark.parametrize("pages", [1, 7, 60])
def test_any_number_of_heads_and_pages(heads: int, pages: int, seed: int) -> None:
    window_call(tokens=200, heads=heads, pages=pages).hold_against_reference()


@pytest.mark.parametrize("last", [1, 100, 175, 176, 177, 299, 300])
def test_last_page_ends_anywhere_and_what_follows_is_nan(last: int, seed: int) -> None:
    make_call(1, 140, 3, 128, [make_segment(3, 128, 300, [4], [last])]).hold_against_reference()


def test_streams_of_different_lengths(seed: int) -> None:
    segments = [
        make_segment(6, 64, 90, [1, 1, 1, 0], [90, 3, 55, 1]),
        make_segment(6, 64, 260, [1, 0, 1, 0], [260, 1, 260, 1], query=1),
        make_segment(6, 64, 260, [9, 1, 2, 0], [260, 260, 17, 1]),
    ]
    make_call(4, 260, 6, 64, segments).hold_against_reference()


def test_ones_in_give_ones_out(seed: int) -> None:
    call = window_call()
    for segment in call.segments:
        segment.v_pages.fill_(1)
    out, _ = call.run()
    torch.testing.assert_close(out, torch.ones_like(out), rtol=0, atol=2**-7)


def test_order_of_pages_changes_only_the_rounding(seed: int) -> None:
    call = window_call()
    out, lse = call.run()
    table = call.segments[2].page_table
    table.copy_(table.flip(1))
    out_flipped, lse_flipped = call.run()
    torch.testing.assert_close(out_flipped, out, rtol=0.02, atol=0.02)
    torch.testing.assert_close(lse_flipped, lse, rtol=1e-5, atol=1e-5)


def test_a_thousand_launches_give_equal_bits(seed: int) -> None:
    call = window_call(heads=7, pages=9)
    out, lse = call.run()
    for _ in range(1000):
        again, lse_again = call.run()
        assert torch.equal(again, out) and torch.equal(lse_again, lse)


def test_equal_bits_beside_a_stream_that_thrashes_l2(seed: int) -> None:
    call = window_call(heads=7, pages=9)
    out, lse = call.run()
    noise, other = torch.zeros(64 << 20, device="cuda"), torch.cuda.Stream()
    for _ in range(100):
        with torch.cuda.stream(other):
            noise.add_(1)
        again, lse_again = call.run()
        assert torch.equal(again, out) and torch.equal(lse_again, lse)


def test_two_streams_do_not_disturb_each_other(seed: int) -> None:
    calls = [window_call(heads=7, pages=pages) for pages in (3, 8)]
    expected = [call.run() for call in calls]
    streams = [torch.cuda.Stream() for _ in calls]
    torch.cuda.synchronize()
    for _ in range(50):
        results = []
        for call, stream in zip(calls, streams, strict=True):
            with torch.cuda.stream(stream):
                results.append(call.run())
        torch.cuda.synchronize()
        for (out, lse), (out_expected, lse_expected) in zip(results, expected, strict=True):
            assert torch.equal(out, out_expected) and torch.equal(lse, lse_expected)


def test_graph_replays_see_what_changed_in_memory(seed: int) -> None:
    """Contents of pages, page numbers and counts change between replays; the graph is captured once."""
    call = window_call(pages=6)
    out, lse = call.run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        aapt_ext.paged_attention(call.queries, call.segments, out=out, lse=lse)
    window = call.segments[2]
    for count in (6, 1, 4, 0, 6):
        window.page_count.fill_(count)
        window.page_table[:, :6] = window.page_table[:, torch.randperm(6, device="cuda")]
        window.k_pages.copy_(torch.randn_like(window.k_pages))
        window.v_pages.copy_(torch.randn_like(window.v_pages))
        out.fill_(torch.nan)
        lse.fill_(torch.nan)
        graph.replay()
        out_eager, lse_eager = call.run()
        assert torch.equal(out, out_eager) and torch.equal(lse, lse_eager)


def test_nothing_is_written_around_the_results(seed: int) -> None:
    call, guard = window_call(tokens=137, heads=3), 4096
    shape = call.queries[0].shape
    out_around = torch.full((call.queries[0].numel() + 2 * guard,), 7.0, dtype=torch.bfloat16, device="cuda")
    lse_around = torch.full((shape[1] * shape[2] + 2 * guard,), 7.0, device="cuda")
    out = out_around[guard:-guard].view(shape)
    lse = lse_around[guard:-guard].view(1, shape[2], shape[1])
    aapt_ext.paged_attention(call.queries, call.segments, out=out, lse=lse)
    assert torch.isfinite(out).all() and torch.isfinite(lse).all()
    for around in (out_around, lse_around):
        assert (around[:guard] == 7).all() and (around[-guard:] == 7).all()


@pytest.mark.parametrize("page", [-1, 1 << 20])
def test_page_beyond_the_pool_is_reported(page: int, seed: int) -> None:
    call = window_call()
    call.run()
    aapt_ext.check()
    call.segments[2].page_table[0, 1] = page
    call.run()
    with pytest.raises(RuntimeError, match="page"):
        aapt_ext.check()
    aapt_ext.check()


def test_the_second_device_is_used_where_the_arrays_are(seed: int) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    window_call(device="cuda:1").hold_against_reference()
