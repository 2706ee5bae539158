"""Signs that an adversarial training has failed, watched from its first update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .stage import Collapsed


@dataclass(frozen=True)
class Limits:
    """Running averages beyond these end the run."""

    gap: float = 10.0
    """Largest mean difference of real and generated logits: beyond it the losses are 0, the discriminator has won."""
    motion: tuple[float, float] = (0.2, 4.0)
    """Range of the generated motion, over the real."""
    spread: float = 1e-3
    """Smallest standard deviation over noise of the last latent on held-out clips: below it the noise is ignored."""
    decay: float = 0.95
    """Of the averages: about 20 updates must agree."""


class Health:
    """Running averages of the gap of logits and of the motion."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.averages = torch.zeros(2, dtype=torch.float64)
        """Gap and logarithm of the motion; 0 at first, as of a healthy run."""

    def check(self, values: Mapping[str, float]) -> None:
        """Takes in the scalars of an update, or of a measurement; raises Collapsed."""
        limits = self.limits
        if "discriminator/gap" in values:
            now = (values["discriminator/gap"], math.log(max(values["discriminator/motion"], 1e-9)))
            self.averages.lerp_(torch.tensor(now, dtype=torch.float64), 1 - limits.decay)
        gap, motion = float(self.averages[0]), float(self.averages[1].exp())
        spread = values.get("held_out/spread", limits.spread)
        least, most = limits.motion
        if gap > limits.gap:
            raise Collapsed(
                f"the discriminator has won, the gap of logits is {gap:.3g} > {limits.gap:g}: raise penalty, or lower "
                f"the discriminator's learning rate. {_BEFORE}"
            )
        if not least <= motion <= most:
            raise Collapsed(
                f"the video {'stands still' if motion < least else 'moves wildly'}, its motion is {motion:.3g} of the "
                f"real: lower the generator's learning rate, or let a logit judge the clip. {_BEFORE}"
            )
        if spread < limits.spread:
            raise Collapsed(
                f"the noise is ignored, its spread is {spread:.3g} < {limits.spread:g}: lower penalty or the "
                f"generator's learning rate. {_BEFORE}"
            )


_BEFORE = "The newest checkpoint is from before"
