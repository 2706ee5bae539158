"""cache_write: norm of q and k, 3-D RoPE, k and v into the page, q (and q_pinned) out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import aapt_ext
from aapt_ext import PagePool, reference

from .backends import CPU_PATHS, every_path
from .rule import assert_within_rule, cast, summed_in_own_dtype


class Frame:
    """Random inputs of one latent frame of `batch` streams, in float64."""

    def __init__(self, batch, rows, heads, head_dim, norm, pinned=True):
        pairs = head_dim // 2
        time_pairs = max(1, pairs // 3)
        size = {"none": None, "head": head_dim, "all": heads * head_dim}[norm]

        def rotation(n, count):
            angle = torch.randn(n, count, dtype=torch.float64) * 3
            return torch.stack((angle.cos(), angle.sin()), -1)

        self.qkv = torch.randn(batch, rows, 3, heads, head_dim, dtype=torch.float64)
        self.q_weight, self.k_weight = (torch.randn(size, dtype=torch.float64) if size else None for _ in range(2))
        self.time, self.pinned = rotation(batch, time_pairs), rotation(batch, time_pairs) if pinned else None
        self.space = rotation(rows, pairs - time_pairs)

    def inputs(self, dtype):
        """Arguments of `reference.norm_and_rotate`; rotations are float32 unless dtype is float64."""
        rotation_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        qkv, q_weight, k_weight = cast((self.qkv, self.q_weight, self.k_weight), dtype)
        time, space, pinned = cast((self.time, self.space, self.pinned), rotation_dtype)
        return qkv, q_weight, k_weight, 1e-6, time, space, pinned


def poisoned_pool(frame, layout, dtype, pages=5):
    _, rows, _, heads, head_dim = frame.qkv.shape
    pool = PagePool(2, pages, heads, rows, head_dim, dtype=dtype, layout=layout)
    pool.k_pages.fill_(float("nan"))
    pool.v_pages.fill_(float("nan"))
    return pool


def write(frame, layout, dtype):
    """Runs the operator; returns (q, k, v, q_pinned) with k and v read back from the pages."""
    pool = poisoned_pool(frame, layout, dtype)
    batch = frame.qkv.shape[0]
    page = torch.tensor([3, 1, 4][:batch], dtype=torch.int32)
    qkv, q_weight, k_weight, eps, time, space, pinned = frame.inputs(dtype)
    k_pages, v_pages = pool.layer(1)
    q, q_pinned = aapt_ext.cache_write(
        qkv, q_weight, k_weight, time, space, page, k_pages, v_pages, pinned_rotation=pinned, eps=eps
    )
    pages = [pool.read(1, number) for number in page.tolist()]
    untouched = [n for n in range(pool.pages) if n not in page.tolist()]
    assert pool.k_pages[0].isnan().all() and pool.v_pages[0].isnan().all(), "another layer was written"
    assert k_pages[untouched].isnan().all() and v_pages[untouched].isnan().all(), "another page was written"
    return q, torch.stack([k for k, _ in pages]), torch.stack([v for _, v in pages]), q_pinned


def hold_against_reference(frame, layout, dtype):
    inputs = frame.inputs(dtype)
    exact = reference.norm_and_rotate(*cast(inputs, torch.float64))
    with summed_in_own_dtype():
        composed = reference.norm_and_rotate(*inputs)
    assert_within_rule(write(frame, layout, dtype), exact, composed)


@every_path
@pytest.mark.parametrize("layout", ["plain", "tiled"])
@pytest.mark.parametrize("norm", ["none", "head", "all"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (2, 48, 3, 64), (3, 17, 2, 18), (1, 33, 2, 128)])
def test_every_path_keeps_the_error_rule(path, dtype, layout, norm, shape, seed):
    with aapt_ext.backend(path):
        hold_against_reference(Frame(*shape, norm), layout, dtype)


@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 4), st.integers(1, 40), st.integers(0, 2**31), st.data())
def test_any_shape_keeps_the_error_rule(batch, rows, heads, half_dim, seed, data):
    torch.manual_seed(seed)
    path, dtype = data.draw(st.sampled_from(CPU_PATHS))
    layout = data.draw(st.sampled_from(["plain", "tiled"]))
    norm, pinned = data.draw(st.sampled_from(["none", "head", "all"])), data.draw(st.booleans())
    with aapt_ext.backend(path):
        hold_against_reference(Frame(batch, rows, heads, 2 * half_dim, norm, pinned), layout, dtype)


@every_path
def test_values_arrive_bit_for_bit(path, dtype, seed):
    frame = Frame(2, 21, 3, 32, "all")
    with aapt_ext.backend(path):
        for layout in ("plain", "tiled"):
            assert torch.equal(write(frame, layout, dtype)[2], frame.qkv[:, :, 2].to(dtype))


def test_only_the_difference_of_times_matters(seed):
    """q k^T after rotation is the same when both times move together: evicted keys never need turning again."""
    frame = Frame(1, 4, 1, 16, "none", pinned=False)
    angle = torch.randn(1, frame.time.shape[1], dtype=torch.float64)

    def scores(shift):
        turn = [torch.stack(((angle * t).cos(), (angle * t).sin()), -1) for t in (5 + shift, 2 + shift)]
        q = reference.norm_and_rotate(frame.qkv, None, None, 1e-6, turn[0], frame.space)[0]
        k = reference.norm_and_rotate(frame.qkv, None, None, 1e-6, turn[1], frame.space)[1]
        return torch.einsum("blhd,bmhd->bhlm", q, k)

    torch.testing.assert_close(scores(0), scores(1000), rtol=0, atol=1e-9)


def test_a_gradient_is_refused():
    frame = Frame(1, 4, 1, 8, "none")
    pool = poisoned_pool(frame, "tiled", torch.float32)
    qkv, q_weight, k_weight, eps, time, space, _ = frame.inputs(torch.float32)
    page = torch.tensor([0], dtype=torch.int32)
    with pytest.raises(ValueError, match="qkv needs a gradient"):
        aapt_ext.cache_write(qkv.requires_grad_(), q_weight, k_weight, time, space, page, *pool.layer(0), eps=eps)
