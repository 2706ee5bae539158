"""A model that is ready to run: opens streams, and makes clips by one call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from aapt_video.codec import Codec, from_uint8, state_bytes
from aapt_video.model import CachedTransformer, Linears, Transformer
from aapt_video.model.conditions import Camera, Plain, Pose, condition_to_dict
from aapt_video.model.size import Size, size
from aapt_video.model.text import TextEncoder
from aapt_video.video import Frames as Picture
from aapt_video.video import fit_image

from .clip import Clip, make_clip
from .engine import Engine
from .history import SNAPSHOT_EVERY, History
from .noise import check_seed
from .snapshot import Snapshot, load_state, read_snapshot
from .speeds import Speeds
from .state import Prompt
from .stream import Stream

PROMPTS_PER_STREAM = 8
MEMORY_FOR_LIMITS = 1 << 30  # bytes of pages that the default limits may take


@dataclass(frozen=True)
class Limits:
    """What memory is set aside for, at each picture size in use."""

    streams: int
    """Streams that may be open together, forks included."""
    history: int
    """Latent frames of history, all streams together."""

    @staticmethod
    def default(cost: Size) -> Limits:
        """Four streams and 30 seconds of history where they fit into a gigabyte; at least one stream."""
        pages = MEMORY_FOR_LIMITS // cost.page_bytes
        streams = min(4, max(1, pages // cost.pages))
        return Limits(streams, min(180, max(0, pages - streams * cost.pages)))


@dataclass(frozen=True)
class Start:
    """A start frame that a world brings along."""

    image: Image.Image
    prompt: str | None
    """What is to be seen on it; None where the world knows no text."""


class Generator:
    """Transformer, codec, text encoder and condition of one model, on one device.

    Args:
        transformer: causal; its dtype and device are those of all streams.
        codec: is taken over: prepared for inference in that dtype.
        condition: what controls are.
        encoder: makes embeddings of prompts; without one a model with text takes embeddings only.
        gallery: start frames for streams without an image.
        height, width: of the pictures, where a stream does not say; pixels.
        fps: of the videos it was trained on.
        speeds: of the camera that made them; None: `Speeds()`.
        limits: None: `Limits.default`.
        linears: "fp8" or None; as for `CachedTransformer`.

    Raises:
        ValueError: the parts do not fit each other.
    """

    def __init__(
        self,
        transformer: Transformer,
        codec: Codec,
        condition: Camera | Pose | Plain | None = None,
        *,
        height: int,
        width: int,
        encoder: TextEncoder | None = None,
        gallery: Iterable[Start] = (),
        fps: float = 24,
        speeds: Speeds | None = None,
        limits: Limits | None = None,
        linears: Linears | None = None,
        name: str = "",
    ) -> None:
        config = transformer.config
        self.condition = Plain() if condition is None else condition
        if self.condition.channels != config.condition_channels:
            raise ValueError(
                f"condition {self.condition.name!r} has {self.condition.channels} channels, and the transformer takes "
                f"{config.condition_channels}; give the condition that it was trained with"
            )
        if codec.config.channels != config.channels or codec.config.time != 4:
            raise ValueError(
                f"codec makes latents of {codec.config.channels} channels from {codec.config.time} frames, and the "
                f"transformer takes {config.channels} channels, 4 frames each"
            )
        self.name, self.config, self.fps = name, config, fps
        self.weights = CachedTransformer(transformer, linears=linears)
        self.codec = codec.prepare_inference(self.weights.dtype).to(self.weights.device)
        self.encoder, self.gallery = encoder, tuple(gallery)
        self.height, self.width = height, width
        self.speeds = speeds or Speeds()
        cost = self._cost(height, width)
        self.limits = limits or Limits.default(cost)
        self._engines: dict[tuple[int, int], Engine] = {}
        self._fingerprint: str | None = None

    # -- streams --

    def open(
        self,
        prompt: str | Tensor | None = None,
        image: str | Path | Image.Image | Picture | None = None,
        seed: int = 0,
        history: int = 0,
        *,
        height: int | None = None,
        width: int | None = None,
    ) -> Stream:
        """A new stream; the first step shows what follows the image.

        Args:
            prompt: words, or an embedding [S, text width]; None: the gallery's, or none.
            image: the frame to start from: a file, a PIL image, or uint8 [H, W, 3]. It is scaled and cropped to the
                picture size, never stretched. None: a start frame of the gallery, chosen by the seed.
            seed: 0 to 2^64 - 1; the same seed and controls give the same bits.
            history: latent frames that `rewind` may go back; each takes a page.
            height, width: of the pictures, in pixels.

        Raises:
            ValueError: an argument does not fit this model, or there is neither image nor gallery.
            CapacityError: the limits that the generator was loaded with do not hold another such stream.
        """
        check_seed(seed)
        engine = self.engine(height or self.height, width or self.width)
        past = History(engine, history)
        if image is None:
            if not self.gallery:
                raise ValueError("image is missing, and this model has no gallery of start frames: give image=")
            start = self.gallery[seed % len(self.gallery)]
            image, prompt = start.image, start.prompt if prompt is None else prompt
        picture = from_uint8(fit_image(image, engine.height, engine.width)[None])[:, 0]
        reserved = engine.reserve(past.pages)
        try:
            state = engine.start(picture, seed)
            if self.config.text != "none" or prompt is not None:
                state = replace(state, prompt=self.write_prompt(engine, prompt))
            return Stream(self, engine, state, past, reserved)
        except BaseException:
            engine.unreserve(reserved)
            raise

    def restore(self, saved: str | Path | Snapshot, history: int = 0) -> Stream:
        """Goes on with a stream that `Stream.save` wrote, bit for bit; its past is not in the file.

        Args:
            saved: the file, or what was read of it.
            history: as for `open`.

        Raises:
            ValueError: the file is none, or of another model.
            CapacityError: as for `open`.
        """
        snapshot = saved if isinstance(saved, Snapshot) else read_snapshot(Path(saved))
        engine = self.engine(*snapshot.facts["size"])
        past = History(engine, history)
        reserved = engine.reserve(past.pages)
        try:
            return Stream(self, engine, load_state(self, engine, snapshot), past, reserved)
        except BaseException:
            engine.unreserve(reserved)
            raise

    def __call__(
        self,
        prompt: str | Tensor | None = None,
        image: str | Path | Image.Image | Picture | None = None,
        frames: int = 240,
        seed: int = 0,
        *,
        controls: Iterable[ArrayLike | None] | None = None,
        height: int | None = None,
        width: int | None = None,
        progress: bool = True,
    ) -> Clip:
        """A clip of `frames` video frames; the given image is not counted. Ctrl-C keeps what is done.

        Args:
            controls: one for each step of four video frames; the clip ends with them if they are fewer. None: none.
            progress: whether to show a bar, on a terminal.
        """
        if frames < 1:
            raise ValueError(f"frames is {frames}; it must be at least 1")
        with self.open(prompt, image, seed, height=height, width=width) as stream:
            return make_clip(stream, frames, controls, progress)

    def write_prompt(self, engine: Engine, prompt: str | Tensor | None) -> Prompt:
        """Encodes a prompt and runs the text side once, or shares the page of an equal one; it is held by the caller.

        Raises:
            ValueError: the model knows no text, or cannot read this.
        """
        if engine.texts is None:
            raise ValueError(f"prompt is {prompt!r}, but this model knows no text; leave it out")
        if isinstance(prompt, Tensor):
            if prompt.ndim != 2:
                raise ValueError(
                    f"prompt has shape {list(prompt.shape)}; an embedding is [S, {self.config.text_width}]"
                )
            return engine.texts.of_embedding(prompt)
        if self.encoder is None:
            raise ValueError(
                f"prompt is {prompt!r}, and this model has no text encoder here; give an embedding "
                f"[S, {self.config.text_width}]"
            )
        return engine.texts.of_words(prompt or "", self.encoder.encode)

    def engine(self, height: int, width: int) -> Engine:
        """The engine for a picture size; its pools are allocated when it is first asked for.

        Raises:
            ValueError: the size is not a multiple of two latent pixels.
        """
        unit = 2 * self.codec.config.space
        for label, pixels in (("height", height), ("width", width)):
            if pixels < unit or pixels % unit:
                raise ValueError(f"{label} is {pixels}; it must be a positive multiple of {unit} pixels")
        if (height, width) not in self._engines:
            pages = self.limits.streams * (self.config.window + 2) + self.limits.history
            prompts = PROMPTS_PER_STREAM * self.limits.streams
            self._engines[height, width] = Engine(self.weights, self.codec, height, width, pages, prompts)
        return self._engines[height, width]

    # -- what it takes, and what it is --

    def memory(self, streams: int = 1, history: int = 0) -> dict[str, int]:
        """Estimate in bytes: weights, pages, prompts and decoder states of `streams` streams with `history` each."""
        cost = self._cost(self.height, self.width)
        decoder = state_bytes(self.codec.config, self.height, self.width, self.weights.dtype)
        weights = sum(p.numel() * p.element_size() for p in self.codec.parameters())
        return {
            "transformer": cost.weight_bytes + (cost.fp8_bytes if self.weights.linears else 0),
            "codec": weights,
            "streams": streams * cost.stream_bytes(history, decoder, SNAPSHOT_EVERY),
        }

    def fingerprint(self) -> str:
        """Tells models apart: a hash of configuration, dtype, linears and weights."""
        if self._fingerprint is None:
            facts = {
                "transformer": self.config.to_dict(),
                "codec": self.codec.config.to_dict(),
                "condition": condition_to_dict(self.condition),
                "dtype": str(self.weights.dtype),
                **self._linears(),
            }
            digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
            for weight in (self.weights.model.patch.weight, self.weights.model.head.weight):
                digest.update(weight.detach().double().cpu().numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """Configuration as plain values, for records."""
        return {
            "name": self.name,
            "transformer": self.config.to_dict(),
            "codec": self.codec.config.to_dict(),
            "condition": condition_to_dict(self.condition),
            "speeds": asdict(self.speeds),
            "dtype": str(self.weights.dtype).removeprefix("torch."),
            **self._linears(),
            "device": str(self.weights.device),
        }

    def _linears(self) -> dict[str, str]:
        """Told only where they are not in the weights' dtype, which is what files without a word of them had."""
        return {"linears": self.weights.linears} if self.weights.linears else {}

    def _cost(self, height: int, width: int) -> Size:
        space = self.codec.config.space
        device = self.weights.device.type
        return size(self.config, height // space, width // space, self.weights.dtype, device)


def preferred_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it faster, else float32."""
    from aapt_ext import _C

    return torch.float32 if device.type == "cpu" and _C.cpu_backend() != "avx512_bf16" else torch.bfloat16
