"""The transformer, and its differentiable forwards: over a clip, and frame by frame over a functional cache.

The third forward, one frame over pages without gradients, is `cached.py`. All three run `run_block`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aapt_ext import reference

from .attention import KeysValues, Look, TextKeys, heads_first, merged_heads
from .block import Block, TorchOperations, closed, modulation, run_block
from .config import PATCH, TransformerConfig
from .prompt import check_embedding, cross_keys, joint_keys

Text = TextKeys | Sequence[tuple[int, TextKeys]] | None
"""One prompt for all frames, or (frame from which on it holds, prompt) in order, from the first frame on."""


@dataclass(frozen=True)
class Rollout:
    """The functional cache: frames that were generated, with keys and values that gradients flow through."""

    frame: int = 0
    """Positions so far."""
    first: tuple[KeysValues, ...] = ()
    """Keys of position 1 in every block."""
    window: tuple[tuple[KeysValues, ...], ...] = ()
    """The newest N positions, oldest first, each in every block."""

    def detached(self) -> Rollout:
        """The same cache without its gradients: a new segment of a long video starts from it."""

        def cut(frame: tuple[KeysValues, ...]) -> tuple[KeysValues, ...]:
            return tuple((k.detach(), v.detach()) for k, v in frame)

        return replace(self, first=cut(self.first), window=tuple(map(cut, self.window)))


class Transformer(nn.Module):
    """A video diffusion transformer that predicts the velocity noise - x0.

    A position's input is stacked on the channel axis: noisy latent, condition, previous clean latent. Position k
    (k >= 1) recycles latent k - 1, so latent 0 has no position of its own.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch = nn.Conv2d(config.input_channels, width, PATCH, stride=PATCH)
        self.time_in = nn.Linear(config.timestep_features, width)
        self.time_out = nn.Linear(width, width)
        self.time_blocks = nn.Linear(width, 6 * width)
        if config.text == "joint":
            self.text_in = nn.Linear(config.text_width, config.text_hidden)
            self.text_time = nn.Linear(width, 6 * config.text_hidden)
        elif config.text == "cross":
            self.text_in = nn.Linear(config.text_width, width)
            self.text_out = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(config, last=i == config.blocks - 1) for i in range(config.blocks))
        self.final_table = nn.Parameter(torch.zeros(2, width))
        self.head = nn.Linear(width, PATCH * PATCH * config.channels)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Random weights; every block starts as the identity and the velocity as 0 (adaLN-zero)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in (self.time_blocks, self.head, getattr(self, "text_time", self.head)):
            nn.init.zeros_(module.weight)

    @property
    def stack(self) -> Sequence[Block]:
        """The blocks, in order."""
        return cast(Sequence[Block], self.blocks)

    # -- what depends on the timestep and the prompt alone --

    def time_embedding(self, timestep: Tensor) -> Tensor:
        """[B] in [0, 1] -> [B, D]; sines and cosines of 1000 t, as Wan has them."""
        half = self.config.timestep_features // 2
        steps = torch.arange(half, dtype=torch.float64, device=timestep.device)
        angles = 1000 * timestep.double()[:, None] * 10000 ** (-steps / half)
        features = torch.cat((angles.cos(), angles.sin()), -1).to(self.time_in.weight.dtype)
        out: Tensor = self.time_out(F.silu(self.time_in(features)))
        return out

    def encode_text(self, embedding: Tensor, lengths: Sequence[int], timestep: Tensor | float = 1.0) -> TextKeys:
        """Runs the text side: once per prompt where the timestep is constant.

        Args:
            embedding: [B, S, text width], S at most `text_tokens`; rows past a prompt's length are ignored.
            lengths: tokens of each prompt, 1 to S.
            timestep: [B] or a number; joint text depends on it.
        """
        check_embedding(self.config, embedding, lengths)
        x = self.text_in(embedding)
        if self.config.text == "cross":
            layers = cross_keys(self.config, self.stack, self.text_out(F.gelu(x, approximate="tanh")))
        else:
            time = self.text_time(F.silu(self.time_embedding(self._timesteps(timestep, len(x)))))
            layers = joint_keys(self.config, self.stack, x, lengths, time)
        return TextKeys(layers, tuple(lengths))

    # -- a clip at once --

    def forward(
        self,
        noisy: Tensor,
        previous: Tensor,
        timestep: Tensor | float,
        condition: Tensor | None = None,
        text: Text = None,
        *,
        first: int = 1,
        recompute: bool = False,
    ) -> Tensor:
        """The velocity of a clip.

        Args:
            noisy: [B, T, C, H, W], latents at `timestep`.
            previous: [B, T, C, H, W], for each position the clean latent before it.
            timestep: [B] or a number in [0, 1]; one for all frames of a clip.
            condition: [B, T, condition channels, H, W], where the model has any.
            text: of `encode_text` at the same timestep, where the model knows text.
            first: the number of the clip's first position.
            recompute: keep only the blocks' inputs for the backward pass (gradient checkpointing).

        Returns:
            [B, T, C, H, W].
        """
        tokens, embedding = self._run(noisy, previous, timestep, condition, text, first, recompute, None)
        return self._velocity(tokens, embedding, noisy)

    def features(
        self,
        noisy: Tensor,
        previous: Tensor,
        timestep: Tensor | float,
        condition: Tensor | None = None,
        text: Text = None,
        *,
        blocks: Sequence[int],
        first: int = 1,
        recompute: bool = False,
    ) -> list[Tensor]:
        """The tokens after each of `blocks` (counted from 1), [B, T, L, D] each: what a discriminator reads."""
        if not blocks or not all(1 <= block <= self.config.blocks for block in blocks):
            raise ValueError(f"blocks is {list(blocks)}; it must list numbers from 1 to {self.config.blocks}")
        taken: dict[int, Tensor] = dict.fromkeys(blocks, noisy)
        self._run(noisy, previous, timestep, condition, text, first, recompute, taken)
        return [torch.unflatten(taken[block], 1, (noisy.shape[1], -1)) for block in blocks]

    def _run(
        self,
        noisy: Tensor,
        previous: Tensor,
        timestep: Tensor | float,
        condition: Tensor | None,
        text: Text,
        first: int,
        recompute: bool,
        taken: dict[int, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        batch, count = noisy.shape[:2]
        look = self._look(noisy, text, first)
        x = torch.unflatten(self._embed(noisy, condition, previous), 0, (batch, count)).flatten(1, 2)
        embedding = self.time_embedding(self._timesteps(timestep, batch))
        time = self.time_blocks(F.silu(embedding))
        for layer, block in enumerate(self.stack):
            attend = partial(look.clip, layer, block, count)
            attend_text = partial(look.cross, layer, block, count)
            x = self._block(block, x, time, attend, attend_text, recompute)
            if taken is not None and layer + 1 in taken:
                taken[layer + 1] = x
                if layer + 1 == max(taken):
                    break
        return x, embedding

    # -- one frame at a time, with gradients --

    def roll(
        self,
        rollout: Rollout,
        noise: Tensor,
        previous: Tensor,
        condition: Tensor | None = None,
        text: TextKeys | None = None,
        *,
        timestep: float = 1.0,
        recompute: bool = False,
    ) -> tuple[Tensor, Rollout]:
        """Generates the next latent frame by one pass, as a stream does, for student forcing.

        Args:
            noise, previous: [B, C, H, W]; detach `previous` to stop gradients at the recycled frame.

        Returns:
            The clean latent [B, C, H, W], and the cache with this frame in it. The cache that came in is unchanged.
        """
        number = rollout.frame + 1
        look = self._look(noise[:, None], text, 1)
        new: dict[int, KeysValues] = {}
        beyond = number - 1 > self.config.window
        x = self._embed(noise[:, None], None if condition is None else condition[:, None], previous[:, None])
        embedding = self.time_embedding(self._timesteps(timestep, len(noise)))
        time = self.time_blocks(F.silu(embedding))
        for layer, block in enumerate(self.stack):
            past = [frame[layer] for frame in rollout.window]
            pinned = rollout.first[layer] if beyond else None

            def attend(
                qkv: Tensor,
                layer: int = layer,
                block: Block = block,
                past: list[KeysValues] = past,
                pinned: KeysValues | None = pinned,
            ) -> Tensor:
                q, k, v = (heads_first(part[:, 0]) for part in look.split(qkv, block.qk_norm, [number])[:3])
                new.setdefault(layer, (k, v))  # a recomputation must not replace what later frames have read
                return merged_heads(look.frame(layer, number, q, [*past, (k, v)], pinned))

            attend_text = partial(look.cross, layer, block, 1)
            x = self._block(block, x, time, attend, attend_text, recompute)
        velocity = self._velocity(x, embedding, noise[:, None])[:, 0]
        frame = tuple(new[layer] for layer in range(self.config.blocks))
        window = (*rollout.window, frame)[-self.config.window :]
        return noise - timestep * velocity, replace(rollout, frame=number, first=rollout.first or frame, window=window)

    # -- shared parts --

    def _block(
        self,
        block: Block,
        x: Tensor,
        time: Tensor,
        attend: Callable[[Tensor], Tensor],
        attend_text: Callable[[Tensor], Tensor],
        recompute: bool,
    ) -> Tensor:
        operations = TorchOperations(self.config.eps)

        def run(x: Tensor, time: Tensor) -> Tensor:
            vectors = modulation(block.table, time)
            return closed(*run_block(block, x, None, None, vectors, operations, attend, attend_text))

        return checkpoint(run, x, time, use_reentrant=False) if recompute else run(x, time)

    def _look(self, noisy: Tensor, text: Text, first: int) -> Look:
        if (text is None) != (self.config.text == "none"):
            knows = "knows no text" if self.config.text == "none" else "needs text: see encode_text"
            raise ValueError(f"text is {'missing' if text is None else 'given'}, but this model {knows}")
        spans = [(first, text)] if isinstance(text, TextKeys) else list(text or ())
        if spans and spans[0][0] > first:
            raise ValueError(f"text starts at frame {spans[0][0]}; it must hold from frame {first} on")

        def text_of(frame: int) -> int:
            return max(i for i, (start, _) in enumerate(spans) if start <= frame)

        height, width = noisy.shape[-2:]
        return Look(self.config, height, width, [keys for _, keys in spans], text_of, first, noisy.dtype, noisy.device)

    def _embed(self, noisy: Tensor, condition: Tensor | None, previous: Tensor) -> Tensor:
        """[B, T, ...] -> [B T, L, D]."""
        channels = 0 if condition is None else condition.shape[2]
        if channels != self.config.condition_channels:
            raise ValueError(f"condition has {channels} channels; this model takes {self.config.condition_channels}")
        if noisy.shape != previous.shape or noisy.shape[2] != self.config.channels:
            raise ValueError(
                f"noisy has shape {list(noisy.shape)} and previous {list(previous.shape)}; both must be "
                f"[B, T, {self.config.channels}, H, W]"
            )
        self.config.tokens(*noisy.shape[-2:])
        sources = [source.flatten(0, 1) for source in (noisy, condition, previous) if source is not None]
        return reference.patch_embed(sources, self.patch.weight, self.patch.bias, self.config.width)

    def _velocity(self, x: Tensor, embedding: Tensor, noisy: Tensor) -> Tensor:
        shift, scale = (self.final_table + embedding[:, None]).unbind(1)
        out = self.head(reference.modulate(x, scale, shift, None, None, self.config.eps))
        batch, count, _, height, width = noisy.shape
        out = torch.unflatten(out, 1, (count, -1)).flatten(0, 1)
        return torch.unflatten(reference.unpatchify(out, height, width), 0, (batch, count))

    def _timesteps(self, timestep: Tensor | float, batch: int) -> Tensor:
        device = self.head.weight.device
        return torch.as_tensor(timestep, dtype=torch.float64, device=device).expand(batch)

    def parameter_count(self) -> int:
        return sum(math.prod(parameter.shape) for parameter in self.parameters())
