"""`denoise`: final norm, projection, unpatchify and the step to the clean latent, in one pass over the tokens."""

from __future__ import annotations

from typing import Any

import torch

from . import _C, reference
from ._library import register
from .arrays import empty, is_torch
from .dispatch import cuda_stream


def denoise(
    x: Any,
    scale: Any,
    shift: Any,
    weight: Any,
    bias: Any | None,
    noisy: Any,
    timestep: float = 1.0,
    *,
    eps: float = 1e-6,
    out: Any | None = None,
    dtype: str | None = None,
) -> Any:
    """x0 = noisy - timestep * velocity, velocity = unpatchify((LayerNorm(x) (1 + scale) + shift) weight^T + bias).

    Args:
        x: [B, L, D], tokens after the last block, L = (H/2)(W/2).
        scale, shift: [B, D].
        weight: [4 C, D], or on a CPU `pack_weight` of it; output (2 y + x) C + c is channel c of pixel (y, x).
        bias: [4 C] or None.
        noisy: [B, C, H, W], the latent at `timestep`; the noise itself where timestep = 1.
        timestep: in [0, 1]; rectified flow, x_t = (1 - t) x0 + t noise, velocity = noise - x0.
        eps: added to the variance.
        out: [B, C, H, W] to write to; allocated where None. It may be `noisy` itself.
        dtype: `"bf16"` where 16-bit unsigned integers mean bfloat16 (NumPy).

    Returns:
        The clean latent [B, C, H, W].

    Raises:
        ValueError: an argument's shape, dtype, device or strides are not as above.
    """
    if out is None:
        if is_torch(x):
            return torch.ops.aapt.denoise(x, scale, shift, weight, bias, noisy, float(timestep), eps)
        out = empty(noisy, tuple(noisy.shape))
    _C.denoise(x, scale, shift, weight, bias, noisy, timestep, eps, out, dtype=dtype, stream=cuda_stream(x))
    return out


def _empty(*arguments: Any) -> torch.Tensor:
    *_, noisy, _timestep, _eps = arguments
    return torch.empty_like(noisy, memory_format=torch.contiguous_format)


register(
    "denoise",
    "(Tensor x, Tensor scale, Tensor shift, Tensor weight, Tensor? bias, Tensor noisy, float timestep, "
    "float eps) -> Tensor",
    empty=_empty,
    bound=lambda arguments, out: (*arguments, out),
    reference=reference.denoise,
)
