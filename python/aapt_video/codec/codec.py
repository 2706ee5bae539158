"""The codec: whole clips and one latent frame at a time, by the same nets."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import CodecConfig
from .layers import FrameConv, Late, fold, unfold
from .nets import Decoder, Encoder, Net
from .state import CodecState

INITIAL_LOGVAR = -6.0  # standard deviation 0.05, near where training settles: a fresh decoder sees its latent


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over latents in the codec's own scale."""

    mean: Tensor
    """[B, C, 1 + T, h, w]"""
    logvar: Tensor
    """[B, C, 1 + T, h, w], natural log of the variance."""

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """mean + std · noise; gradients flow to both."""
        mean = self.mean
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Tensor:
        """KL divergence from N(0, 1): a scalar, nats per latent element."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).mean()


class Codec(nn.Module):
    """A causal video VAE.

    Videos are [B, 3, 1 + time·T, H, W] in [-1, 1]; latents [B, C, 1 + T, H/space, W/space] of unit scale (see
    `fit_scale`). Whole clip: `encode`, `decode`, and `forward` for training. Streaming: `open_encoder` or
    `open_decoder` gives a state, `encode_step` or `decode_step` advances it by one latent frame. Both ways
    give the same numbers, and nothing depends on a later frame.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self._time, self._space = config.time, config.space
        channels, block = config.channels, 3 * config.time * config.space**2
        self.encoder = Encoder(config.encoder, 2 * channels)
        self.decoder = Decoder(config.decoder, channels)
        self.block_encoder = FrameConv(block, channels, 1) if config.shortcut else None
        self.block_decoder = FrameConv(channels, block, 1) if config.shortcut else None
        # [C], float32: unit-scale latent = (own latent - mean) / std.
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.ones(channels))
        self._init_heads()

    @torch.no_grad()
    def _init_heads(self) -> None:
        """The variance starts constant; beside a shortcut both nets start at zero."""
        channels, head = self.config.channels, self.encoder.head
        linear = self.config.shortcut
        by_tap = head.weight.view(head.taps, 2 * channels, *head.weight.shape[1:])
        by_tap[:, 0 if linear else channels :] = 0
        nn.init.zeros_(head.bias)[channels : 2 * channels] = INITIAL_LOGVAR
        if linear:
            nn.init.zeros_(self.decoder.head.weight)
            nn.init.zeros_(self.decoder.head.bias)

    # -- whole clips --

    def forward(self, video: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Posterior]:
        """For training: the decoded sample of the posterior, shaped like `video`, and the posterior."""
        posterior = self.posterior(video)
        return self._pictures(posterior.sample(generator), {}, first=True), posterior

    def posterior(self, video: Tensor) -> Posterior:
        """The distribution of a video's latents, in the codec's own scale."""
        self.check_video(video)
        return self._posterior(video, {}, first=True)

    def encode(self, video: Tensor) -> Tensor:
        """The latents' means: [B, 3, 1 + time·T, H, W] -> [B, C, 1 + T, H/space, W/space], unit scale."""
        return self.to_unit_scale(self.posterior(video).mean)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of `encode`; where the net overshoots [-1, 1] it is not clipped."""
        self._check_latents("latents", latents, 5)
        return self._pictures(self.from_unit_scale(latents), {}, first=True)

    def to_unit_scale(self, latents: Tensor) -> Tensor:
        """The codec's own scale -> unit scale; [B, C, T, h, w]."""
        return (latents - _per_channel(self.latent_mean)) / _per_channel(self.latent_std)

    def from_unit_scale(self, latents: Tensor) -> Tensor:
        """Unit scale -> the codec's own scale; [B, C, T, h, w]."""
        return latents * _per_channel(self.latent_std) + _per_channel(self.latent_mean)

    # -- one latent frame at a time --

    def open_encoder(self, batch: int, height: int, width: int) -> CodecState:
        """The state of a new encoder for pictures of height x width."""
        return self._open(self.encoder, batch, height, width)

    def open_decoder(self, batch: int, height: int, width: int) -> CodecState:
        """The state of a new decoder for pictures (not latents) of height x width."""
        return self._open(self.decoder, batch, height, width)

    @torch.no_grad()
    def encode_step(self, frames: Tensor, state: CodecState) -> Tensor:
        """The next pictures [B, 3, n, H, W] (n = 1 at first, then `time`) -> their latent [B, C, h, w]."""
        self._check_pictures("frames", frames)
        self._check_state("frames", (frames.shape[0], *frames.shape[3:]), state, self.encoder)
        count = self._time if state.started else 1
        if frames.shape[2] != count:
            raise ValueError(
                f"frames holds {frames.shape[2]} frames; this step takes {count}: one at the start of a "
                f"video, then always {self._time}"
            )
        posterior = self._posterior(frames, self._late(self.encoder, state), first=not state.started)
        state.started = True
        return self.to_unit_scale(posterior.mean).squeeze(2)

    @torch.no_grad()
    def decode_step(self, latent: Tensor, state: CodecState) -> Tensor:
        """The next latent [B, C, h, w] -> its pictures [B, 3, n, H, W]: n = 1 at first, then `time`."""
        self._check_latents("latent", latent, 4)
        batch, _, height, width = latent.shape
        space = self._space
        self._check_state("latent", (batch, height * space, width * space), state, self.decoder)
        own = self.from_unit_scale(latent.unsqueeze(2))
        pictures = self._pictures(own, self._late(self.decoder, state), first=not state.started)
        state.started = True
        return pictures

    # -- checks and preparation --

    def check_video(self, video: Tensor) -> None:
        """Raises ValueError unless `video` is what `encode` takes."""
        self._check_pictures("video", video)
        frames, time = video.shape[2], self._time
        if (frames - 1) % time:
            shorter = (frames - 1) // time * time + 1
            raise ValueError(
                f"video has {frames} frames; it must have 1 + {time}·T: cut it to {shorter} or go on to "
                f"{shorter + time}"
            )

    def freeze_encoder(self) -> None:
        """No gradients for what makes latents: only pictures can change."""
        for part in (self.encoder, self.block_encoder):
            if part is not None:
                part.requires_grad_(False)

    def encoding(self) -> dict[str, Tensor]:
        """What latents depend on: the encoder's weights and the scale, by name."""
        decoding = ("decoder.", "block_decoder.")
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(decoding)}

    def prepare_inference(self, dtype: torch.dtype) -> "Codec":
        """Evaluation mode; weights frozen, in `dtype`, channels last. The latents' scale keeps its dtype."""
        self.eval().requires_grad_(False)
        mean, std = self.latent_mean, self.latent_std
        self.to(dtype=dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.latent_mean, self.latent_std = mean, std
        return self

    # -- inside --

    def _posterior(self, video: Tensor, late: Late, first: bool) -> Posterior:
        x = _inside(video.to(self.dtype))
        mean, logvar = self.encoder(x, late, first).chunk(2, dim=-1)
        if self.block_encoder is not None:
            mean = mean + self.block_encoder(fold(x, self._time, self._space, first))
        return Posterior(_outside(mean), _outside(logvar))

    def _pictures(self, latents: Tensor, late: Late, first: bool) -> Tensor:
        x = _inside(latents.to(self.dtype))
        video = self.decoder(x, late, first)
        if self.block_decoder is not None:
            video = video + unfold(self.block_decoder(x), self._time, self._space, first)
        return _outside(video)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype, in which the nets compute."""
        return self.encoder.stem.weight.dtype

    def _open(self, net: Net, batch: int, height: int, width: int) -> CodecState:
        space = self._space
        for name, value in (("height", height), ("width", width)):
            if value < space or value % space:
                raise ValueError(f"{name}={value} must be a positive multiple of {space} (pixels per latent pixel)")
        if batch < 1:
            raise ValueError(f"batch={batch} must be >= 1")
        late = tuple(
            conv.weight.new_zeros(conv.taps - 1, batch, height // space, width // space, conv.outputs)
            for conv, space in net.causal
        )
        return CodecState(late, (batch, height, width))

    def _late(self, net: Net, state: CodecState) -> Late:
        return {conv: late for (conv, _), late in zip(net.causal, state.late, strict=True)}

    def _check_pictures(self, name: str, video: Tensor) -> None:
        space = self._space
        if video.ndim != 5 or video.shape[1] != 3:
            raise ValueError(f"{name} has shape {list(video.shape)}; it must be [B, 3, frames, H, W]")
        if not video.is_floating_point():
            raise ValueError(f"{name} is {video.dtype}; it must be floating point in [-1, 1]: see from_uint8")
        if video.shape[3] % space or video.shape[4] % space or 0 in video.shape:
            raise ValueError(
                f"{name} is {video.shape[3]}x{video.shape[4]}; height and width must be positive multiples "
                f"of {space}: crop or resize"
            )

    def _check_latents(self, name: str, latents: Tensor, ndim: int) -> None:
        channels = self.config.channels
        if latents.ndim != ndim or latents.shape[1] != channels:
            wanted = f"[B, {channels}, T, h, w]" if ndim == 5 else f"[B, {channels}, h, w]"
            raise ValueError(f"{name} has shape {list(latents.shape)}; this codec decodes {wanted}")

    def _check_state(self, name: str, shape: tuple[int, ...], state: CodecState, net: Net) -> None:
        if state.shape != shape or len(state.late) != len(net.causal):
            raise ValueError(
                f"{name} asks for (batch, height, width) {shape}; state was opened for {state.shape}, "
                f"or by the other half: open one for each batch and picture size"
            )
        weight = net.stem.weight
        for late in state.late[:1]:
            if (late.dtype, late.device) != (weight.dtype, weight.device):
                raise ValueError(
                    f"state is {late.dtype} on {late.device}; this codec is {weight.dtype} on "
                    f"{weight.device}: move it with state.to"
                )


def _inside(x: Tensor) -> Tensor:
    """[B, C, n, H, W] -> [n, B, H, W, C], contiguous."""
    return x.permute(2, 0, 3, 4, 1).contiguous()


def _outside(x: Tensor) -> Tensor:
    """[n, B, H, W, C] -> [B, C, n, H, W], a view."""
    return x.permute(1, 4, 0, 2, 3)


def _per_channel(x: Tensor) -> Tensor:
    """[C] -> [C, 1, 1, 1], to meet [B, C, T, h, w]."""
    return x[:, None, None, None]
