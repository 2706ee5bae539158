"""From the results of the stages to a model folder that `aapt_video.load` opens."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from aapt_video.codec import load_codec
from aapt_video.codec.files import WEIGHTS as CODEC_WEIGHTS
from aapt_video.files import write_tensors
from aapt_video.stream import Generator, Speeds, Start, save_generator
from aapt_video.worlds.dataset import VideoDataset

from .predictor import Predictor, load_predictor
from .record import read_record


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
    """Start frames from a dataset with their captions, from different clips as far as there are: of eight times as many
    pictures those with the most contrast, since a wall before the nose is a dull start."""
    candidates = [data.sample(1, 0, number) for number in range(8 * count)]
    candidates.sort(key=lambda window: -float(window.video.mean(-1).std()))
    first = {window.clip: window for window in reversed(candidates)}
    chosen = sorted(candidates, key=lambda window: first[window.clip] is not window)[:count]
    return [Start(Image.fromarray(window.video[0]), window.caption or None) for window in chosen]


def export(result: Path, codec: Path, data: VideoDataset, out: Path, starts: int = 8) -> None:
    """Writes the model folder of a latent stage's result, with start frames from `data`; matrices in float16."""
    generator = to_generator(load_predictor(result, torch.device("cpu")), codec, data, starts, out.name)
    for module in (generator.weights.model, generator.codec, generator.encoder):
        if isinstance(module, nn.Module):
            halve(module)
    save_generator(generator, out)


def halve(module: nn.Module) -> None:
    """Matrices in float16, for files: half the size at 11 bits. Vectors and scales stay as they are."""
    for parameter in module.parameters():
        if parameter.ndim >= 2:
            parameter.data = parameter.data.half()


@dataclass(frozen=True)
class Export:
    """Write the model folder that `load`, `play` and `generate` take: a stage's result, a codec, start frames."""

    result: Path
    """Result of adapt, distill or adversarial."""
    codec: Path
    """Result of the codec stage: the one whose latents the model knows, or a later one with a better decoder."""
    data: Path
    """Dataset that the start frames come from."""
    out: Path
    """The folder to write; its name is the model's."""
    starts: int = 8
    """Start frames."""


def run_export(arguments: Export) -> None:
    """Exports, and prints what was written."""
    export(arguments.result, arguments.codec, VideoDataset(arguments.data), arguments.out, arguments.starts)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*.safetensors"))
    print(f"{arguments.out}: {size / 1e6:.1f} MB of weights, {arguments.starts} start frames")


@dataclass(frozen=True)
class Keep:
    """Copy what is worth keeping of a stage's run: weights (of models in float16), the record, the last samples.

    A codec stays as it is: its latents tell it apart."""

    result: Path
    """Folder of a run that has ended."""
    out: Path
    """The folder to write; a later stage takes it like the run's own."""


def run_keep(arguments: Keep) -> None:
    """Copies."""
    result, out = arguments.result, arguments.out
    if read_record(result) is None:
        raise ValueError(f"result={str(result)!r} has no record: the run has not ended")
    out.mkdir(parents=True, exist_ok=True)
    for path in result.glob("*.safetensors"):
        half = path.name != CODEC_WEIGHTS
        tensors = {name: x.half() if half and x.ndim >= 2 else x for name, x in load_file(path).items()}
        write_tensors(out / path.name, tensors)
    for path in (*result.glob("*.json"), *sorted(result.glob("samples/*.png"))[-1:]):
        shutil.copyfile(path, out / ("samples.png" if path.suffix == ".png" else path.name))
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
