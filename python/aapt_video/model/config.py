"""What a transformer is made of: one frozen value, and the names that people use."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

PATCH = 2  # latent pixels per token, along each side


@dataclass(frozen=True)
class TransformerConfig:
    """A video diffusion transformer over latent frames [C, H, W], (H/2)(W/2) tokens each."""

    width: int
    """D, features of a video token."""
    heads: int
    """h, attention heads; the head size d is width / heads."""
    blocks: int
    """Transformer blocks."""
    mlp: int
    """Hidden features of each block's feed-forward net."""
    channels: int = 16
    """C, latent channels of the noise, of the previous clean latent and of the output."""
    condition_channels: int = 0
    """Channels of the per-frame condition (camera, pose), between the noise and the previous clean latent."""
    text: Literal["none", "joint", "cross"] = "none"
    """How text enters: its own stream whose keys join the frame's (MMDiT), or cross-attention (Wan)."""
    text_width: int = 0
    """Features of the text embedding that comes in."""
    text_hidden: int = 0
    """Features of the text stream of joint attention; unused otherwise."""
    text_tokens: int = 0
    """The longest prompt, in tokens: the rows of a text page."""
    qk_norm: Literal["all", "head"] = "head"
    """RMSNorm of queries and keys over all heads together (Wan) or per head."""
    causal: bool = True
    """Whether a frame sees only itself and the past; False for a base model before adaptation."""
    window: int = 30
    """N, past latent frames that a frame sees; the pinned position does not count."""
    pinned: Literal["cap", "keep"] = "cap"
    """How far away the first position seems once it is far: at most `pinned_cap`, or as far as it is."""
    pinned_cap: int = 59
    """Longest distance to the first position that training has shown, in latent frames; at least `window`."""
    rope_theta: float = 10000.0
    """Base of the rotation frequencies, on each axis."""
    rope_interval: float = 1.0
    """Time between two latent frames, in the unit of one token along an axis."""
    rope_grid: tuple[int, int] | None = None
    """Rows and columns of tokens that every picture is stretched to; None: a token's place is its number."""
    timestep_features: int = 256
    """Sines and cosines that encode the timestep."""
    eps: float = 1e-6
    """Added to the variance or mean square in every norm."""

    def __post_init__(self) -> None:
        def require(holds: bool, name: str, must: str) -> None:
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {must}")

        for name in ("width", "heads", "blocks", "mlp", "channels"):
            require(getattr(self, name) >= 1, name, "at least 1")
        require(self.width % self.heads == 0, "width", f"a multiple of heads = {self.heads}")
        require(self.head_dim % 2 == 0 and self.head_dim >= 6, "heads", "such that width / heads is even and >= 6")
        require(self.condition_channels >= 0, "condition_channels", "at least 0")
        require(self.text in ("none", "joint", "cross"), "text", "none, joint or cross")
        if self.text != "none":
            require(self.text_width >= 1, "text_width", "at least 1 where there is text")
            require(self.text_tokens >= 1, "text_tokens", "at least 1 where there is text")
        if self.text == "joint":
            require(self.text_hidden >= 1, "text_hidden", "at least 1 for joint attention")
        require(self.qk_norm in ("all", "head"), "qk_norm", "all or head")
        require(self.window >= 1, "window", "at least 1 latent frame")
        require(self.pinned in ("cap", "keep"), "pinned", "cap or keep")
        if self.pinned == "cap":
            require(self.pinned_cap >= self.window, "pinned_cap", f"at least window = {self.window}")
        require(self.timestep_features % 2 == 0, "timestep_features", "even")

    @property
    def head_dim(self) -> int:
        """d, features of a head."""
        return self.width // self.heads

    @property
    def rope_pairs(self) -> tuple[int, int, int]:
        """Pairs of a head that turn with time, row and column; Wan's split."""
        side = self.head_dim // 6
        return self.head_dim // 2 - 2 * side, side, side

    @property
    def input_channels(self) -> int:
        """Channels of the patch embedding: noise, condition, previous clean latent."""
        return 2 * self.channels + self.condition_channels

    def tokens(self, height: int, width: int) -> int:
        """L, the tokens of one latent frame of height x width latent pixels.

        Raises:
            ValueError: a side is not a positive even number.
        """
        for name, size in (("height", height), ("width", width)):
            if size < PATCH or size % PATCH:
                raise ValueError(f"{name} is {size} latent pixels; it must be a positive multiple of {PATCH}")
        return (height // PATCH) * (width // PATCH)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> TransformerConfig:
        """The inverse of `to_dict`.

        Raises:
            ValueError: a name is unknown, or a value is not allowed.
        """
        known = {field.name for field in dataclasses.fields(TransformerConfig)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown names {unknown} in a transformer configuration; known are {sorted(known)}")
        values = dict(values)
        if values.get("rope_grid") is not None:
            values["rope_grid"] = tuple(values["rope_grid"])
        return TransformerConfig(**values)


NAMED: dict[str, TransformerConfig] = {
    # For tests: every part is there, and nothing is large.
    "tiny": TransformerConfig(
        width=32, heads=2, blocks=2, mlp=64, channels=4, condition_channels=24, text="joint", text_width=16,
        text_hidden=16, text_tokens=12, window=4, pinned_cap=6,
    ),
    # The shipped worlds: 128x96 pictures, latents 12x16, 48 tokens, on two CPU cores.
    "world": TransformerConfig(
        width=192, heads=3, blocks=7, mlp=768, condition_channels=24, text="joint", text_width=64, text_hidden=48,
        text_tokens=128, window=30,
    ),
    # Wan 2.1, with the previous clean latent as input; the text encoder is UMT5-XXL.
    "wan-1.3b": TransformerConfig(
        width=1536, heads=12, blocks=30, mlp=8960, text="cross", text_width=4096, text_tokens=512, qk_norm="all",
        window=30,
    ),
    "wan-14b": TransformerConfig(
        width=5120, heads=40, blocks=40, mlp=13824, text="cross", text_width=4096, text_tokens=512, qk_norm="all",
        window=30,
    ),
    # The paper's 8 billion parameters in 36 blocks, read with SeedVR's widths, and with heads of 128 in 4096.
    "aapt-8b": TransformerConfig(
        width=3072, heads=24, blocks=36, mlp=12288, condition_channels=0, text="joint", text_width=5120,
        text_hidden=3072, text_tokens=512, window=30,
    ),
    "aapt-8b-4096": TransformerConfig(
        width=4096, heads=32, blocks=36, mlp=16384, condition_channels=0, text="joint", text_width=5120,
        text_hidden=1024, text_tokens=512, window=30,
    ),
}  # fmt: skip


def named_config(name: str) -> TransformerConfig:
    """The configuration of that name; raises ValueError with the names there are."""
    if name not in NAMED:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(NAMED)}")
    return NAMED[name]
