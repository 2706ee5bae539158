"""A model in a folder:

config.json               what the parts are
transformer.safetensors   and text.safetensors, where the text encoder is ours
codec/                    `aapt_video.codec.save_codec`
gallery/                  optional: start frames *.png, each with a prompt *.txt beside it or none
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from aapt_video.codec import load_codec, save_codec
from aapt_video.files import write_json, write_tensors
from aapt_video.model import Linears, Transformer, TransformerConfig
from aapt_video.model.conditions import condition_from_dict, condition_to_dict
from aapt_video.model.text import ByteEncoder, HuggingFaceEncoder, TextEncoder

from .generator import Generator, Limits, Start, preferred_dtype
from .speeds import Speeds

SHIPPED = Path(__file__).resolve().parent.parent / "shipped"
CONFIG, WEIGHTS, TEXT = "config.json", "transformer.safetensors", "text.safetensors"


def load(
    name: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    limits: Limits | None = None,
    linears: Linears | None = None,
) -> Generator:
    """A generator, ready to open streams.

    Args:
        name: a model that is shipped with this package, or a folder.
        device: a GPU where there is one, else the CPU, where None.
        dtype: bfloat16 where the device multiplies it faster, else float32, where None.
        limits: memory to set aside for streams and history; a gigabyte at most where None.
        linears: "fp8" multiplies each frame's projections in fp8: on GPUs since compute capability 8.9, in bfloat16. A
            CPU computes the same slowly, for comparisons. None: in dtype.

    Raises:
        FileNotFoundError: there is no such model; the message lists the shipped ones.
        ValueError: weights and configuration do not fit, or the device does not multiply fp8.
    """
    folder = Path(name)
    if not (folder / CONFIG).is_file():
        folder = SHIPPED / str(name)
    if not (folder / CONFIG).is_file():
        shipped = sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG}"))
        raise FileNotFoundError(
            f"name is {str(name)!r}; it must be a folder with a {CONFIG}, or one of the shipped models: "
            f"{', '.join(shipped) or 'none in this installation'}"
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or preferred_dtype(device)
    values = json.loads((folder / CONFIG).read_text())
    config = TransformerConfig.from_dict(values["transformer"])
    with torch.device("meta"):
        transformer = Transformer(config)
    _assign(transformer, folder / WEIGHTS)
    return Generator(
        transformer.to(device, dtype).requires_grad_(False),
        load_codec(folder / "codec", device),
        condition_from_dict(values["condition"]),
        height=values["height"],
        width=values["width"],
        encoder=_load_encoder(values["text"], config, folder, device),
        gallery=_load_gallery(folder / "gallery"),
        fps=values["fps"],
        speeds=Speeds(**values["speeds"]),
        limits=limits,
        linears=linears,
        name=values.get("name") or folder.name,
    )


def save_generator(generator: Generator, folder: str | Path) -> None:
    """Writes a folder that `load` reads, in the generator's dtype."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, generator.weights.model.state_dict())
    save_codec(generator.codec, folder / "codec")
    encoder = generator.encoder
    if isinstance(encoder, ByteEncoder):
        write_tensors(folder / TEXT, encoder.state_dict())
    for i, start in enumerate(generator.gallery):
        (folder / "gallery").mkdir(exist_ok=True)
        start.image.save(folder / "gallery" / f"{i:03}.png")
        if start.prompt is not None:
            (folder / "gallery" / f"{i:03}.txt").write_text(start.prompt + "\n")
    values = {
        "name": generator.name,
        "height": generator.height,
        "width": generator.width,
        "fps": generator.fps,
        "speeds": asdict(generator.speeds),
        "transformer": generator.config.to_dict(),
        "condition": condition_to_dict(generator.condition),
        "text": _describe_encoder(encoder),
    }
    write_json(folder / CONFIG, values)


def _assign(module: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; save_generator writes it")
    # Copied, because a mapped file is not aligned, and how a matrix product rounds may depend on that.
    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
    try:
        module.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit {CONFIG}: {error}") from error


def _describe_encoder(encoder: TextEncoder | None) -> dict[str, Any]:
    if isinstance(encoder, ByteEncoder):
        return {"name": "bytes", "layers": len(encoder.layers)}
    if isinstance(encoder, HuggingFaceEncoder):
        return {"name": "huggingface", "model": encoder.name, "padded": encoder.padded}
    return {"name": "embeddings"}


def _load_encoder(
    values: dict[str, Any], config: TransformerConfig, folder: Path, device: torch.device
) -> TextEncoder | None:
    if values["name"] == "bytes":
        encoder = ByteEncoder(config.text_width, config.text_tokens, values["layers"])
        _assign(encoder, folder / TEXT)
        return encoder.to(device, torch.float32).eval().requires_grad_(False)
    if values["name"] == "huggingface":
        return HuggingFaceEncoder(
            values["model"], config.text_tokens, padded=values["padded"], device=str(device), dtype=torch.bfloat16
        )
    if values["name"] == "embeddings":
        return None
    raise ValueError(f"text is {values['name']!r} in {CONFIG}; it must be bytes, huggingface or embeddings")


def _load_gallery(folder: Path) -> list[Start]:
    starts = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            words = path.with_suffix(".txt")
            prompt = words.read_text().strip() if words.is_file() else None
            starts.append(Start(image.convert("RGB"), prompt))
    return starts


__all__ = ["SHIPPED", "load", "save_generator"]
