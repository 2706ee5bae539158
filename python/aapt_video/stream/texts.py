"""The prompts that streams see: equal ones are one page, which is free when the last stream has let it go."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, uint8

from aapt_ext import PagePool
from aapt_video.model import CachedTransformer

from .state import Prompt


class _Written(NamedTuple):
    birth: int
    """Of the page when it was written; another one means that it was free in between."""
    source: str
    prompt: Prompt


class Texts:
    """The text pages of an engine's streams.

    Who gets a `Prompt` holds its page, and lets it go by `pool.release`.
    """

    def __init__(self, weights: CachedTransformer, prompts: int) -> None:
        self._weights = weights
        self.pool: PagePool = weights.text_pool(prompts)
        self._written: dict[int, _Written] = {}

    def of_words(self, words: str, encode: Callable[[str], Tensor]) -> Prompt:
        """A prompt in words; they are only encoded where no stream sees them yet.

        Raises:
            CapacityError: all prompts' pages are in use.
            ValueError: `encode` cannot read them.
        """
        return self._share(f"words {words}") or self._write(f"words {words}", words, encode(words))

    def of_embedding(self, embedding: Tensor) -> Prompt:
        """A prompt as [S, text width].

        Raises:
            CapacityError: all prompts' pages are in use.
            ValueError: it does not fit the model.
        """
        source = f"embedding {_digest(embedding)}"
        return self._share(source) or self._write(source, None, embedding)

    def of_keys(self, words: str | None, k: Tensor, v: Tensor) -> Prompt:
        """A prompt whose keys and values [layers, S, h, d] were made before.

        They are shared among themselves only: another machine may have rounded them otherwise than this one would.

        Raises:
            CapacityError: all prompts' pages are in use.
        """
        source = f"keys {_digest(k)} {_digest(v)} {words}"
        shared = self._share(source)
        if shared is not None:
            return shared

        def write(page: int) -> None:
            for layer in range(self.pool.layers):
                self.pool.write(layer, page, k[layer].to(self.pool.device), v[layer].to(self.pool.device))

        return self._fill(source, words, k.shape[1], write)

    def _share(self, source: str) -> Prompt | None:
        for page, (birth, other, prompt) in self._written.items():
            if other == source and self.pool.references(page) and self.pool.birth(page) == birth:
                self.pool.retain([page])
                return prompt
        return None

    def _write(self, source: str, words: str | None, embedding: Tensor) -> Prompt:
        return self._fill(
            source, words, len(embedding), lambda page: self._weights.write_text(embedding, self.pool, page)
        )

    def _fill(self, source: str, words: str | None, tokens: int, write: Callable[[int], None]) -> Prompt:
        (page,) = self.pool.allocate()
        try:
            write(page)
        except BaseException:
            self.pool.release([page])
            raise
        prompt = Prompt(words, page, tokens)
        self._written[page] = _Written(self.pool.birth(page), source, prompt)
        return prompt


def _digest(tensor: Tensor) -> str:
    facts = f"{tensor.dtype} {list(tensor.shape)}".encode()
    return hashlib.sha256(facts + tensor.detach().cpu().contiguous().view(uint8).numpy().tobytes()).hexdigest()
