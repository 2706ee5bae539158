"""A stream's state: one value. Nothing in it changes; a step makes another."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aapt_video.codec import CodecState


@dataclass(frozen=True)
class Prompt:
    """A prompt whose keys are in a page of the text pool."""

    words: str | None
    """What the user wrote; None where an embedding was given."""
    page: int
    """In the text pool."""
    tokens: int
    """Valid rows of that page."""


@dataclass(frozen=True, eq=False)
class StreamState:
    """Everything that the next latent frame depends on, besides its control.

    Pages are counted references (`aapt_ext.PagePool`): who keeps a state holds its pages (`Engine.hold`) and lets them
    go (`Engine.release`). Pages and tensors of a state are never written again.
    """

    seed: int
    """With a latent frame's number it makes that frame's noise."""
    frame: int
    """Latent frames generated so far: the newest position's number; 0 when only the user's image is there."""
    first: int | None
    """Page of position 1, which stays; None before it exists."""
    window: tuple[int, ...]
    """Pages of the newest positions, at most N, oldest first."""
    prompt: Prompt | None
    """Seen from the next frame on; None where the model knows no text."""
    latent: Tensor
    """[C, H, W], the newest clean latent; latent 0 at first."""
    decoder: CodecState | None
    """The decoder after that latent. None only in a history, between two copies that were kept."""
    control: int
    """Sequence number of the newest control that is in the picture; -1 before the first."""

    @property
    def pages(self) -> tuple[int, ...]:
        """Every page that this state sees; position 1 is listed once for the window and once for itself."""
        return self.window if self.first is None else (self.first, *self.window)
