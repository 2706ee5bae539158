"""Attention over frames that are tensors: a whole clip at once, or a rollout that gradients flow through.

The same rules as over pages. A frame looks at its text, at the pinned first position once that has left the window, at
the newest N past frames, and at itself. Over pages a second query makes text and pinned position seem at most
`pinned_cap` frames away; here their keys are turned nearer instead, which gives the same scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aapt_ext import reference

from .block import Block, QKNorm
from .config import TransformerConfig
from .rotary import pinned_time, rotation_dtype, space_angles, time_angles

KeysValues = tuple[Tensor, Tensor]
"""k after norm and rotation, and v: [B, h, keys, d] each."""


@dataclass(frozen=True)
class TextKeys:
    """What a batch of prompts shows to the frames, in every block."""

    layers: tuple[KeysValues, ...]
    """Per block [B, h, S, d]."""
    lengths: tuple[int, ...]
    """Valid tokens of each stream's prompt, 1 to S."""

    def mask(self, rest: int = 0) -> Tensor | None:
        """[B, 1, 1, S + rest] bool, or None where every token is valid; `rest` keys behind the text are visible."""
        k = self.layers[0][0]
        return key_mask(self.lengths, k.shape[2], k.device, rest)


def key_mask(lengths: Sequence[int], tokens: int, device: torch.device, rest: int = 0) -> Tensor | None:
    if all(length == tokens for length in lengths):
        return None
    visible = torch.arange(tokens, device=device) < torch.tensor(lengths, device=device)[:, None]
    return F.pad(visible, (0, rest), value=True)[:, None, None]


def split_heads(x: Tensor, config: TransformerConfig) -> Tensor:
    """[B, rows, D] as [B, h, rows, d]."""
    return torch.unflatten(x, -1, (config.heads, config.head_dim)).transpose(1, 2)


def normed_heads(x: Tensor, weight: Tensor, config: TransformerConfig) -> Tensor:
    """RMSNorm of [B, rows, D] as [B, h, rows, d]; no rotation."""
    heads = torch.unflatten(x, -1, (config.heads, config.head_dim))
    return reference.qk_norm(reference.wide(heads), weight, config.eps).to(x.dtype).transpose(1, 2)


def merged_heads(x: Tensor) -> Tensor:
    """[B, h, rows, d] as [B, rows, D]."""
    return x.transpose(1, 2).flatten(2)


class Look:
    """What the frames of one clip or rollout see; built once, used by every block.

    Args:
        height, width: of a latent frame, in latent pixels.
        texts: the prompts that were in force; text_of: which of them each frame from `first` on sees.
        first: the number of the clip's first position, which is the pinned one.
    """

    def __init__(
        self,
        config: TransformerConfig,
        height: int,
        width: int,
        texts: Sequence[TextKeys],
        text_of: Callable[[int], int],
        first: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.config, self.texts, self.text_of, self.first = config, texts, text_of, first
        self._exact = rotation_dtype(dtype)
        self._device = device
        self._space = self._on_device(space_angles(config, height, width))
        self._nearer: dict[int, Tensor] = {}

    def split(self, qkv: Tensor, qk_norm: QKNorm, frames: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [B, h, T, L, d] of the projection [B, T L, 3 D] of these frames, normed and rotated."""
        config, count = self.config, len(frames)
        batch = qkv.shape[0]
        qkv = qkv.reshape(batch * count, -1, 3, config.heads, config.head_dim)
        time = self._on_device(time_angles(config, frames)).repeat(batch, 1, 1)
        q, k, v, _ = reference.norm_and_rotate(qkv, qk_norm.q, qk_norm.k, config.eps, time, self._space)
        q, k, v = (torch.unflatten(x, 0, (batch, count)).permute(0, 3, 1, 2, 4) for x in (q, k, v))
        return q, k, v

    def frame(
        self, layer: int, number: int, q: Tensor, window: Sequence[KeysValues], pinned: KeysValues | None
    ) -> Tensor:
        """Attention of one frame.

        Args:
            q: [B, h, L, d].
            window: the frames in the window and this one, in any order.
            pinned: the first position where it has left the window.

        Returns:
            [B, h, L, d].
        """
        far = [] if pinned is None else [pinned]
        mask = None
        if self.config.text == "joint":
            text = self.texts[self.text_of(number)]
            far.insert(0, text.layers[layer])
            rest = sum(k.shape[2] for k, _ in (*far[1:], *window))
            mask = text.mask(rest)
        nearer = number - pinned_time(self.config, number, self.first)
        if nearer > 0:
            far = [(reference.rotate(reference.wide(k), self._turn(nearer)).to(k.dtype), v) for k, v in far]
        seen = [*far, *window]
        k, v = (torch.cat(parts, 2) for parts in zip(*seen, strict=True))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def clip(self, layer: int, block: Block, count: int, qkv: Tensor) -> Tensor:
        """Self-attention of a whole clip: [B, T L, 3 D] -> [B, T L, D]."""
        frames = range(self.first, self.first + count)
        q, k, v = self.split(qkv, block.qk_norm, frames)
        keys = list(zip(k.unbind(2), v.unbind(2), strict=True))
        if not self.config.causal:
            whole = self.frame(layer, self.first, q.flatten(2, 3), keys, None)
            return merged_heads(whole)
        outputs = []
        for i in range(count):
            start = max(0, i - self.config.window)
            pinned = keys[0] if start > 0 else None
            outputs.append(self.frame(layer, frames[i], q[:, :, i], keys[start : i + 1], pinned))
        return merged_heads(torch.cat(outputs, 2))

    def cross(self, layer: int, block: Block, count: int, q: Tensor) -> Tensor:
        """Cross-attention to the text: [B, T L, D] -> [B, T L, D]; neighbours with one prompt go together."""
        assert block.cross is not None
        heads = torch.unflatten(normed_heads(q, block.cross.qk_norm.q, self.config), 2, (count, -1))
        outputs, i = [], 0
        while i < count:
            prompt, end = self.text_of(self.first + i), i + 1
            while end < count and self.text_of(self.first + end) == prompt:
                end += 1
            text = self.texts[prompt]
            k, v = text.layers[layer]
            asked = heads[:, :, i:end].flatten(2, 3)
            outputs.append(F.scaled_dot_product_attention(asked, k, v, attn_mask=text.mask()))
            i = end
        return merged_heads(torch.cat(outputs, 2))

    def _turn(self, frames: int) -> Tensor:
        """The rotation by a span of time that leaves the picture's axes alone, [d/2, 2]."""
        if frames not in self._nearer:
            time = time_angles(self.config, [frames])[0]
            still = torch.tensor([1.0, 0.0], dtype=time.dtype).expand(self.config.head_dim // 2 - len(time), 2)
            self._nearer[frames] = self._on_device(torch.cat((time, still)))
        return self._nearer[frames]

    def _on_device(self, angles: Tensor) -> Tensor:
        return angles.to(self._device, self._exact)
