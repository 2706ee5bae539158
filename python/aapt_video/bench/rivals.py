"""The same step as good torch code does it: modules, SDPA, and a contiguous ring of keys that is written in place.

It follows the paper's block and the open implementations: text and the pinned frame in front of the ring, keys stored
after rotation, modulation and text computed once because the timestep is constant, one projection for q, k and v, no
copy of the keys. Its pinned position keeps its true distance, so it equals ours up to `pinned_cap`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from aapt_video.model import TextKeys, Transformer
from aapt_video.model.block import Block, Cross, modulation
from aapt_video.model.rotary import space_angles, time_angles

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q [1, h, L, d], k and v [1, h, keys, d] -> [1, h, L, d]."""


class RingStep(nn.Module):
    """One latent frame of one stream, window full or filling; weights are shared with the model.

    Args:
        text: of one prompt, all of its tokens valid; None where the model knows no text.
        attention: over the ring; SDPA where None.
        share: whose keys to read and write, which may be gigabytes; None: its own.
    """

    def __init__(
        self,
        model: Transformer,
        height: int,
        width: int,
        text: TextKeys | None,
        attention: Attention | None = None,
        share: RingStep | None = None,
    ) -> None:
        super().__init__()
        config, weight = model.config, model.head.weight
        self.model, self.config = model, config
        self.attention: Attention = attention or F.scaled_dot_product_attention
        joint = text is not None and config.text == "joint"
        self.tokens, self.prefix = config.tokens(height, width), text.layers[0][0].shape[2] if text and joint else 0
        length = self.prefix + (config.window + 2) * self.tokens  # text, pinned position, ring
        shape = (config.blocks, 1, config.heads, length, config.head_dim)
        self.k: Tensor
        self.v: Tensor
        for name in ("k", "v"):
            keys = (
                torch.zeros(shape, dtype=weight.dtype, device=weight.device) if share is None else getattr(share, name)
            )
            self.register_buffer(name, keys, persistent=False)
        self.cross_keys = text.layers if text and config.text == "cross" else ()
        for layer, (k, v) in enumerate(text.layers if text and joint else ()):
            self.k[layer, :, :, : self.prefix], self.v[layer, :, :, : self.prefix] = k, v
        with torch.no_grad():
            embedding = model.time_embedding(torch.ones(1, dtype=torch.float64, device=weight.device))
            time = model.time_blocks(F.silu(embedding))
            self.modulations = [tuple(v[:, None] for v in modulation(block.table, time)) for block in model.stack]
            self.shift, self.scale = (model.final_table + embedding).unsqueeze(1).unsqueeze(1)
        self.space = space_angles(config, height, width).float().to(weight.device)
        self.height, self.width = height, width

    def write_frame(self, layer: int, number: int, k: Tensor, v: Tensor) -> None:
        """Puts the keys and values [L, h, d] of a past position into one block's ring."""
        rows = slice(self.slot(number), self.slot(number) + self.tokens)
        self.k[layer, 0, :, rows], self.v[layer, 0, :, rows] = k.transpose(0, 1), v.transpose(0, 1)

    def rotation(self, number: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [L, 1, d/2] at a position, computed on the host as any loop would."""
        time = time_angles(self.config, [number]).float().to(self.space.device).expand(self.tokens, -1, -1)
        both = torch.cat((time, self.space), 1)[:, None]
        return both[..., 0].contiguous(), both[..., 1].contiguous()

    def slot(self, number: int) -> int:
        """Where a position's keys go: the pinned one in front, the others around the ring."""
        frame = 0 if number == 1 else 1 + (number - 2) % (self.config.window + 1)
        return self.prefix + frame * self.tokens

    def place(self, number: int) -> tuple[Tensor, int]:
        """The rows [L] int64 that a position writes, and how many rows hold keys then."""
        rows = torch.arange(self.slot(number), self.slot(number) + self.tokens, device=self.space.device)
        return rows, self.prefix + min(number, self.config.window + 2) * self.tokens

    def forward(
        self, noise: Tensor, condition: Tensor | None, previous: Tensor, cos: Tensor, sin: Tensor, place: Tensor,
        seen: int,
    ) -> Tensor:  # fmt: skip
        """The clean latent [1, C, H, W]; `place` and `seen` as from `place()`."""
        config, heads = self.config, (self.config.heads, self.config.head_dim)
        sources = [source for source in (noise, condition, previous) if source is not None]
        x = self.model.patch(torch.cat(sources, 1)).flatten(2).transpose(1, 2)
        for layer, block in enumerate(self.model.stack):
            shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulations[layer]
            h = F.layer_norm(x, x.shape[-1:], eps=config.eps) * (1 + scale_1) + shift_1
            q, k, v = block.qkv(h).unflatten(-1, (3, *heads)).unbind(2)  # [1, L, h, d]
            q = self._rotate(self._norm(q, block.qk_norm.q), cos, sin)
            k = self._rotate(self._norm(k, block.qk_norm.k), cos, sin)
            self.k[layer].index_copy_(2, place, k.transpose(1, 2))
            self.v[layer].index_copy_(2, place, v.transpose(1, 2))
            a = self.attention(q.transpose(1, 2), self.k[layer, :, :, :seen], self.v[layer, :, :, :seen])
            x = x + gate_1 * block.out(a.transpose(1, 2).flatten(2))
            if block.cross is not None:
                x = x + self._ask_text(layer, block, x)
            h = F.layer_norm(x, x.shape[-1:], eps=config.eps) * (1 + scale_2) + shift_2
            x = x + gate_2 * block.down(F.gelu(block.up(h), approximate="tanh"))
        x = F.layer_norm(x, x.shape[-1:], eps=config.eps) * (1 + self.scale) + self.shift
        velocity = self.model.head(x).view(1, self.height // 2, self.width // 2, 2, 2, config.channels)
        latent: Tensor = noise - velocity.permute(0, 5, 1, 3, 2, 4).reshape(noise.shape)
        return latent

    def _ask_text(self, layer: int, block: Block, x: Tensor) -> Tensor:
        cross = cast(Cross, block.cross)
        q = cross.q(cross.norm(x)).unflatten(-1, (self.config.heads, self.config.head_dim))
        k, v = self.cross_keys[layer]
        answer = F.scaled_dot_product_attention(self._norm(q, cross.qk_norm.q).transpose(1, 2), k, v)
        return cast(Tensor, cross.out(answer.transpose(1, 2).flatten(2)))

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm of [1, L, h, d] over all heads, or per head."""
        if self.config.qk_norm == "head":
            return F.rms_norm(x, (x.shape[-1],), weight, self.config.eps)
        flat = x.flatten(2)
        return F.rms_norm(flat, (flat.shape[-1],), weight, self.config.eps).view(x.shape)

    @staticmethod
    def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = torch.unflatten(x.float(), -1, (-1, 2)).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


@contextmanager
def best_attention(device: torch.device) -> Iterator[None]:
    """On a GPU, SDPA tries cuDNN first, then FlashAttention; elsewhere torch chooses."""
    if device.type != "cuda":
        yield
        return
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(order, set_priority=True):
        yield


def compiled(step: RingStep, device: torch.device) -> Callable[..., Tensor]:
    """The step under torch.compile; on a GPU every matrix product is tuned and the whole is captured in a graph."""
    mode = "max-autotune" if device.type == "cuda" else None
    return cast(Callable[..., Tensor], torch.compile(step, fullgraph=True, mode=mode))


def flex_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """FlexAttention without a mask: every key of the ring is visible. It is fast only inside torch.compile."""
    from torch.nn.attention import flex_attention as flex

    return flex.flex_attention(q, k, v)
