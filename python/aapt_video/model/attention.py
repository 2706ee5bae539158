"""Attention over frames that are tensors: a whole clip at once, or a rollout that gradients flow through.

The same rules as over pages. A frame looks at its text, at the pinned first position once that has left the window, at
the newest N past frames, and at itself. Over pages and in a clip a second query makes text and pinned position seem at
most `pinned_cap` frames away; in a rollout their keys are turned nearer instead, which gives the same scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aapt_ext import ClipText, reference, training_attention

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
        return reference.key_mask(self.lengths, k.shape[2], k.device, rest)


def heads_first(x: Tensor) -> Tensor:
    """[B, rows, h, d] as [B, h, rows, d], or back."""
    return x.transpose(1, 2)


def split_heads(x: Tensor, config: TransformerConfig) -> Tensor:
    """[B, rows, D] as [B, h, rows, d]."""
    return heads_first(torch.unflatten(x, -1, (config.heads, config.head_dim)))


def normed_heads(x: Tensor, weight: Tensor, config: TransformerConfig) -> Tensor:
    """RMSNorm of [B, rows, D] as [B, h, rows, d]; no rotation."""
    heads = torch.unflatten(x, -1, (config.heads, config.head_dim))
    return heads_first(reference.qk_norm(reference.wide(heads), weight, config.eps).to(x.dtype))


def merged_heads(x: Tensor) -> Tensor:
    """[B, h, rows, d] as [B, rows, D]."""
    return heads_first(x).flatten(2)


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

    def split(
        self, qkv: Tensor, qk_norm: QKNorm, frames: Sequence[int], seeming: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What a projection [B, T L, 3 D] of these frames holds, normed and rotated.

        Args:
            seeming: where each frame seems to be when it looks at text and at the pinned position.

        Returns:
            q, k, v, and q turned to `seeming` (None where that is None), [B, T, L, h, d] each.
        """
        config, count = self.config, len(frames)
        batch = qkv.shape[0]
        qkv = qkv.reshape(batch * count, -1, 3, config.heads, config.head_dim)

        def rotation(times: Sequence[int]) -> Tensor:
            return self._on_device(time_angles(config, times)).repeat(batch, 1, 1)

        time, pinned = rotation(frames), None if seeming is None else rotation(seeming)
        q, k, v, q_pinned = reference.norm_and_rotate(qkv, qk_norm.q, qk_norm.k, config.eps, time, self._space, pinned)
        q, k, v = (torch.unflatten(x, 0, (batch, count)) for x in (q, k, v))
        return q, k, v, None if q_pinned is None else torch.unflatten(q_pinned, 0, (batch, count))

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
        return reference.attention(q, k, v, mask)

    def clip(self, layer: int, block: Block, count: int, qkv: Tensor) -> Tensor:
        """Self-attention of a whole clip: [B, T L, 3 D] -> [B, T L, D]."""
        frames = range(self.first, self.first + count)
        if not self.config.causal:
            q, k, v, _ = self.split(qkv, block.qk_norm, frames)
            q, k, v = (heads_first(x.flatten(1, 2)) for x in (q, k, v))
            return merged_heads(self.frame(layer, self.first, q, [(k, v)], None))
        seeming = [pinned_time(self.config, number, self.first) for number in frames]
        nearer = sum(time < number for time, number in zip(seeming, frames, strict=True))
        q, k, v, q_pinned = self.split(qkv, block.qk_norm, frames, seeming if nearer else None)
        joint = self.config.text == "joint"
        out = training_attention(
            q,
            k,
            v,
            self.config.window,
            texts=[self._clip_text(text, layer, q.dtype) for text in self.texts] if joint else (),
            text_of=[self.text_of(number) for number in frames] if joint else None,
            q_pinned=None if q_pinned is None else q_pinned[:, -nearer:],
        )
        return out.flatten(3).flatten(1, 2)

    @staticmethod
    def _clip_text(text: TextKeys, layer: int, dtype: torch.dtype) -> ClipText:
        k, v = (heads_first(side.to(dtype)) for side in text.layers[layer])
        return ClipText(k, v, text.lengths)

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
            outputs.append(reference.attention(asked, k, v, text.mask()))
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
