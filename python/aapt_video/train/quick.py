"""`aapt-video train quick`: every stage on a small capture, in minutes, ending in a clip and a report.

It shows that the recipe works on this machine; the pictures are small and soft.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from aapt_video.codec import CodecConfig, NetConfig
from aapt_video.files import write_json
from aapt_video.model import TransformerConfig
from aapt_video.stream import Generator, save_generator
from aapt_video.stream.noise import gaussian
from aapt_video.video import contact_sheet, write_mp4
from aapt_video.worlds.dataset import VideoDataset

from .adapt import AdaptConfig, AdaptStage
from .adversarial import AdversarialConfig, AdversarialStage, rmsprop
from .clips import ClipConfig, controls
from .codec import CodecStage, CodecStageConfig
from .diffusion import DiffusionConfig, DiffusionStage
from .distill import DistillConfig, DistillStage
from .export import to_generator
from .loop import Trainer
from .losses import clean
from .optimiser import OptimiserConfig
from .parallel import Processes
from .places import Places
from .predictor import Predictor
from .record import device_name
from .shapes import ShapesConfig, make_shapes
from .stage import RunConfig

_FOLDS = ((4, 2), (1, 2), (1, 2))
_NET = NetConfig(_FOLDS, widths=(24, 32, 48), blocks=(1, 1, 1), taps=(1, 2, 2))
_CODEC = CodecConfig(_NET, _NET, channels=12, shortcut=True)
_POSITIONS = 8
_TRANSFORMER = TransformerConfig(
    width=96, heads=2, blocks=4, mlp=384, channels=12, condition_channels=24, text="joint", text_width=32,
    text_hidden=32, text_tokens=128, window=6, pinned_cap=7,
)  # fmt: skip
_SIZE = (64, 48)


@dataclass(frozen=True)
class Quick:
    """Train a tiny world from nothing: data, codec, diffusion, adaptation, distillation, adversarial training, and a
    clip of the result. A run that was stopped is continued."""

    out: Path = Path("runs/quick")
    """Folder of everything that is made."""
    world: Literal["auto", "doom", "shapes"] = "auto"
    """Where the video comes from; auto: ViZDoom where it is installed, else moving shapes."""
    effort: float = 1.0
    """Updates, as a share of the usual number."""
    seed: int = 0
    """Of data, weights and noise."""
    quiet: bool = False
    """No progress bars."""

    def __post_init__(self) -> None:
        if self.effort <= 0:
            raise ValueError(f"effort={self.effort} must be positive")


def run(arguments: Quick) -> None:
    """Trains, and prints the report."""
    report = quick(arguments)
    print(table(report))
    print(f"clip: {arguments.out / 'clip.mp4'}; frames: {arguments.out / 'clip.png'}; model: {arguments.out / 'model'}")


def quick(arguments: Quick) -> dict[str, Any]:
    """All of it; returns the report, which is also written to report.json.

    Its entries: `world`; `seconds` of each part; `measured` of each stage; `stream_against_parallel`, the largest
    difference between a latent of a stream and of one parallel pass over the same inputs; `device`.
    """
    out, processes = arguments.out, Processes.start("cpu")
    clock = _Clock()
    world = _world(arguments)
    data, held_out = _make_data(world, arguments)
    clock.lap("data")
    measured = {}
    places = Places(data, held_out)
    for name, kind, config in _stages(arguments):
        stage = kind(config, places, processes, arguments.quiet)
        trainer = Trainer(stage, out / name, processes, arguments.quiet)
        measured[name] = trainer.fit()
        done = {"codec": "codec", "adapt": "discriminator"}.get(name)
        places = replace(places, **({done: out / name} if done else {}))
        places = replace(places, init=None if name == "codec" else out / name)
        clock.lap(name, at_least=trainer.seconds)  # of a run that was continued, its updates count
    student: Predictor = stage.predictor
    test = VideoDataset(held_out)
    generator = to_generator(student, out / "codec", test, 4, f"quick {world}")
    save_generator(generator, out / "model")
    difference = _make_clip(generator, student, test, out)
    clock.lap("clip")
    report = {
        "world": world,
        "device": device_name(processes.device),
        "seconds": clock.laps,
        "measured": measured,
        "stream_against_parallel": difference,
    }
    write_json(out / "report.json", report)
    return report


def table(report: dict[str, Any]) -> str:
    """The report for a reader: figures of each stage, with what they are to be compared with."""
    lines = [f"{report['world']} on {report['device']}, {sum(report['seconds'].values()):.0f} s"]
    for name, values in report["measured"].items():
        lines.append(f"  {name:<10} {report['seconds'][name]:6.1f} s")
        lines += [f"    {key.removeprefix('held_out/'):<28} {value:8.3f}" for key, value in values.items()]
    lines.append(f"  stream against one parallel pass: largest difference {report['stream_against_parallel']:.1e}")
    return "\n".join(lines)


def _stages(arguments: Quick) -> list[tuple[str, Any, Any]]:
    def run_of(steps: int, batch: int) -> RunConfig:
        steps = max(1, round(steps * arguments.effort))
        # Matrices this small are multiplied faster in float32 than they are converted to bf16.
        return RunConfig(steps, batch, seed=arguments.seed, precision="fp32", ema=0.97, checkpoint_every=100, keep=1)

    clips = ClipConfig(frames=_POSITIONS, phases=(0,))
    muon = OptimiserConfig(lr=2e-3, muon_lr=0.02)
    return [
        ("codec", CodecStage, CodecStageConfig(run_of(250, 6), _CODEC, crop=48, fit_clips=64)),
        (
            "diffusion",
            DiffusionStage,
            DiffusionConfig(run_of(300, 16), _TRANSFORMER, 1, clips=replace(clips, drop_condition=0.1), optimiser=muon),
        ),
        ("adapt", AdaptStage, AdaptConfig(run_of(700, 16), _TRANSFORMER.window, clips=clips, optimiser=muon)),
        (
            "distill",
            DistillStage,
            DistillConfig(run_of(400, 16), grid=6, clips=clips, optimiser=OptimiserConfig(lr=1e-4)),
        ),
        (
            "adversarial",
            AdversarialStage,
            AdversarialConfig(
                run_of(160, 8),
                clips=clips,
                warmup=round(40 * arguments.effort),
                generator_optimiser=rmsprop(5e-5),
                discriminator_optimiser=rmsprop(3e-4),
            ),
        ),
    ]


def _world(arguments: Quick) -> str:
    if arguments.world != "auto":
        return arguments.world
    return "doom" if find_spec("vizdoom") else "shapes"


def _make_data(world: str, arguments: Quick) -> tuple[Path, Path]:
    """Folders of training and held-out data, made where they are missing."""
    train, test = arguments.out / "data", arguments.out / "data-test"
    width, height = _SIZE
    if world == "shapes":
        make_shapes(train, ShapesConfig(clips=160, seed=arguments.seed))
        make_shapes(test, ShapesConfig(clips=12, seed=9000 + arguments.seed))
        return train, test
    from aapt_video.worlds.doom import DoomConfig, DoomMaker
    from aapt_video.worlds.making import MakeOptions, make_dataset

    options = MakeOptions(quiet=arguments.quiet)
    for folder, frames, seed, reserved in ((train, 14_000, arguments.seed, False), (test, 1_500, 9000, True)):
        config = DoomConfig(frames=frames, seed=seed, test=reserved, width=width, height=height, clip_frames=241)
        make_dataset(DoomMaker(config), folder, options)
    return train, test


@torch.no_grad()
def _make_clip(generator: Generator, student: Predictor, test: VideoDataset, out: Path, steps: int = 12) -> float:
    """Streams a held-out clip's controls from its first frame: clip.mp4 and clip.png, real frames over generated ones.

    Returns the largest difference between the stream's latents and those of one parallel pass of the training model.
    """
    window = test.sample(4 * steps + 1, 1, 0)
    transforms = controls(test, window.clip, window.start, steps, "camera")
    prompt = window.caption or None
    seed, pictures, latents = 7, [], []
    with generator.open(prompt, window.video[0], seed) as stream:
        latents.append(stream.state.latent.clone())
        for transform in transforms:
            pictures.append(torch.as_tensor(stream.step(transform)))
            latents.append(stream.state.latent.clone())
    both = torch.cat([torch.from_numpy(window.video[1:]), torch.cat(pictures)], 1)
    write_mp4(out / "clip.mp4", [both])
    contact_sheet(both[3::4], columns=6).save(out / "clip.png")

    streamed = torch.stack(latents)[None].float()
    shape = tuple(latents[0].shape)
    noise = torch.stack([torch.from_numpy(gaussian(seed, k, shape)) for k in range(1, steps + 1)])[None]
    condition = torch.from_numpy(generator.condition.pack(transforms, *shape[1:]))[None]
    t = torch.ones(1)
    velocity = student.eval()(noise, streamed[:, :-1], t, condition, (prompt or "",))
    return float((clean(noise, velocity, t) - streamed[:, 1:]).abs().max())


class _Clock:
    """Seconds of one part after another."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str, at_least: float = 0.0) -> None:
        now = time.perf_counter()
        self.laps[name], self._since = round(max(now - self._since, at_least), 1), now
