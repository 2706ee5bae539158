"""The compiled module; see csrc/module.cpp."""

from collections.abc import Sequence
from typing import Any

built_with_cuda: bool
cuda_operators: tuple[str, ...]

def paged_attention(
    queries: Sequence[Any],
    segments: Sequence[Sequence[Any]],
    scale: float,
    out: Any,
    lse: Any | None = None,
    *,
    dtype: str | None = None,
    stream: int | None = None,
) -> None: ...
def cache_write(
    qkv: Any,
    q_weight: Any | None,
    k_weight: Any | None,
    eps: float,
    time_rotation: Any,
    space_rotation: Any,
    pinned_rotation: Any | None,
    page: Any,
    k_pages: Any,
    v_pages: Any,
    q: Any,
    q_pinned: Any | None,
    *,
    dtype: str | None = None,
    stream: int | None = None,
) -> None: ...
def patch_embed(
    sources: Sequence[Any],
    weight: Any,
    bias: Any | None,
    out: Any,
    *,
    dtype: str | None = None,
    stream: int | None = None,
) -> None: ...
def modulate(
    x: Any,
    y: Any | None,
    gate: Any | None,
    scale: Any | None,
    shift: Any | None,
    weight: Any | None,
    bias: Any | None,
    eps: float,
    residual: Any | None,
    out: Any,
    row_scale: Any | None = None,
    *,
    dtype: str | None = None,
    stream: int | None = None,
) -> None: ...
def quantise(
    x: Any,
    activation: str,
    out: Any,
    row_scale: Any,
    *,
    dtype: str | None = None,
    stream: int | None = None,
) -> None: ...
def denoise(
    x: Any,
    scale: Any,
    shift: Any,
    weight: Any,
    bias: Any | None,
    noisy: Any,
    timestep: float,
    eps: float,
    out: Any,
    *,
    dtype: str | None = None,
    stream: int | None = None,
) -> None: ...
def linear(x: Any, weight: Any, bias: Any | None, activation: str, out: Any, *, dtype: str | None = None) -> None: ...
def force_cpu_backend(name: str) -> None: ...
def forced_cpu_backend() -> str: ...
def cpu_backend() -> str: ...
def cpu_backends() -> list[str]: ...
def cuda_report() -> dict[str, Any]: ...
def take_bad_page(device: int) -> int: ...
