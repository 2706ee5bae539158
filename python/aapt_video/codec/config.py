"""What a codec is made of: frozen values, named configurations, JSON in and out."""

from dataclasses import asdict, dataclass
from math import prod
from typing import Any


@dataclass(frozen=True)
class NetConfig:
    """One half of a codec, listed from the picture to the latent; the decoder walks the list backwards."""

    folds: tuple[tuple[int, int], ...]
    """(time, space) block folded into channels before each stage: (2, 2) halves frames, height and width."""
    widths: tuple[int, ...]
    """Channels of each stage."""
    blocks: tuple[int, ...]
    """Residual blocks of each stage."""
    taps: tuple[int, ...]
    """Frames that each 3x3 convolution of a stage sees: the present one and taps - 1 before it."""
    norm: bool = True
    """Normalises each pixel before each activation. Small nets learn faster without: it hides the contrast."""

    def __post_init__(self) -> None:
        for name in ("widths", "blocks", "taps"):
            if len(getattr(self, name)) != len(self.folds):
                raise ValueError(
                    f"{name}={getattr(self, name)} must have one entry per stage, as folds={self.folds} does"
                )
        for name, least in (("widths", 1), ("blocks", 0), ("taps", 1)):
            if min(getattr(self, name), default=0) < least:
                raise ValueError(f"{name}={getattr(self, name)} must list at least one stage, each >= {least}")
        if any(len(fold) != 2 or min(fold) < 1 for fold in self.folds):
            raise ValueError(f"folds={self.folds} must be pairs (time, space) of integers >= 1")

    @property
    def time(self) -> int:
        """Video frames per latent frame."""
        return prod(time for time, _ in self.folds)

    @property
    def space(self) -> int:
        """Pixels per latent pixel, along each side."""
        return prod(space for _, space in self.folds)


@dataclass(frozen=True)
class CodecConfig:
    """A causal video VAE: two nets that meet at the latent."""

    encoder: NetConfig
    """From pictures to the posterior of the latent."""
    decoder: NetConfig
    """From the latent to pictures; its folds may differ from the encoder's, their products may not."""
    channels: int = 16
    """Latent channels C."""
    shortcut: bool = False
    """Adds one linear map of whole space-time blocks to each net, which `pca_init` can start from data."""

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"channels={self.channels} must be >= 1")
        ours, theirs = (self.encoder.time, self.encoder.space), (self.decoder.time, self.decoder.space)
        if ours != theirs:
            raise ValueError(f"decoder folds to (time, space) {theirs}, the encoder to {ours}: make them equal")

    @property
    def time(self) -> int:
        """Video frames per latent frame (the first latent frame holds one)."""
        return self.encoder.time

    @property
    def space(self) -> int:
        """Pixels per latent pixel, along each side."""
        return self.encoder.space

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or TOML."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "CodecConfig":
        """The inverse of `to_dict`; lists become tuples."""
        nets = {name: _net_from_dict(values[name]) for name in ("encoder", "decoder")}
        return CodecConfig(**{**values, **nets})


def _net_from_dict(values: dict[str, Any]) -> NetConfig:
    return NetConfig(
        folds=tuple((int(time), int(space)) for time, space in values["folds"]),
        **{name: tuple(values[name]) for name in ("widths", "blocks", "taps")},
        norm=bool(values.get("norm", True)),
    )


# Frames grouped by four and pixels by two before the first convolution: all runs at the latent frame rate.
_GROUPED = ((4, 2), (1, 2), (1, 2))
# Space first, time in the two stages nearest to the latent, as in the Wan and Seaweed VAEs.
_STEPWISE = ((1, 1), (1, 2), (2, 2), (2, 2))

_LARGE = NetConfig(_STEPWISE, widths=(128, 256, 512, 512), blocks=(2, 2, 2, 2), taps=(3, 3, 3, 3))

NAMED: dict[str, CodecConfig] = {
    # Small enough for float64 tests; a bit of everything that the others have.
    "test": CodecConfig(
        encoder=NetConfig(((1, 1), (2, 2), (2, 4)), widths=(4, 6, 8), blocks=(1, 1, 1), taps=(1, 2, 3)),
        decoder=NetConfig(((1, 1), (2, 2), (2, 4)), widths=(4, 6, 8), blocks=(1, 1, 1), taps=(2, 3, 2), norm=False),
        channels=4,
        shortcut=True,
    ),
    # The shipped worlds: 128x96 pictures, decoded on two cores beside the transformer.
    "world": CodecConfig(
        encoder=NetConfig(_GROUPED, widths=(48, 64, 96), blocks=(2, 2, 2), taps=(1, 2, 2), norm=False),
        decoder=NetConfig(_GROUPED, widths=(48, 64, 96), blocks=(1, 2, 1), taps=(1, 2, 2), norm=False),
        shortcut=True,
    ),
    # One encoder of the Wan / Seaweed class with three decoders. full and light: AAPT appendix C.
    "full": CodecConfig(
        encoder=_LARGE,
        decoder=NetConfig(_STEPWISE, widths=(128, 256, 512, 512), blocks=(3, 3, 3, 3), taps=(3, 3, 3, 3)),
    ),
    "light": CodecConfig(
        encoder=_LARGE,
        decoder=NetConfig(_STEPWISE, widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2), taps=(3, 3, 3, 3)),
    ),
    "tiny": CodecConfig(
        encoder=_LARGE,
        decoder=NetConfig(_GROUPED, widths=(64, 128, 256), blocks=(2, 3, 3), taps=(1, 2, 2)),
    ),
}


def named_config(name: str) -> CodecConfig:
    """The configuration of that name; raises ValueError with the names there are."""
    if name not in NAMED:
        raise ValueError(f"name={name!r} is no codec configuration; choose one of {', '.join(NAMED)}")
    return NAMED[name]
