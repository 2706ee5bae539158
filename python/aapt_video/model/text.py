"""From a prompt to the embedding [S, text width] that the transformer takes.

Small models read bytes (`ByteEncoder`, trained with them); large ones use the encoder that they were trained with
(`HuggingFaceEncoder`), or embeddings that were computed before: wherever a prompt is taken, a tensor is too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

END = 256  # the token after the last byte; also what pads a batch


class TextEncoder(Protocol):
    """What a generator asks of an encoder."""

    def encode(self, prompt: str) -> Tensor:
        """[S, text width], S at least 1; raises ValueError where the prompt is too long."""


class ByteEncoder(nn.Module):
    """A few transformer layers over UTF-8 bytes: no vocabulary, no download.

    Args:
        width: features of the embedding.
        tokens: longest prompt in tokens, the end token included.
        layers: of the encoder; 0 leaves the reading to the transformer's own text stream.
    """

    def __init__(self, width: int, tokens: int, layers: int = 2) -> None:
        super().__init__()
        self.width, self.tokens = width, tokens
        self.byte = nn.Embedding(END + 1, width)
        self.place = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, max(1, width // 32), 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.byte.weight, std=0.5)

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, list[int]]:
        """Embeddings [B, S, width] and the length of each; for training.

        Raises:
            ValueError: a prompt has more than `tokens` - 1 bytes.
        """
        numbers = [self._tokens(prompt) for prompt in prompts]
        lengths = [len(tokens) for tokens in numbers]
        longest = max(lengths)
        padded = [tokens + [END] * (longest - len(tokens)) for tokens in numbers]
        device = self.place.device
        x = self.byte(torch.tensor(padded, device=device)) + self.place[:longest]
        beyond = torch.arange(longest, device=device) >= torch.tensor(lengths, device=device)[:, None]
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=beyond)
        return self.norm(x), lengths

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        embedding: Tensor = self([prompt])[0][0]
        return embedding

    def _tokens(self, prompt: str) -> list[int]:
        tokens = [*prompt.encode(), END]
        if len(tokens) > self.tokens:
            raise ValueError(
                f"prompt has {len(tokens) - 1} bytes; this model reads at most {self.tokens - 1}: shorten {prompt!r}"
            )
        return tokens


class HuggingFaceEncoder:
    """Any encoder of the `transformers` library, e.g. `google/umt5-xxl` for Wan.

    Args:
        name: a folder or a name that `transformers` knows.
        tokens: longest prompt.
        padded: whether zeros follow the prompt up to `tokens` and are attended to, as Wan was trained.

    Raises:
        ModuleNotFoundError: `transformers` is not installed.
    """

    def __init__(self, name: str, tokens: int, *, padded: bool = False, device: str = "cpu", dtype: Any = None) -> None:
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"the text encoder {name!r} needs `pip install transformers`, or give embeddings as prompts"
            ) from error
        self.name, self.tokens, self.padded = name, tokens, padded
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        config = transformers.AutoConfig.from_pretrained(name)
        kind = transformers.AutoModelForTextEncoding if config.is_encoder_decoder else transformers.AutoModel
        self.model = kind.from_pretrained(name, dtype=dtype).to(device).eval()

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        inputs = self.tokenizer(prompt, return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        if not 1 <= length <= self.tokens:
            raise ValueError(f"prompt has {length} tokens; this model reads 1 to {self.tokens}: shorten {prompt!r}")
        embedding: Tensor = self.model(**inputs.to(self.model.device)).last_hidden_state[0]
        if not self.padded:
            return embedding
        return torch.cat((embedding, embedding.new_zeros(self.tokens - length, embedding.shape[1])))
