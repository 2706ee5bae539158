"""`aapt-video evaluate`: models beside each other and beside real video."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tqdm import tqdm

from aapt_video.train.clips import ConditionSource, describe_data
from aapt_video.train.record import environment, now
from aapt_video.worlds.dataset import VideoDataset

from .evaluation import Setting, evaluate_player, real_figures, work
from .fitting import FitConfig, measuring_networks
from .lessons import has_camera
from .networks import WINDOW
from .next_latent import POSITIONS
from .obedience import judge
from .players import Player, open_player
from .reference import measure_reference
from .report import draw, draw_sheet, table, write_json
from .rollouts import starts


@dataclass(frozen=True)
class Evaluate:
    """Measure models on places they were not trained on. Writes evaluation.json, evaluation.svg and a sheet of pictures
    for each model; docs/evaluation.md tells what the figures mean. What was done before is not done again.

    In use:

        aapt-video evaluate runs/model --data data/doom --held-out data/doom-test
        aapt-video evaluate runs/adapt runs/distill --codec runs/codec --data data/doom --held-out data/doom-test
        aapt-video evaluate runs/model --data data/doom --held-out data/doom-test --frames 240 --clips 4 --seeds 1
    """

    models: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folders, or results of the stages adapt, distill and adversarial."""
    data: Path
    """Real video that the measuring networks are trained on: that of the models' training."""
    held_out: Path
    """Real video of other places: where the models start, and what they are compared with."""
    out: Path = Path("runs/evaluation")
    """Folder of everything that is made."""
    codec: Path | None = None
    """Result of the codec stage, for stages' results."""
    networks: Path | None = None
    """Folder where the measuring networks are kept; OUT/networks where it is not given."""
    frames: int = 1440
    """Video frames of each video, a multiple of 4; 24 are a second."""
    clips: int = 8
    """Start frames, spread over the held-out places."""
    seeds: int = 3
    """Videos of each start frame; figures are spread over them."""
    seed: int = 0
    """The first of the seeds."""
    steps: int = 8
    """Passes per latent frame of a result of the stage adapt."""
    windows: int = 1000
    """Windows of 16 frames in each set that the Fréchet distance compares; fewer where there are not so many."""
    condition: ConditionSource = "camera"
    """Track that steers: what the camera did, or what it was told to do; none: it stands still."""
    imagenet: bool = False
    """Also compare pictures by ImageNet features (torchvision; the weights are downloaded)."""
    fit: FitConfig = field(default_factory=FitConfig)
    """Training of the measuring networks."""
    device: str | None = None
    """cpu or cuda; the GPU where there is one."""
    quiet: bool = False
    """No progress bars."""


def run(arguments: Evaluate) -> None:
    """Runs the command; Ctrl-C keeps every video that was measured."""
    report = evaluate(arguments)
    print(table(report))
    print(f"{arguments.out / 'evaluation.json'}, evaluation.svg, sheet-*.png")


def evaluate(arguments: Evaluate) -> dict[str, Any]:
    """The report, which is also written.

    Raises:
        ValueError: an argument does not fit; nothing was made.
        FileNotFoundError: a folder does not hold what it should.
    """
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    data, held_out = _check(arguments)
    players = _players(arguments, held_out, device)
    out, latent_frames = arguments.out, arguments.frames // 4
    source: ConditionSource = arguments.condition if has_camera(held_out) else "none"
    chosen = starts(held_out, arguments.clips, latent_frames, source)
    out.mkdir(parents=True, exist_ok=True)
    kept = arguments.networks or out / "networks"
    networks = measuring_networks(data, kept, arguments.fit, device, arguments.imagenet, arguments.quiet)
    reference = measure_reference(held_out, networks, out / "kept", arguments.windows, arguments.quiet)
    seeds = list(range(arguments.seed, arguments.seed + arguments.seeds))
    setting = Setting(held_out, source, chosen, seeds, networks, reference, out / "kept")
    report: dict[str, Any] = {
        "settings": {**_settings(arguments), "condition": source},
        "environment": environment(device, 1),
        "finished": None,
        "data": describe_data(data),
        "held_out": describe_data(held_out),
        "networks": networks.record,
        "classifier": None if (classifier := judge(reference, networks)) is None else asdict(classifier),
        "real": real_figures(setting),
        "models": {},
    }
    for player in players:
        with tqdm(total=work(player, setting), desc=player.name, unit="latent frame", disable=arguments.quiet) as bar:
            result, pictures = evaluate_player(player, setting, bar.update)
        report["models"][player.name] = result
        draw_sheet(out / f"sheet-{player.name}.png", [start.picture for start in chosen], pictures)
        write_json(out / "evaluation.json", report)
        draw(out / "evaluation.svg", report)
    report["finished"] = now()
    write_json(out / "evaluation.json", report)
    return report


def _check(arguments: Evaluate) -> tuple[VideoDataset, VideoDataset]:
    """Both datasets; raises ValueError for what can be seen wrong before any work."""
    if not arguments.models:
        raise ValueError("no model is named: give one folder or more, as in `aapt-video evaluate runs/model ...`")
    for name in ("clips", "seeds", "steps", "windows"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name}={getattr(arguments, name)} must be >= 1")
    if arguments.frames % 4 or arguments.frames < WINDOW:
        raise ValueError(f"frames={arguments.frames} must be a multiple of 4, and at least {WINDOW}")
    data, held_out = VideoDataset(arguments.data), VideoDataset(arguments.held_out)
    if arguments.data.resolve() == arguments.held_out.resolve():
        raise ValueError(
            f"held_out={str(arguments.held_out)!r} is the training data: measure on other places, "
            "for example made by `aapt-video data make doom --test`"
        )
    if data.size != held_out.size:
        raise ValueError(f"held_out has pictures of {held_out.size}, data of {data.size}: make them of one size")
    if held_out.count(1 + 4 * POSITIONS) == 0:
        raise ValueError(f"held_out has no clip of {1 + 4 * POSITIONS} video frames: make longer clips")
    if has_camera(data) != has_camera(held_out):
        raise ValueError("data and held_out must both have a camera track, or neither")
    return data, held_out


def _players(arguments: Evaluate, held_out: VideoDataset, device: torch.device) -> list[Player]:
    """One for each model, called by its folder; by the folder above it too where two are called alike."""
    names = [folder.name for folder in arguments.models]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}-{folder.name}" for folder in arguments.models]
    if len(set(names)) < len(names):
        raise ValueError(f"models are called {', '.join(names)}: each needs a name of its own")
    return [
        open_player(name, folder, arguments.codec, held_out, arguments.steps, device)
        for name, folder in zip(names, arguments.models, strict=True)
    ]


def _settings(arguments: Evaluate) -> dict[str, Any]:
    plain = asdict(arguments)
    return {
        "command": " ".join(sys.argv[1:]) if "evaluate" in sys.argv[1:2] else None,
        "models": [str(folder) for folder in arguments.models],
        **{key: plain[key] for key in ("frames", "clips", "seeds", "seed", "steps", "windows", "imagenet", "fit")},
    }
