"""`aapt-video train codec|diffusion|adapt|distill|adversarial`: one stage, alone or under torchrun."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .adapt import AdaptConfig, AdaptStage
from .adversarial import AdversarialConfig, AdversarialStage
from .codec import CodecStage, CodecStageConfig
from .diffusion import DiffusionConfig, DiffusionStage
from .distill import DistillConfig, DistillStage
from .loop import Collapsed, Interrupted, NotFinite, Trainer
from .parallel import Processes
from .places import Places
from .settings import load_settings


@dataclass(frozen=True)
class Arguments:
    """Train one stage. A folder with checkpoints of the same configuration is continued; under torchrun the weights are
    sharded over the processes."""

    config: Path
    """TOML file; configs/ holds examples, train/README.md explains them."""
    data: Path
    """Dataset to train on."""
    out: Path
    """Folder of the run: checkpoints, logs, samples, and in the end weights and record.json."""
    held_out: Path | None = None
    """Dataset to measure on."""
    init: Path | None = None
    """Result of the stage before (for codec and diffusion: of this stage, to go on from)."""
    device: str | None = None
    """cpu or cuda; the GPU where there is one."""
    quiet: bool = False
    """No progress bar."""


@dataclass(frozen=True)
class Codec(Arguments):
    __doc__ = Arguments.__doc__


@dataclass(frozen=True)
class _Latent:
    codec: Path
    """Result of the codec stage."""


@dataclass(frozen=True)
class Diffusion(Arguments, _Latent):
    __doc__ = Arguments.__doc__


@dataclass(frozen=True)
class Adapt(Arguments, _Latent):
    __doc__ = Arguments.__doc__


@dataclass(frozen=True)
class Distill(Arguments, _Latent):
    __doc__ = Arguments.__doc__


@dataclass(frozen=True)
class _Players(_Latent):
    discriminator: Path
    """Result of the adapt stage, or of an earlier adversarial phase: what the discriminator starts from."""


@dataclass(frozen=True)
class Adversarial(Arguments, _Players):
    __doc__ = Arguments.__doc__


STAGES: dict[type[Arguments], tuple[type[Any], type[Any]]] = {
    Codec: (CodecStageConfig, CodecStage),
    Diffusion: (DiffusionConfig, DiffusionStage),
    Adapt: (AdaptConfig, AdaptStage),
    Distill: (DistillConfig, DistillStage),
    Adversarial: (AdversarialConfig, AdversarialStage),
}


def run(arguments: Arguments) -> None:
    """Trains the stage that the arguments are of. Ends with status 130 when interrupted, 1 when a number is NaN
    or the stage has collapsed."""
    config_kind, stage_kind = STAGES[type(arguments)]
    config = load_settings(config_kind, arguments.config)
    before = {name: getattr(arguments, name, None) for name in ("codec", "init", "discriminator")}
    places = Places(arguments.data, arguments.held_out, **before)
    processes = Processes.start(arguments.device)
    try:
        stage = stage_kind(config, places, processes, arguments.quiet)
        Trainer(stage, arguments.out, processes, arguments.quiet).fit()
        if processes.rank == 0:
            print(f"{stage.name}: done, see {arguments.out}")
    except Interrupted as stop:
        print(f"{arguments.out}: {stop}", file=sys.stderr)
        sys.exit(130)
    except (Collapsed, NotFinite) as alarm:
        print(f"{arguments.out}: {alarm}", file=sys.stderr)
        sys.exit(1)
    finally:
        processes.finish()
