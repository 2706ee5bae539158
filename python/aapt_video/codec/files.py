"""A codec in a folder: `codec.safetensors` and `codec.json`."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from aapt_video.files import write_json, write_tensors

from .codec import Codec
from .config import CodecConfig

WEIGHTS, CONFIG = "codec.safetensors", "codec.json"


def save_codec(codec: Codec, folder: str | Path) -> None:
    """Writes weights and configuration; each file appears whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, codec.state_dict())
    write_json(folder / CONFIG, codec.config.to_dict())


def load_codec(folder: str | Path, device: torch.device | str = "cpu") -> Codec:
    """The codec that `save_codec` wrote, in the dtypes it was saved in.

    Raises FileNotFoundError where a file is missing, ValueError where weights and configuration do not fit.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"folder={str(folder)!r} has no {name}; save_codec writes it")
    config = CodecConfig.from_dict(json.loads((folder / CONFIG).read_text()))
    with torch.device("meta"):
        codec = Codec(config)
    try:
        codec.load_state_dict(load_file(folder / WEIGHTS, device=str(device)), assign=True)
    except RuntimeError as error:
        raise ValueError(f"folder={str(folder)!r}: {WEIGHTS} does not fit {CONFIG}: {error}") from error
    return codec
