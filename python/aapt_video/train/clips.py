"""From a dataset to batches: video for the codec, latents with conditions and prompts for the rest.

A clip is a function of (seed, its number) and of nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aapt_video.codec import Codec, from_uint8, load_codec
from aapt_video.model.conditions import Camera, Plain, condition_from_dict
from aapt_video.worlds.camera import integrate_motion, relative_se3
from aapt_video.worlds.dataset import VideoDataset
from aapt_video.worlds.latents import LatentDataset, encode_dataset

from .predictor import Condition

ConditionSource = Literal["none", "camera", "control", "pose"]

_CHUNK = 32  # pictures that are encoded at a time


@dataclass(frozen=True)
class ClipConfig:
    """Clips of latents, and what is left out of them at random."""

    frames: int = 8
    """T, positions: latent frames that are generated; latent 0 comes before them."""
    still: float = 0.3
    """Share of clips whose latent 0 is a single picture, as a user's is; in the others it holds motion."""
    drop_text: float = 0.1
    """Share of clips with an empty prompt."""
    drop_condition: float = 0.0
    """Share of clips whose condition channels are 0: what guidance compares with."""
    phases: tuple[int, ...] = (0, 2)
    """Video frames at which the dataset is encoded anew, 0 to 3: more phases, more different latents."""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames={self.frames} must be >= 1")
        for name in ("still", "drop_text", "drop_condition"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be a share, 0 to 1")


@dataclass(frozen=True)
class Clips:
    """A batch, or a part of one."""

    numbers: range
    """Of the clips: what their noise is drawn from."""
    latents: Tensor
    """[B, 1 + T, C, h, w], float32."""
    condition: Tensor | None
    """[B, T, channels, h, w], float32."""
    prompts: tuple[str, ...]

    @property
    def x0(self) -> Tensor:
        """[B, T, C, h, w], what is generated."""
        return self.latents[:, 1:]

    @property
    def previous(self) -> Tensor:
        """[B, T, C, h, w], the clean latent before each."""
        return self.latents[:, :-1]

    def to(self, device: torch.device) -> Clips:
        condition = None if self.condition is None else self.condition.to(device, non_blocking=True)
        return Clips(self.numbers, self.latents.to(device, non_blocking=True), condition, self.prompts)


class LatentClips:
    """Draws clips of latents, ready for the transformer.

    Args:
        data: with tracks for the condition, unless the source is "none".
        condition: how a control becomes channels.
        source: the track that says what the camera did, what it was told to do, or where the joints are.
    """

    def __init__(
        self, data: LatentDataset, condition: Condition, source: ConditionSource, config: ClipConfig, seed: int
    ) -> None:
        _check_track(data.dataset, source)
        self.data, self.condition, self.source, self.config, self.seed = data, condition, source, config, seed
        if data.count(config.frames + 1) == 0:
            raise ValueError(
                f"frames={config.frames}: no run of the data has {config.frames + 1} latent frames "
                f"({4 * config.frames + 1} video frames); ask for fewer, or make longer clips"
            )

    def __call__(self, numbers: range) -> Clips:
        return self._clips(numbers, train=True)

    def without_dropout(self, count: int, still: bool = True) -> Clips:
        """`count` clips with prompt and condition: for measuring and showing."""
        return self._clips(range(count), train=False, still=still)

    def _clips(self, numbers: range, train: bool, still: bool = True) -> Clips:
        config = self.config
        latents, conditions, prompts = [], [], []
        for number in numbers:
            luck = np.random.default_rng((self.seed, number, 1)).random(3) if train else np.ones(3)
            first_alone = luck[0] < config.still if train else still
            window = self.data.sample(config.frames + 1, self.seed, number, still=first_alone)
            latents.append(torch.from_numpy(window.latents))
            prompts.append("" if luck[1] < config.drop_text else window.caption)
            if self.source != "none":
                height, width = window.latents.shape[-2:]
                transforms = controls(self.data.dataset, window.clip, window.frame, config.frames, self.source)
                channels = self.condition.pack(transforms, height, width)
                conditions.append(torch.from_numpy(channels * float(luck[2] >= config.drop_condition)))
        condition = torch.stack(conditions).float() if conditions else None
        return Clips(numbers, torch.stack(latents), condition, tuple(prompts))


def controls(
    dataset: VideoDataset, clip: int, frame: int, positions: int, source: ConditionSource
) -> NDArray[np.float64]:
    """[T, 4, ...]: for each of T positions, the controls of its video frames, as the condition packs them.

    The first of these video frames comes after `frame` of the dataset's clip. For `camera` they are [4, 4], each camera
    seen from that of the frame before; for `control`, what the commands would have led to in free space; for `pose`
    they are [joints, 3], and joints outside the picture are not visible.
    """
    track: NDArray[np.floating[Any]] = dataset.track(clip, source)[frame : frame + 4 * positions + 1]
    if source == "pose":
        places = track[1:, :, :2].astype(np.float64)
        visible = ((places >= 0) & (places <= 1)).all(-1, keepdims=True)
        pose = np.concatenate((np.where(visible, places, 0), visible), -1)
        return pose.reshape(-1, 4, *pose.shape[1:])
    if source == "control":
        forward, strafe, yaw = track.T[:3]
        nothing = np.zeros_like(yaw)
        motion = np.stack([forward, strafe, nothing, yaw, nothing], axis=1)
        track = integrate_motion(np.array([0.0, 0, 0, 0, 0, 90]), motion)
    relative: NDArray[np.float64] = relative_se3(track)[1:]
    return relative.reshape(-1, 4, 4, 4)


def fit_condition(dataset: VideoDataset, source: ConditionSource, samples: int = 64) -> Condition:
    """A condition with the field of view and the mean and deviation of the data, or with its skeleton; no channels for
    "none"."""
    if source == "none":
        return Plain()
    _check_track(dataset, source)
    if source == "pose":
        skeleton = dataset.index.get("skeleton", {})
        return condition_from_dict({"name": "pose", "joints": dataset.track(0, "pose").shape[1], **skeleton})
    view = float(dataset.track(0, "camera")[0, 5]) if "camera" in dataset.index["tracks"] else 90.0
    plain = Camera(field_of_view=view)
    packed = []
    for i in range(samples):
        window = dataset.sample(5, 0, i)
        packed.append(plain.pack(controls(dataset, window.clip, window.start, 1, source), 6, 8))
    values = np.stack(packed).reshape(samples, 4, 6, -1).transpose(2, 0, 1, 3).reshape(6, -1)
    deviation = values.std(1).reshape(2, 3)  # of origin and of direction
    # An axis along which nothing moves would be divided by nothing.
    deviation = np.maximum(deviation, np.maximum(1e-1 * deviation.max(1, keepdims=True), 1e-6)).ravel()
    return Camera(view, tuple(map(float, values.mean(1))), tuple(map(float, deviation)))


def latents_of(
    data: VideoDataset, folder: Path, phases: tuple[int, ...], device: torch.device, precision: str, quiet: bool
) -> tuple[LatentDataset, Codec]:
    """(latents of a dataset under the codec in `folder`, that codec); they are encoded once and stored beside it.

    precision: "bf16" encodes under autocast, "fp32" does not; the latents of each have a folder of their own.
    """
    codec = load_codec(folder, device)
    codec.eval().requires_grad_(False)
    fingerprint = codec_fingerprint(folder)
    name = f"{fingerprint}-{precision}-{''.join(map(str, phases))}"
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        encode_dataset(data, name, fingerprint, _whole(codec, device), _alone(codec, device), phases, quiet=quiet)
    return LatentDataset(data, name), codec


def codec_fingerprint(folder: Path) -> str:
    """Tells apart codecs that make different latents."""
    codec = load_codec(folder)
    digest = hashlib.sha256(json.dumps(codec.config.to_dict()["encoder"]).encode())
    for name, tensor in sorted(codec.encoding().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def describe_data(data: VideoDataset) -> dict[str, Any]:
    """What a record says about a dataset."""
    index = data.index
    return {
        "folder": data.root.name,
        "frames": data.frames,
        **{key: index[key] for key in ("maker", "split", "size", "config", "versions") if key in index},
    }


@torch.no_grad()
def _encode(codec: Codec, video: Tensor, device: torch.device) -> NDArray[np.float32]:
    """[B, 3, n, H, W] -> [B, T, C, h, w] in float32."""
    latents: NDArray[np.float32] = codec.encode(video.to(device)).float().transpose(1, 2).cpu().numpy()
    return latents


def _whole(codec: Codec, device: torch.device) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Streams a clip of any length through the encoder: constant memory."""

    @torch.no_grad()
    def encode(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        state = codec.open_encoder(1, *frames.shape[1:3])
        video = from_uint8(torch.from_numpy(frames))[None]
        latents, start = [], 0
        while start < video.shape[2]:
            count = codec.config.time if start else 1
            latents.append(codec.encode_step(video[:, :, start : start + count].to(device), state)[0].float())
            start += count
        return torch.stack(latents).cpu().numpy()

    return encode


def _alone(codec: Codec, device: torch.device) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    def encode(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [
            _encode(codec, from_uint8(torch.from_numpy(frames[i : i + _CHUNK])[:, None]), device)[:, 0]
            for i in range(0, len(frames), _CHUNK)
        ]
        return np.concatenate(parts)

    return encode


def _check_track(dataset: VideoDataset, source: ConditionSource) -> None:
    if source != "none" and source not in dataset.index["tracks"]:
        raise ValueError(
            f"condition={source!r}, but the data in {dataset.root} has the tracks "
            f"{sorted(dataset.index['tracks']) or 'none'}: choose another condition"
        )
