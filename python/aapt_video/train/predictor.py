"""What the latent stages train: a transformer and the text encoder that reads prompts for it, as one module."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aapt_video.files import write_json, write_tensors
from aapt_video.model import Rollout, TextKeys, Transformer, TransformerConfig
from aapt_video.model.block import Block
from aapt_video.model.conditions import Camera, Plain, Pose, condition_from_dict, condition_to_dict
from aapt_video.model.text import ByteEncoder

WEIGHTS, CONFIG = "model.safetensors", "model.json"
Condition = Camera | Pose | Plain


@dataclass(frozen=True)
class PredictorConfig:
    """All that is needed to build a predictor, and to make its conditions from data."""

    transformer: TransformerConfig
    text_layers: int
    """Of the byte encoder, where the transformer knows text."""
    condition: Condition
    """How a control becomes channels."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "transformer": self.transformer.to_dict(),
            "text_layers": self.text_layers,
            "condition": condition_to_dict(self.condition),
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> PredictorConfig:
        """The inverse of `to_dict`."""
        return PredictorConfig(
            TransformerConfig.from_dict(values["transformer"]),
            values["text_layers"],
            condition_from_dict(values["condition"]),
        )


class Predictor(nn.Module):
    """Velocities of whole clips (`forward`), and one latent frame at a time (`roll`)."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        transformer = config.transformer
        if transformer.condition_channels != config.condition.channels:
            raise ValueError(
                f"transformer.condition_channels={transformer.condition_channels}; the condition "
                f"{config.condition.name!r} has {config.condition.channels}"
            )
        self.transformer = Transformer(transformer)
        knows_text = transformer.text != "none"
        self.text = (
            ByteEncoder(transformer.text_width, transformer.text_tokens, config.text_layers) if knows_text else None
        )

    def forward(
        self,
        noisy: Tensor,
        previous: Tensor,
        t: Tensor,
        condition: Tensor | None,
        prompts: Sequence[str],
        recompute: bool = False,
    ) -> Tensor:
        """v [B, T, C, h, w].

        Args:
            noisy, previous: [B, T, C, h, w]. t: [B]. condition: [B, T, channels, h, w] or None.
            prompts: B texts; a model without text ignores them.
            recompute: gradient checkpointing per block.
        """
        text = self._keys(prompts, t)
        out: Tensor = self.transformer(noisy, previous, t, condition, text, recompute=recompute)
        return out

    def features(
        self,
        noisy: Tensor,
        previous: Tensor,
        t: Tensor,
        condition: Tensor | None,
        prompts: Sequence[str],
        blocks: Sequence[int],
        recompute: bool = False,
    ) -> list[Tensor]:
        """The tokens after each of `blocks` (counted from 1), [B, T, L, D] each; arguments as of `forward`."""
        text = self._keys(prompts, t)
        return self.transformer.features(noisy, previous, t, condition, text, blocks=blocks, recompute=recompute)

    def roll(
        self,
        rollout: Rollout,
        noisy: Tensor,
        previous: Tensor,
        t: float,
        condition: Tensor | None,
        text: TextKeys | None,
        recompute: bool = False,
    ) -> tuple[Tensor, Rollout]:
        """The next frame's clean estimate [B, C, h, w] at timestep t, and the cache of that timestep with it."""
        return self.transformer.roll(rollout, noisy, previous, condition, text, timestep=t, recompute=recompute)

    def text_keys(self, prompts: Sequence[str], t: float) -> TextKeys | None:
        """What `roll` takes; once per prompt and timestep."""
        device = self.transformer.head.weight.device
        return self._keys(prompts, torch.full((len(prompts),), t, device=device))

    def _keys(self, prompts: Sequence[str], t: Tensor) -> TextKeys | None:
        if self.text is None:
            return None
        embedding, lengths = self.text([self._cut(prompt) for prompt in prompts])
        return self.transformer.encode_text(embedding, lengths, t)

    def _cut(self, prompt: str) -> str:
        """A caption that is too long loses its end: data must not stop a run."""
        return prompt.encode()[: self.config.transformer.text_tokens - 1].decode(errors="ignore")

    def shards(self) -> tuple[list[list[nn.Module]], list[str]]:
        """For many processes: a block's projections are gathered together; see `Processes.shard`."""
        groups: list[list[nn.Module]] = []
        for block in self.transformer.blocks:
            assert isinstance(block, Block)
            groups.append([block.qkv, block.out, block.up, block.down])
        return groups, ["roll", "text_keys"]

    def recast(self, **changes: Any) -> Predictor:
        """The same weights under a changed transformer configuration (causal, window): a new module."""
        config = replace(self.config, transformer=replace(self.config.transformer, **changes))
        other = Predictor(config)
        other.load_state_dict(self.state_dict())
        return other.to(next(self.parameters()).device)


def save_predictor(folder: Path, config: PredictorConfig, weights: dict[str, Tensor]) -> None:
    """Writes `model.safetensors` and `model.json`; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config.to_dict())


def load_predictor(folder: Path, device: torch.device | str = "cpu") -> Predictor:
    """What `save_predictor` wrote.

    Raises:
        FileNotFoundError: a file is missing. ValueError: weights and configuration do not fit.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"init={str(folder)!r} has no {name}; it must be the result of a latent stage")
    predictor = Predictor(PredictorConfig.from_dict(json.loads((folder / CONFIG).read_text())))
    try:
        predictor.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise ValueError(f"init={str(folder)!r}: {WEIGHTS} does not fit {CONFIG}: {error}") from error
    return predictor.to(device)


def load_causal(folder: Path | None, before: str) -> Predictor:
    """The causal predictor that a stage starts from.

    Args:
        before: the stage whose result it is.

    Raises:
        ValueError: there is no folder, or the model in it is bidirectional. FileNotFoundError: as `load_predictor`.
    """
    if folder is None:
        raise ValueError(f"init is not given: name the folder of the {before} stage's result (--init)")
    predictor = load_predictor(folder)
    if not predictor.config.transformer.causal:
        raise ValueError(f"init={str(folder)!r} is bidirectional: adapt it first, this stage goes on from {before}")
    return predictor
