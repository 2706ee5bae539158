"""Stage `codec`: video to latents and back.

It starts from the best linear codec (PCA of space-time blocks, in the shortcut) and learns what that lacks, on crops.
The decoder sees noisy latents, since a generator's latents are never exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from aapt_video.codec import (
    NAMED,
    Codec,
    CodecConfig,
    fit_scale,
    from_uint8,
    load_codec,
    pca_init,
    save_codec,
    to_uint8,
)
from aapt_video.worlds.dataset import VideoDataset

from .losses import psnr, reconstruction_loss
from .optimiser import OptimiserConfig
from .parallel import Processes
from .places import Places
from .stage import Loss, Noise, RunConfig, Stage


@dataclass(frozen=True)
class CodecStageConfig:
    """The codec, how it is trained, and on what crops."""

    run: RunConfig
    codec: CodecConfig = NAMED["world"]
    """Its nets."""
    train: Literal["both", "decoder"] = "both"
    """decoder: the encoder and the scale stay those of `init`, so latents and models of it stay valid while pictures
    get better (AAPT appendix C trains its light decoder so)."""
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(weight_decay=1e-4))
    latent_frames: int = 3
    """T, latent frames of a training clip after the first: 1 + 4 T video frames."""
    crop: int = 64
    """Height and width of a training clip, pixels; 0: whole pictures."""
    kl: float = 1e-3
    """Weight of the KL divergence, in nats per latent element."""
    gradient: float = 0.5
    """Weight of the L1 error of differences between neighbouring pixels; 0: none."""
    latent_noise: float = 0.1
    """Largest standard deviation of the noise that the decoder's latents carry, against the codec's own scale."""
    fit_clips: int = 256
    """Clips that the PCA and the scale of the latents are measured on."""
    held_out_clips: int = 16
    """Clips that are measured."""

    def __post_init__(self) -> None:
        if self.crop % self.codec.space:
            raise ValueError(f"crop={self.crop} must be a multiple of {self.codec.space}, or 0 for whole pictures")
        if self.latent_frames < 1 or self.fit_clips < 1 or self.held_out_clips < 1:
            raise ValueError("latent_frames, fit_clips and held_out_clips must be >= 1")

    @property
    def video_frames(self) -> int:
        """Of a training clip."""
        return 1 + self.codec.time * self.latent_frames


@dataclass(frozen=True)
class Video:
    """A part of a batch."""

    numbers: range
    video: Tensor
    """[B, 3, n, H, W] in [-1, 1]."""


class CodecStage(Stage[Video]):
    """Trains a codec.

    Args:
        places: `data`; `held_out` to be measured on other video; `init` continues from a codec's folder.
    """

    name: ClassVar[str] = "codec"

    def __init__(self, config: CodecStageConfig, places: Places, processes: Processes, quiet: bool = False) -> None:
        self.config, self.run, self._device = config, config.run, processes.device
        self._data, self._held_out = VideoDataset(places.data), VideoDataset(places.held_out or places.data)
        self._rank = processes.rank
        if config.train == "decoder" and places.init is None:
            raise ValueError("train='decoder' needs the codec whose latents it keeps: name its folder (--init)")
        torch.manual_seed(config.run.seed)
        self._started = places.init is not None
        self._codec = load_codec(places.init, processes.device) if places.init else Codec(config.codec)
        if self._codec.config != config.codec:
            raise ValueError(f"init={str(places.init)!r} holds another codec than the configuration asks for")
        self._codec.to(processes.device).train()
        if config.train == "decoder":
            self._codec.freeze_encoder()
        self.modules: dict[str, nn.Module] = {"codec": self._codec}
        self.optimisers = {"codec": config.optimiser}
        self.sources = places.describe(self._data)
        width, height = self._data.size
        side_h, side_w = (config.crop or height), (config.crop or width)
        if side_h > height or side_w > width:
            raise ValueError(f"crop={config.crop} is larger than the data's pictures, {width} x {height}")
        self.tokens = (1 + config.latent_frames) * side_h * side_w // config.codec.space**2

    def prepare(self) -> None:
        """Starts the linear shortcut from the data's principal components."""
        if not self._started and self._codec.config.shortcut:
            pca_init(self._codec, self._whole_clips(self._data, self.config.fit_clips))

    def load(self, clips: range) -> Video:
        config = self.config
        videos = []
        for number in clips:
            window = self._data.sample(config.video_frames, config.run.seed, number).video
            if config.crop:
                luck = np.random.default_rng((config.run.seed, number, 1))
                top = luck.integers(window.shape[1] - config.crop + 1)
                left = luck.integers(window.shape[2] - config.crop + 1)
                window = window[:, top : top + config.crop, left : left + config.crop]
            videos.append(from_uint8(torch.from_numpy(np.ascontiguousarray(window))))
        return Video(clips, torch.stack(videos))

    def loss(self, step: int, batch: Video, turn: str) -> Loss:
        config = self.config
        video = batch.video.to(self._device, non_blocking=True)
        noise = Noise(config.run.seed, batch.numbers, self._device)
        posterior = self._codec.posterior(video)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        latents = mean + torch.exp(0.5 * logvar) * noise.normal(*mean.shape[1:])
        strength = config.latent_noise * noise.uniform(1, 1, 1, 1)
        latents = latents + strength * noise.normal(*mean.shape[1:])
        decoded = self._codec.decode(self._codec.to_unit_scale(latents))
        reconstruction = reconstruction_loss(decoded, video, config.gradient)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        scalars = {"reconstruction": reconstruction, "kl": kl, "psnr": psnr(decoded, video)}
        return Loss(reconstruction + config.kl * kl, scalars)

    def measure(self) -> dict[str, float]:
        """Of whole held-out pictures: PSNR, edge energy against the real one's, and both for a frozen picture."""
        errors, edges, copies = [], [], []
        for video in self._whole_clips(self._held_out, self.config.held_out_clips):
            decoded = self._codec.decode(self._codec.encode(video)).float().clamp(-1, 1)
            errors.append((decoded - video).square().mean())
            edges.append(edge_energy(decoded) / edge_energy(video))
            copies.append((video[:, :, :1] - video).square().mean())
        return {
            "held_out/psnr": _decibels(errors),
            "held_out/edges": float(torch.stack(edges).mean()),
            "held_out/psnr_of_copying_the_first": _decibels(copies),
        }

    def show(self) -> Tensor:
        """Real frames over decoded ones."""
        rows = []
        for video in self._whole_clips(self._held_out, 2):
            decoded = self._codec.decode(self._codec.encode(video))
            rows.append(torch.cat([to_uint8(video[0]), to_uint8(decoded[0])], 1))
        return torch.cat(rows).cpu()

    def finish(self) -> None:
        """Gives the latents unit scale."""
        if self.config.train == "both":
            fit_scale(self._codec, self._whole_clips(self._data, self.config.fit_clips))

    def save(self, out: Path, weights: dict[str, dict[str, Tensor]]) -> None:
        """A codec's folder: `codec.safetensors`, `codec.json`."""
        codec = Codec(self._codec.config)
        codec.load_state_dict(weights["codec"])
        save_codec(codec, out)

    def shards(self, name: str) -> tuple[Sequence[Sequence[nn.Module]], Sequence[str]]:
        return (), ("posterior", "encode", "decode")

    def _whole_clips(self, data: VideoDataset, count: int) -> Iterator[Tensor]:
        """`count` clips of whole pictures, one by one: [1, 3, n, H, W]; always the same."""
        for number in range(count):
            window = data.sample(self.config.video_frames, self.config.run.seed + 1, number)
            yield from_uint8(torch.from_numpy(window.video))[None].to(self._device)


def edge_energy(video: Tensor) -> Tensor:
    """Mean square difference between neighbouring pixels of [..., H, W]: a scalar."""
    return video.diff(dim=-1).square().mean() + video.diff(dim=-2).square().mean()


def _decibels(errors: list[Tensor]) -> float:
    """PSNR of the mean square error of values in [-1, 1]."""
    return float(10 * torch.log10(4 / torch.stack(errors).mean()))
