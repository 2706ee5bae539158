"""`aapt-video train recipe`: the phases of a recipe, each from the results of those before, then a model folder.

A phase is a stage with a configuration of its own: `adversarial-late` is the stage `adversarial` with the settings of
`adversarial-late.toml`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from aapt_video.worlds.dataset import VideoDataset

from .command import STAGES, train, until_done
from .export import export
from .parallel import Processes
from .places import Places
from .record import read_record
from .settings import load_settings, to_values

_STAGES = {arguments.__name__.lower(): kinds for arguments, kinds in STAGES.items()}
_NEEDS = {
    "codec": (),
    "diffusion": ("codec",),
    "adapt": ("codec", "diffusion"),
    "distill": ("codec", "adapt"),
    "adversarial": ("codec", "adapt", "distill"),
}
_CAUSAL = ("adapt", "distill", "adversarial")
_STARTS = 8  # pictures that the model folder offers to start from


@dataclass(frozen=True)
class RecipeConfig:
    """What a recipe's file holds."""

    phases: tuple[str, ...]
    """In their order. The settings of each lie beside the recipe in NAME.toml; up to the first "-" the name is a
    stage's."""


@dataclass(frozen=True)
class Recipe:
    """Train all phases of a recipe, and make a model folder of the last. What was interrupted is continued, and what is
    done stays as it is. Under torchrun the weights are sharded over the processes."""

    recipe: Path
    """TOML file with `phases`, beside the files that it names; configs/doom/recipe.toml is one."""
    data: Path
    """Dataset to train on."""
    held_out: Path
    """Dataset to measure on, and to take start frames from."""
    out: Path
    """A folder for each phase, and `model`."""
    device: str | None = None
    """cpu or cuda; the GPU where there is one."""
    quiet: bool = False
    """No progress bars."""


class Phase(NamedTuple):
    """One run of a stage."""

    name: str
    config: Any
    stage: Any
    places: Places
    out: Path

    @property
    def done(self) -> bool:
        """Whether its result is there.

        Raises:
            ValueError: one of another configuration is.
        """
        record = read_record(self.out)
        if record is None:
            return False
        if record["config"] != json.loads(json.dumps(to_values(self.config))):
            raise ValueError(
                f"out: {str(self.out)!r} holds a result of another configuration: choose another folder, or delete it"
            )
        return True


def run(arguments: Recipe) -> None:
    """Trains what is not done. Ends with status 130 when interrupted, 1 when a number is NaN or a stage has collapsed.

    Raises:
        FileNotFoundError, ValueError: a phase's settings are missing or wrong, or it lacks one before it; nothing has
            begun then.
    """
    phases = list(phases_of(arguments))
    if not phases or phases[-1].stage.name not in _CAUSAL:
        raise ValueError(f"phases: the last becomes the model, so it must be of {', '.join(_CAUSAL)}")
    left = [phase for phase in phases if not phase.done]
    test = VideoDataset(arguments.held_out)
    processes = Processes.start(arguments.device)
    for phase in left:
        phase.config.run.share(0, processes)  # raises where a batch does not fit the processes
    with until_done(processes):
        for phase in left:
            if processes.rank == 0:
                print(f"{phase.name}: phase {1 + phases.index(phase)} of {len(phases)}")
            train(phase.stage, phase.config, phase.places, phase.out, processes, arguments.quiet)
            processes.wait()  # the next phase reads what the first process writes
        if processes.rank == 0:
            model, codec = arguments.out / "model", phases[-1].places.codec
            assert codec is not None
            export(phases[-1].out, codec, test, model, _STARTS)
            print(f"model: {model}; look at it with: aapt-video play {model}")


def phases_of(arguments: Recipe) -> Iterator[Phase]:
    """Each phase begins from the one before, the codec's from the codec's; a discriminator from that of the adversarial
    phase before, the first from the last phase of `adapt`."""
    results: dict[str, Path] = {}
    latent: Path | None = None
    for name in load_settings(RecipeConfig, arguments.recipe).phases:
        stage, out = name.split("-")[0], arguments.out / name
        if stage not in _STAGES:
            raise ValueError(f"phases: {name!r} begins with no stage's name; stages are {', '.join(_STAGES)}")
        if missing := [needed for needed in _NEEDS[stage] if needed not in results]:
            raise ValueError(f"phases: {name!r} needs phases of {', '.join(missing)} before it")
        config_kind, stage_kind = _STAGES[stage]
        config = load_settings(config_kind, arguments.recipe.parent / f"{name}.toml")
        places = Places(arguments.data, arguments.held_out)
        if stage == "codec":
            places = replace(places, init=results.get("codec"))
        else:
            judge = results.get("adversarial", results.get("adapt")) if stage == "adversarial" else None
            places = replace(places, codec=results["codec"], init=latent, discriminator=judge)
            latent = out
        results[stage] = out
        yield Phase(name, config, stage_kind, places, out)
