"""The same step as good torch code does it: modules, SDPA, and a contiguous ring of keys that is written in place.

It follows the paper's block and the open implementations: one text prefix and the pinned frame in front of the ring,
keys stored after rotation, modulation computed once because the timestep is constant. Its pinned position keeps its
true distance, so it equals ours up to `pinned_cap`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aapt_video.model import TextKeys, Transformer
from aapt_video.model.block import modulation
from aapt_video.model.rotary import space_angles, time_angles


class EagerStep(nn.Module):
    """One latent frame of one stream, window full or filling.

    Args:
        model: joint text.
        text: of one prompt, all of its tokens valid.
    """

    def __init__(self, model: Transformer, height: int, width: int, text: TextKeys) -> None:
        super().__init__()
        config = model.config
        self.model, self.config = model, config
        self.tokens, self.prefix = config.tokens(height, width), text.layers[0][0].shape[2]
        weight = model.head.weight
        length = self.prefix + (config.window + 2) * self.tokens  # text, pinned position, ring
        shape = (config.blocks, 1, config.heads, length, config.head_dim)
        self.register_buffer("k", torch.zeros(shape, dtype=weight.dtype), persistent=False)
        self.register_buffer("v", torch.zeros(shape, dtype=weight.dtype), persistent=False)
        for layer, (k, v) in enumerate(text.layers):
            self.k[layer, :, :, : self.prefix], self.v[layer, :, :, : self.prefix] = k, v
        embedding = model.time_embedding(torch.ones(1, dtype=torch.float64))
        time = model.time_blocks(F.silu(embedding))
        self.modulations = [tuple(v[:, None] for v in modulation(block.table, time)) for block in model.stack]
        self.shift, self.scale = (model.final_table + embedding).unsqueeze(1).unsqueeze(1)
        self.space = space_angles(config, height, width).float()
        self.height, self.width = height, width

    def rotation(self, number: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [L, 1, d/2] at a position, computed on the host as any loop would."""
        time = time_angles(self.config, [number]).float().expand(self.tokens, -1, -1)
        both = torch.cat((time, self.space), 1)[:, None]
        return both[..., 0].contiguous(), both[..., 1].contiguous()

    def slot(self, number: int) -> int:
        """Where a position's keys go: the pinned one in front, the others around the ring."""
        frame = 0 if number == 1 else 1 + (number - 2) % (self.config.window + 1)
        return self.prefix + frame * self.tokens

    def forward(
        self, noise: Tensor, condition: Tensor, previous: Tensor, cos: Tensor, sin: Tensor, place: Tensor, seen: int
    ) -> Tensor:
        """The clean latent; `place` [L] int64 are the rows to write, `seen` how many rows hold keys."""
        config, heads = self.config, (self.config.heads, self.config.head_dim)
        x = self.model.patch(torch.cat((noise, condition, previous), 1)).flatten(2).transpose(1, 2)
        for layer, block in enumerate(self.model.stack):
            shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulations[layer]
            h = F.layer_norm(x, x.shape[-1:], eps=config.eps) * (1 + scale_1) + shift_1
            q, k, v = block.qkv(h).unflatten(-1, (3, *heads)).unbind(2)  # [1, L, h, d]
            q = self._rotate(F.rms_norm(q, (heads[1],), block.qk_norm.q, config.eps), cos, sin)
            k = self._rotate(F.rms_norm(k, (heads[1],), block.qk_norm.k, config.eps), cos, sin)
            self.k[layer].index_copy_(2, place, k.transpose(1, 2))
            self.v[layer].index_copy_(2, place, v.transpose(1, 2))
            a = F.scaled_dot_product_attention(
                q.transpose(1, 2), self.k[layer, :, :, :seen], self.v[layer, :, :, :seen]
            )
            x = x + gate_1 * block.out(a.transpose(1, 2).flatten(2))
            h = F.layer_norm(x, x.shape[-1:], eps=config.eps) * (1 + scale_2) + shift_2
            x = x + gate_2 * block.down(F.gelu(block.up(h), approximate="tanh"))
        x = F.layer_norm(x, x.shape[-1:], eps=config.eps) * (1 + self.scale) + self.shift
        velocity = self.model.head(x).view(1, self.height // 2, self.width // 2, 2, 2, config.channels)
        return noise - velocity.permute(0, 5, 1, 3, 2, 4).reshape(noise.shape)

    @staticmethod
    def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)
