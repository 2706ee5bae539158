"""Which pages a frame sees: the pinned first position, the newest N, itself. To evict is to drop a number."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from aapt_video.codec import CodecState
from aapt_video.model import FramePlan, TransformerConfig

from .state import StreamState


def plan(state: StreamState, page: int) -> FramePlan:
    """What the next frame of a stream reads, and the page that it writes.

    The pinned position is named only where it has left the window, so no key is counted twice.
    """
    pinned = state.first if state.first not in state.window else None
    prompt = state.prompt
    return FramePlan(
        number=state.frame + 1,
        page=page,
        window=state.window,
        pinned=pinned,
        text=None if prompt is None else prompt.page,
        text_tokens=0 if prompt is None else prompt.tokens,
    )


def advance(
    state: StreamState, config: TransformerConfig, page: int, latent: Tensor, decoder: CodecState, control: int
) -> StreamState:
    """The state after a frame was written to `page`."""
    return replace(
        state,
        frame=state.frame + 1,
        first=page if state.first is None else state.first,
        window=(*state.window, page)[-config.window :],
        latent=latent,
        decoder=decoder,
        control=control,
    )
