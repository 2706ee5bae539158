"""The operators as compositions of torch functions: what every other implementation must compute.

Any floating dtype (the tests use float64), any device, differentiable. Where the input is bfloat16 or float16 the
arithmetic is float32, rounded once at the end, as in the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from .layout import layout_of, logical_k, logical_v, unpack_weight


def wide(x: torch.Tensor) -> torch.Tensor:
    """`x` in the dtype that sums are made in."""
    return x if x.dtype == torch.float64 else x.float()


def rotate(x: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Turns neighbouring pairs of the last dimension.

    Args:
        x: [..., d].
        rotation: [..., d/2, 2], cos and sin; broadcast against x.
    """
    first, second = x[..., 0::2], x[..., 1::2]
    cos, sin = rotation[..., 0], rotation[..., 1]
    return torch.stack((first * cos - second * sin, first * sin + second * cos), -1).flatten(-2)


def merge_rotations(time_rotation: torch.Tensor, space_rotation: torch.Tensor) -> torch.Tensor:
    """[B, pt, 2] and [L, ps, 2] as [B, L, 1, pt + ps, 2], ready for [B, L, h, d]."""
    batch, rows = time_rotation.shape[0], space_rotation.shape[0]
    time = time_rotation[:, None].expand(batch, rows, *time_rotation.shape[1:])
    space = space_rotation[None].expand(batch, rows, *space_rotation.shape[1:])
    return torch.cat((time, space), 2)[:, :, None]


def qk_norm(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """RMSNorm of [..., h, d]: per head where weight is [d], over all heads where it is [h d], none where None."""
    if weight is None:
        return x
    heads, head_dim = x.shape[-2:]
    dims = (-1,) if weight.numel() == head_dim else (-2, -1)
    shape = (head_dim,) if weight.numel() == head_dim else (heads, head_dim)
    return x * torch.rsqrt(x.square().mean(dims, keepdim=True) + eps) * wide(weight).view(shape)


def norm_and_rotate(
    qkv: torch.Tensor,
    q_weight: torch.Tensor | None,
    k_weight: torch.Tensor | None,
    eps: float,
    time_rotation: torch.Tensor,
    space_rotation: torch.Tensor,
    pinned_rotation: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """What `cache_write` computes, without the pages: q, k, v and q_pinned (or None), each [B, L, h, d]."""
    q, k, v = qkv.unbind(2)
    q = qk_norm(wide(q), q_weight, eps)
    k = qk_norm(wide(k), k_weight, eps)
    rotation = merge_rotations(time_rotation, space_rotation)
    pinned = None
    if pinned_rotation is not None:
        pinned = rotate(q, merge_rotations(pinned_rotation, space_rotation)).to(qkv.dtype)
    return rotate(q, rotation).to(qkv.dtype), rotate(k, rotation).to(qkv.dtype), v, pinned


def cache_write(
    qkv: torch.Tensor,
    q_weight: torch.Tensor | None,
    k_weight: torch.Tensor | None,
    eps: float,
    time_rotation: torch.Tensor,
    space_rotation: torch.Tensor,
    pinned_rotation: torch.Tensor | None,
    page: torch.Tensor,
    k_pages: torch.Tensor,
    v_pages: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    q, k, v, pinned = norm_and_rotate(qkv, q_weight, k_weight, eps, time_rotation, space_rotation, pinned_rotation)
    for stream, number in enumerate(page.tolist()):
        write_rows(k_pages[number], v_pages[number], k[stream], v[stream])
    return q, pinned


def write_rows(k_page: torch.Tensor, v_page: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """Writes k and v [n, h, d] into the first n rows of one page of either layout."""
    n = k.shape[0]
    if k_page.ndim == 3:
        k_page[:, :n] = k.transpose(0, 1)
        v_page[:, :n] = v.transpose(0, 1)
        return
    heads, _, groups, block, g = k_page.shape
    for first in range(0, n, block):
        count = min(block, n - first)
        keys = k[first : first + count].view(count, heads, groups, g)
        k_page[:, first // block, :, :count] = keys.permute(1, 2, 0, 3)
    for lane in range(g):
        rows = v[lane::g]
        v_page[:, : rows.shape[0], :, lane] = rows.transpose(0, 1)


def gather_keys(
    k_pages: torch.Tensor,
    v_pages: torch.Tensor,
    rows: int,
    page_table: torch.Tensor,
    page_count: torch.Tensor,
    last_rows: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The keys and values that a segment lists, [B, h, P rows, d] each, and which of them are valid, [B, P rows].

    What is not valid is zero, whatever the storage holds.
    """
    layout, listed = layout_of(k_pages), page_table.shape[1]
    place = torch.arange(listed, device=page_table.device)
    page = torch.where(place < page_count[:, None], page_table, 0).long()
    count = torch.where(place + 1 == page_count[:, None], last_rows[:, None], rows)
    count = torch.where(place < page_count[:, None], count, 0)  # [B, P], valid rows
    valid = (torch.arange(rows, device=count.device) < count[..., None]).flatten(1)
    keys = logical_k(k_pages[page], rows, layout).transpose(1, 2).flatten(2, 3)
    values = logical_v(v_pages[page], rows, layout).transpose(1, 2).flatten(2, 3)
    keep = valid[:, None, :, None]
    return torch.where(keep, keys, 0), torch.where(keep, values, 0), valid


def key_mask(lengths: Sequence[int], tokens: int, device: torch.device, rest: int = 0) -> torch.Tensor | None:
    """[B, 1, 1, tokens + rest] bool for torch's attention: the first `lengths` of each stream's tokens are visible, and
    `rest` keys behind them; None where every token is."""
    if all(length == tokens for length in lengths):
        return None
    visible = torch.arange(tokens, device=device) < torch.tensor(lengths, device=device)[:, None]
    return F.pad(visible, (0, rest), value=True)[:, None, None]


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """softmax(q k^T scale) v, differentiable; [B, h, L, d] over [B, h, keys, d].

    Args:
        mask: bool that broadcasts to [B, h, L, keys]; True is visible.
        scale: d^-0.5 where None.

    On a CPU products that keep the weights [B, h, L, keys]: for the few rows of a latent frame faster than torch's
    attention, which keeps none, and in bfloat16 less exact, since scores are rounded
    (`bench/bench_attention_gradient.py` measures both).
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    scores = q * (q.shape[-1] ** -0.5 if scale is None else scale) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(v.dtype) @ v


def paged_attention(
    queries: Sequence[torch.Tensor],
    k_pages: Sequence[torch.Tensor],
    v_pages: Sequence[torch.Tensor],
    rows: Sequence[int],
    page_tables: Sequence[torch.Tensor],
    page_counts: Sequence[torch.Tensor],
    last_rows: Sequence[torch.Tensor],
    query_index: Sequence[int],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    scores, values = [], []
    for i, query in enumerate(query_index):
        k, v, valid = gather_keys(k_pages[i], v_pages[i], rows[i], page_tables[i], page_counts[i], last_rows[i])
        score = wide(queries[query]).transpose(1, 2) @ wide(k).transpose(2, 3) * scale
        scores.append(score.masked_fill(~valid[:, None, None], -torch.inf))
        values.append(wide(v))
    score = torch.cat(scores, -1)  # [B, h, L, keys]
    top = score.amax(-1, keepdim=True).detach().clamp_min(torch.finfo(score.dtype).min)
    weight = torch.exp(score - top)
    total = weight.sum(-1, keepdim=True)
    out = weight @ torch.cat(values, 2) / total.clamp_min(torch.finfo(score.dtype).tiny)
    lse = (torch.log(total) + top).squeeze(-1)
    return out.transpose(1, 2).to(queries[0].dtype), lse.float()


def modulate(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> torch.Tensor:
    return _modulate(wide(x), scale, shift, weight, bias, eps).to(x.dtype)


def residual_modulate(
    x: torch.Tensor,
    y: torch.Tensor,
    gate: torch.Tensor | None,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    residual = _gated_sum(x, y, gate)
    return residual.to(x.dtype), _modulate(residual, scale, shift, weight, bias, eps).to(x.dtype)


def _gated_sum(x: torch.Tensor, y: torch.Tensor, gate: torch.Tensor | None) -> torch.Tensor:
    return wide(x) + (wide(y) if gate is None else wide(gate)[:, None] * wide(y))


def _modulate(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> torch.Tensor:
    out = F.layer_norm(
        x,
        x.shape[-1:],
        None if weight is None else wide(weight),
        None if bias is None else wide(bias),
        eps,
    )
    if scale is not None:
        out = out * (1 + wide(scale)[:, None])
    return out if shift is None else out + wide(shift)[:, None]


def quantise(x: torch.Tensor, activation: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [..., K] in fp8, and the scale of each [...], float32."""
    x = wide(x)
    if activation == "gelu_tanh":
        x = F.gelu(x, approximate="tanh")
    scale = (x.abs().amax(-1) / 448).float().clamp_min(1e-30)
    # Clamped, because torch's cast did not always saturate.
    values = (x * (1 / scale.to(x.dtype))[..., None]).clamp(-448, 448)
    return values.to(torch.float8_e4m3fn), scale


def dequantise(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """What fp8 rows stand for, in float32."""
    return values.float() * scale[..., None]


def modulate_quantised(x: torch.Tensor, *vectors_and_eps: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Arguments as of `modulate`."""
    return quantise(_modulate(wide(x), *vectors_and_eps), "none")


def residual_modulate_quantised(
    x: torch.Tensor, y: torch.Tensor, gate: torch.Tensor | None, *vectors_and_eps: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Arguments as of `residual_modulate`."""
    residual = _gated_sum(x, y, gate)
    return residual.to(x.dtype), *quantise(_modulate(residual, *vectors_and_eps), "none")


def patchify(x: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] as [B, L, 4 C]; a token's elements are ordered (channel, y, x)."""
    batch, channels, height, width = x.shape
    x = x.view(batch, channels, height // 2, 2, width // 2, 2)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, channels * 4)


def unpatchify(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """[B, L, 4 C] as [B, C, H, W]; a token's elements are ordered (y, x, channel)."""
    batch, _, features = x.shape
    x = x.view(batch, height // 2, width // 2, 2, 2, features // 4)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(batch, features // 4, height, width)


def _plain(weight: torch.Tensor, outputs: int) -> torch.Tensor:
    return unpack_weight(weight, outputs) if weight.ndim == 3 else weight.flatten(1)


def patch_embed(
    sources: Sequence[torch.Tensor], weight: torch.Tensor, bias: torch.Tensor | None, outputs: int
) -> torch.Tensor:
    patches = torch.cat([patchify(source) for source in sources], -1)
    return linear(patches, weight, bias, "none", outputs)


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str, outputs: int
) -> torch.Tensor:
    out = F.linear(wide(x), wide(_plain(weight, outputs)), None if bias is None else wide(bias))
    if activation == "gelu_tanh":
        out = F.gelu(out, approximate="tanh")
    elif activation == "silu":
        out = F.silu(out)
    return out.to(x.dtype)


def denoise(
    x: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    noisy: torch.Tensor,
    timestep: float,
    eps: float,
) -> torch.Tensor:
    normed = _modulate(wide(x), scale, shift, None, None, eps)
    velocity = F.linear(normed, wide(_plain(weight, 4 * noisy.shape[1])), None if bias is None else wide(bias))
    return (wide(noisy) - timestep * unpatchify(velocity, *noisy.shape[2:])).to(noisy.dtype)
