"""The discriminator: the adapted model's blocks, and heads that turn their tokens into logits (AAPT section 3.4).

Position k holds latent k in the noise slot, latent k again in the recycled slot, and condition k: it sees each frame
twice, and never a noisy one. The clip starts at latent 0, which is given and gets no logit. High is real.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aapt_ext import reference
from aapt_video.files import write_json, write_tensors

from .predictor import Predictor, PredictorConfig, load_predictor

WEIGHTS, CONFIG = "discriminator.safetensors", "discriminator.json"


@dataclass(frozen=True)
class DiscriminatorConfig:
    """What a logit is drawn from."""

    sees: Literal["past", "clip"] = "past"
    """past: frame k sees frames up to k (the paper's, block-causal); clip: every frame sees all."""
    logits: Literal["frame", "clip"] = "frame"
    """A logit per frame (the paper's), or one for the clip."""
    blocks: tuple[int, ...] = ()
    """Blocks whose tokens the heads read, counted from 1; none: after a third, two thirds and all of them."""

    def depths(self, blocks: int) -> tuple[int, ...]:
        """The blocks that are read, of a model with so many."""
        chosen = self.blocks or tuple(sorted({-(-blocks // 3), -(-2 * blocks // 3), blocks}))
        if not all(1 <= block <= blocks for block in chosen):
            raise ValueError(f"discriminator.blocks={list(self.blocks)}: the model has blocks 1 to {blocks}")
        return chosen


class Reader(nn.Module):
    """One learned query that reads the tokens of a frame, or of a clip: attention, then an MLP (APT figure 1)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q_norm, self.k_norm = nn.RMSNorm(width // heads), nn.RMSNorm(width // heads)
        self.keys_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """[n, tokens, D] -> [n, D]."""
        k, v = torch.unflatten(self.keys_values(self.norm(reference.wide(tokens))), -1, (2, self.heads, -1)).unbind(-3)
        q = torch.unflatten(self.query, -1, (self.heads, -1)).expand(len(tokens), 1, -1, -1)
        q, k, v = (x.to(v.dtype).transpose(1, 2) for x in (self.q_norm(q), self.k_norm(reference.wide(k)), v))
        x: Tensor = self.query + self.out(reference.attention(q, k, v).flatten(1))
        y: Tensor = x + self.mlp(self.mlp_norm(x))
        return y


class Discriminator(nn.Module):
    """Logits of a clip of clean latents.

    Args:
        backbone: a predictor, whose weights are taken over; the head starts at logit 0 everywhere.
        window: latent frames of a clip, all of which the last one sees.
    """

    def __init__(self, backbone: Predictor, config: DiscriminatorConfig, window: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone.recast(causal=config.sees == "past", window=window, pinned_cap=window)
        transformer = backbone.config.transformer
        self._depths = config.depths(transformer.blocks)
        self.readers = nn.ModuleList(Reader(transformer.width, transformer.heads) for _ in self._depths)
        self.norm = nn.LayerNorm(len(self._depths) * transformer.width)
        self.logit = nn.Linear(len(self._depths) * transformer.width, 1)
        nn.init.zeros_(self.logit.weight)
        nn.init.zeros_(self.logit.bias)

    def forward(
        self, latents: Tensor, condition: Tensor | None, prompts: Sequence[str], t: Tensor, recompute: bool = False
    ) -> Tensor:
        """[B, T], or [B, 1] for one logit a clip; float32.

        Args:
            latents: [B, 1 + T, C, h, w], clean.
            condition: [B, 1 + T, channels, h, w], of latent k at k.
            t: [B], the timestep that the blocks are told; the latents carry no noise.
        """
        levels = self.backbone.features(latents, latents, t, condition, prompts, self._depths, recompute)
        read = []
        for tokens, reader in zip(levels, self.readers, strict=True):
            judged = tokens[:, 1:]  # latent 0 was given
            if self.config.logits == "clip":
                judged = judged.flatten(1, 2)[:, None]
            groups = reader(judged.flatten(0, 1))
            read.append(torch.unflatten(groups, 0, judged.shape[:2]))
        logits: Tensor = self.logit(self.norm(torch.cat(read, -1)))
        return logits.squeeze(-1).float()

    def shards(self) -> tuple[list[list[nn.Module]], list[str]]:
        """For many processes: see `Processes.shard`."""
        groups, _ = self.backbone.shards()
        return groups, []


def save_discriminator(out: Path, discriminator: Discriminator, weights: dict[str, Tensor]) -> None:
    """`discriminator.safetensors` and `discriminator.json`: what a later phase goes on from."""
    write_tensors(out / WEIGHTS, weights)
    backbone = discriminator.backbone.config.to_dict()
    write_json(out / CONFIG, {"backbone": backbone, "config": asdict(discriminator.config)})


def load_discriminator(folder: Path, config: DiscriminatorConfig, window: int) -> Discriminator:
    """From the result of an adversarial phase: its discriminator; from that of `adapt`: its weights under a new head.

    Raises:
        FileNotFoundError: the folder is neither.
        ValueError: the discriminator there was made for another configuration.
    """
    if not (folder / CONFIG).is_file():
        return Discriminator(load_predictor(folder), config, window)
    described = json.loads((folder / CONFIG).read_text())
    saved = {**described["config"], "blocks": tuple(described["config"]["blocks"])}
    if DiscriminatorConfig(**saved) != config:
        raise ValueError(f"discriminator={str(folder)!r} holds one of {saved}; the configuration asks for {config}")
    backbone = PredictorConfig.from_dict(described["backbone"])
    discriminator = Discriminator(Predictor(backbone), config, window)
    discriminator.load_state_dict(load_file(folder / WEIGHTS))
    return discriminator
