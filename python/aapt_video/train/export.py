"""From the results of the stages to a model folder that `aapt_video.load` opens."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from aapt_video.codec import load_codec
from aapt_video.stream import Generator, Speeds, Start, save_generator
from aapt_video.worlds.dataset import VideoDataset

from .predictor import Predictor, load_predictor


def to_generator(predictor: Predictor, codec: Path, data: VideoDataset, starts: int, name: str = "") -> Generator:
    """A generator of the trained parts, which stay as they are; float32, on the predictor's device.

    Args:
        data: gives size, rate, the camera's speeds, and as many start frames as `starts`.
    """
    width, height = data.size
    config, device = predictor.config, next(predictor.parameters()).device
    copy = Predictor(config)
    copy.load_state_dict(predictor.state_dict())
    copy.to(device).eval().requires_grad_(False)
    return Generator(
        copy.transformer,
        load_codec(codec, device),
        config.condition,
        height=height,
        width=width,
        encoder=copy.text,
        gallery=gallery_of(data, starts),
        fps=data.index["rate"],
        speeds=Speeds(**data.index["speeds"]) if "speeds" in data.index else None,
        name=name,
    )


def gallery_of(data: VideoDataset, count: int) -> list[Start]:
    """Start frames from a dataset, with their captions."""
    starts = []
    for number in range(count):
        window = data.sample(1, 0, number)
        starts.append(Start(Image.fromarray(window.video[0]), window.caption or None))
    return starts


def export(result: Path, codec: Path, data: VideoDataset, out: Path, starts: int = 8) -> None:
    """Writes the model folder of a latent stage's result, with start frames from `data`."""
    predictor = load_predictor(result, torch.device("cpu"))
    save_generator(to_generator(predictor, codec, data, starts, out.name), out)
