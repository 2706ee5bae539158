"""Fréchet distance of single pictures in the features of an ImageNet classifier, where torchvision is installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_BATCH = 64


def imagenet_features(device: torch.device) -> Callable[[Tensor], NDArray[np.float32]]:
    """A function from pictures uint8 [n, H, W, 3] to features [n, 512]: ResNet-18 before its last layer.

    Raises:
        ModuleNotFoundError: torchvision is missing.
        ValueError: its weights are neither here nor can they be downloaded.
    """
    try:
        from torchvision.models import ResNet18_Weights, resnet18
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "ImageNet features need torchvision: pip install 'aapt-video[imagenet]', or leave --imagenet out"
        ) from error
    try:
        net = resnet18(weights=ResNet18_Weights.IMAGENET1K_V1)
    except OSError as error:
        raise ValueError(
            f"the weights of ResNet-18 cannot be downloaded ({error}): put them into torch.hub's folder, or leave "
            "--imagenet out"
        ) from error
    net.fc = torch.nn.Identity()
    net.to(device).eval().requires_grad_(False)
    mean = torch.tensor([0.485, 0.456, 0.406], device=device)[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225], device=device)[:, None, None]

    @torch.no_grad()
    def features(pictures: Tensor) -> NDArray[np.float32]:
        parts = []
        for i in range(0, len(pictures), _BATCH):
            x = pictures[i : i + _BATCH].to(device).movedim(-1, 1).float() / 255
            x = F.interpolate(x, (224, 224), mode="bilinear", antialias=True)
            parts.append(net((x - mean) / deviation).cpu())
        return torch.cat(parts).numpy()

    return features
