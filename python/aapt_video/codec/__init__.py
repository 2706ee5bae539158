"""The codec: video to latents and back, causally, so that pictures leave as fast as latents are made.

How a latent frame becomes four pictures (`world`; the other configurations differ in numbers only):

1. `decode_step` takes one latent [B, C, 12, 16], undoes its unit scale, and lays it out channels last.
2. Stages of residual blocks widen it in space: a 1x1 convolution makes channels, `unfold` turns them into
   pixels, 12x16 -> 24x32 -> 48x64. The last unfold also spreads channels over time: 2x2 pixels times four
   pictures.
3. A causal convolution with k taps sees this frame and k - 1 before it. In transposed form it is one 2-D
   convolution with k outputs; what it owes to later frames waits in `CodecState`, the only memory: a few
   static tensors.
4. A linear shortcut (latent pixel -> block of 8x8 pixels in four pictures) is added. PCA of real blocks
   starts it, so training begins at the best linear codec.
5. The first latent frame is one picture: it is treated as four equal ones, of which decoding keeps the last.

One class does both families. With `folds` that take time and space before the first convolution the nets are
2-D, at the latent frame rate, with causal taps (small worlds on a CPU); with step-by-step folds and three
taps everywhere they are the 3-D convolutional VAEs of Wan and Seaweed. Folding and overlapping are the same
in both, so nothing is doubled.
"""

from .codec import Codec, Posterior
from .config import NAMED, CodecConfig, NetConfig, named_config
from .cost import Cost, decoder_cost, encoder_cost, state_bytes
from .files import load_codec, save_codec
from .fit import fit_scale, pca_init
from .pictures import from_uint8, to_uint8
from .state import CodecState

__all__ = [
    "NAMED",
    "Codec",
    "CodecConfig",
    "CodecState",
    "Cost",
    "NetConfig",
    "Posterior",
    "decoder_cost",
    "encoder_cost",
    "fit_scale",
    "from_uint8",
    "load_codec",
    "named_config",
    "pca_init",
    "save_codec",
    "state_bytes",
    "to_uint8",
]
