"""What a codec costs, counted from its configuration on meta tensors, which hold no memory."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from .codec import Codec
from .config import CodecConfig


@dataclass(frozen=True)
class Cost:
    """One half of a codec, for one stream."""

    parameters: int
    """Weights of this half, its share of the linear shortcut included."""
    flops: int
    """Of the convolutions, per latent frame after the first; a multiply-add is two."""
    state_bytes: int
    """Memory of one `CodecState`."""


def decoder_cost(config: CodecConfig, height: int, width: int, dtype: torch.dtype = torch.bfloat16) -> Cost:
    """The cost of decoding pictures of height x width; nothing is allocated."""
    return _cost(config, "decoder", height, width, dtype)


def encoder_cost(config: CodecConfig, height: int, width: int, dtype: torch.dtype = torch.bfloat16) -> Cost:
    """The cost of encoding pictures of height x width; nothing is allocated."""
    return _cost(config, "encoder", height, width, dtype)


def state_bytes(
    config: CodecConfig, height: int, width: int, dtype: torch.dtype = torch.bfloat16, batch: int = 1
) -> int:
    """`open_decoder(batch, height, width).bytes`, before it is allocated."""
    return _meta(config, dtype).open_decoder(batch, height, width).bytes


def _meta(config: CodecConfig, dtype: torch.dtype) -> Codec:
    with torch.device("meta"):
        return Codec(config).prepare_inference(dtype)


def _cost(
    config: CodecConfig, half: Literal["encoder", "decoder"], height: int, width: int, dtype: torch.dtype
) -> Cost:
    codec = _meta(config, dtype)
    counter = FlopCounterMode(display=False)
    with torch.device("meta"):
        if half == "decoder":
            state = codec.open_decoder(1, height, width)
            latent = torch.empty(1, config.channels, height // config.space, width // config.space)
            state.started = True
            with counter:
                codec.decode_step(latent, state)
        else:
            state = codec.open_encoder(1, height, width)
            frames = torch.empty(1, 3, config.time, height, width)
            state.started = True
            with counter:
                codec.encode_step(frames, state)
    parameters = sum(p.numel() for name, p in codec.named_parameters() if half in name.split(".")[0])
    return Cost(parameters, counter.get_total_flops(), state.bytes)
