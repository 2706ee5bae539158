"""Trains the measuring networks on real video, once for each dataset, and keeps them with a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from aapt_video.train.clips import controls, describe_data
from aapt_video.train.record import environment, now, read_record, write_record
from aapt_video.worlds.dataset import VideoDataset

from .imagenet import imagenet_features
from .lessons import SEEN, has_camera, look_batch, motion_batch
from .motion import latent_motion
from .networks import WINDOW, LookNet, MotionNet, prepared
from .words import Vocabulary, vocabulary

_WHITENING = 600  # real windows that the scale of features is measured on

VERSION = 1
"""Of the networks and what they learn: one more whenever either changes, so that kept ones are not taken for new."""

MOTION, LOOK = "motion.safetensors", "look.safetensors"


@dataclass(frozen=True)
class FitConfig:
    """How the measuring networks are trained."""

    motion_updates: int = 500
    """Of the network that reads the camera's motion; each sees 40 latent frames."""
    look_updates: int = 300
    """Of the network whose features are compared; each sees 16 windows as they are and 16 damaged ones."""
    lr: float = 2e-3
    """Highest learning rate (AdamW, one cycle)."""
    seed: int = 0
    """Of weights and order."""

    def __post_init__(self) -> None:
        for name in ("motion_updates", "look_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be >= 1")


@dataclass(frozen=True)
class Networks:
    """What all models are measured by."""

    motion: MotionNet | None
    """None where the data has no camera."""
    look: LookNet
    vocabulary: Vocabulary
    fingerprint: str
    """Of the training data and how they were trained."""
    device: torch.device
    record: dict[str, Any]
    """Of their training: data, configuration, environment, last losses."""
    imagenet: Callable[[Tensor], NDArray[np.float32]] | None = None
    """See `imagenet.imagenet_features`; None where they are not asked for."""


def measuring_networks(
    data: VideoDataset,
    root: Path,
    config: FitConfig,
    device: torch.device,
    imagenet: bool = False,
    quiet: bool = False,
) -> Networks:
    """The networks for a dataset: those kept under `root`, or freshly trained ones, which are then kept.

    Each is kept as soon as it is trained, so that an interrupted command goes on with what is missing.

    Args:
        imagenet: also load an ImageNet classifier, which is not trained here.

    Raises:
        ValueError: the clips are too short, or the pictures too small.
    """
    others = imagenet_features(device) if imagenet else None
    facts = {"version": VERSION, "data": describe_data(data), "fit": asdict(config)}
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    folder, words = root / fingerprint, vocabulary(data)
    height, width = _checked_size(data)
    camera = has_camera(data)
    with torch.random.fork_rng([] if device.type == "cpu" else [device]):
        torch.manual_seed(config.seed)
        motion = MotionNet(height, width, _unit(data) if camera else None) if camera else None
        look = LookNet(len(words.words), 3 * SEEN if camera else 0)
    record = read_record(folder) or facts | {"environment": environment(device, 1)}
    fits: list[tuple[str, nn.Module, Callable[[], dict[str, Any]]]] = []
    if motion is not None:
        fits.append((MOTION, motion, lambda net=motion: _fit_motion(net, data, config, device, quiet)))  # type: ignore[misc]
    fits.append((LOOK, look, lambda: _fit_look(look, data, words, config, device, quiet)))
    for name, net, fit in fits:
        net.to(device)
        if (folder / name).is_file():
            net.load_state_dict(load_file(folder / name))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            record[name] = fit() | {"finished": now()}
            partial = folder / f".{name}.partial"
            save_file({key: value.cpu().contiguous() for key, value in net.state_dict().items()}, partial)
            partial.replace(folder / name)
            write_record(folder, record)
        net.eval().requires_grad_(False)
    return Networks(motion, look, words, fingerprint + "-imagenet" * imagenet, device, record, others)


def _fit_motion(
    net: MotionNet, data: VideoDataset, config: FitConfig, device: torch.device, quiet: bool
) -> dict[str, Any]:
    def loss(number: int) -> Tensor:
        pictures, motion = motion_batch(data, 40, config.seed, number)
        return F.smooth_l1_loss(net(pictures.to(device)), motion.to(device) / net.unit)

    return _fit(net, loss, config.motion_updates, config.lr, "motion network", quiet)


def _fit_look(
    net: LookNet, data: VideoDataset, words: Vocabulary, config: FitConfig, device: torch.device, quiet: bool
) -> dict[str, Any]:
    """Features shall tell what captions say, how the camera moves, and what is damaged."""
    shares = torch.tensor(words.shares, device=device)
    unit = _unit(data).repeat(SEEN).to(device) if has_camera(data) else None

    def loss(number: int) -> Tensor:
        batch = look_batch(data, words, 16, config.seed, number)
        features = net(batch.windows.to(device))
        clean = features[: len(batch.motion)]
        total = 4 * F.mse_loss(net.damage(features), batch.damage.to(device))
        if words.words:
            error = F.binary_cross_entropy_with_logits(net.words(features), batch.marks.to(device), reduction="none")
            guess = F.binary_cross_entropy(shares.expand_as(error), batch.marks.to(device), reduction="none")
            total = total + error.mean() / guess.mean().clamp_min(0.05)
        if unit is not None:
            total = total + F.smooth_l1_loss(net.motion(clean), batch.motion.to(device) / unit)
        return total

    record = _fit(net, loss, config.look_updates, config.lr, "features network", quiet)
    net.eval()
    with torch.no_grad():
        windows = (data.sample(WINDOW, config.seed + 1, number).video for number in range(_WHITENING))
        real = [net(prepared(torch.from_numpy(window)[None]).to(device)) for window in windows]
    net.whiten(torch.cat(real))
    return record


def _fit(
    net: nn.Module, loss_of: Callable[[int], Tensor], updates: int, lr: float, name: str, quiet: bool
) -> dict[str, Any]:
    net.train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=updates, pct_start=0.1)
    bar = tqdm(range(updates), desc=f"training the {name}", unit="update", disable=quiet)
    recent = 0.0
    for number in bar:
        loss = loss_of(number)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        recent += (loss.item() - recent) / min(number + 1, 50)
        bar.set_postfix(loss=f"{recent:.3f}")
    if not torch.isfinite(torch.tensor(recent)):
        raise ValueError(f"training the {name} diverged: give a lower --fit.lr than {lr:g}")
    return {"updates": updates, "loss": recent, "parameters": sum(p.numel() for p in net.parameters())}


def _unit(data: VideoDataset, samples: int = 256) -> Tensor:
    """Deviation of forward, strafe and yaw over a latent frame, [3]."""
    random = torch.Generator().manual_seed(0)
    motions = []
    for clip in torch.randint(len(data.clips), (samples,), generator=random).tolist():
        positions = (len(data.clips[clip]) - 1) // 4
        motions.append(torch.from_numpy(latent_motion(controls(data, clip, 0, positions, "camera"))))
    return torch.cat(motions).std(0).clamp_min(1e-3).float()


def _checked_size(data: VideoDataset) -> tuple[int, int]:
    """Height and width of prepared pictures."""
    if data.count(WINDOW) == 0:
        raise ValueError(f"data={str(data.root)!r} has no clip of {WINDOW} video frames: make longer clips")
    width, height = data.size
    if min(width, height) < 32:
        raise ValueError(f"data={str(data.root)!r} has pictures of {width}x{height}; at least 32x32 can be measured")
    one = prepared(torch.zeros(1, height, width, 3, dtype=torch.uint8))
    return one.shape[-2], one.shape[-1]
