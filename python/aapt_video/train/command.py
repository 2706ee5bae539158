"""`aapt-video train codec|diffusion|adapt|distill|adversarial`: one stage, alone or under torchrun."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    with until_done(processes):
        train(stage_kind, config, places, arguments.out, processes, arguments.quiet)


def train(kind: type[Any], config: Any, places: Places, out: Path, processes: Processes, quiet: bool) -> None:
    """Trains a stage to its end, into `out`; raises what `Trainer.fit` does, with `out` in front."""
    stage = kind(config, places, processes, quiet)
    try:
        Trainer(stage, out, processes, quiet).fit()
    except (Interrupted, Collapsed, NotFinite) as stop:
        raise type(stop)(f"{out}: {stop}") from stop
    if processes.rank == 0:
        print(f"{stage.name}: done, see {out}")


@contextmanager
def until_done(processes: Processes) -> Iterator[None]:
    """Ends the program with status 130 where training inside was interrupted, with 1 where it raised an alarm."""
    try:
        yield
    except (Interrupted, Collapsed, NotFinite) as stop:
        print(stop, file=sys.stderr)
        sys.exit(130 if isinstance(stop, Interrupted) else 1)
    finally:
        processes.finish()
