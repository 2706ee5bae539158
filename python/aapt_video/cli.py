"""The command `aapt-video`. Every subcommand is one entry of `COMMANDS`: words, module, arguments, function."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple


class Command(NamedTuple):
    """A subcommand. Its module is imported when it is called: help is quick, and optional extras stay optional."""

    words: str
    """What the user types after `aapt-video`."""
    module: str
    """Module that holds the two names below."""
    arguments: str
    """A dataclass; its docstring is the help text."""
    function: str
    """Takes an instance of it."""
    summary: str
    """One line for the overview."""


COMMANDS = (
    Command("inspect", "aapt_video.inspection", "Inspect", "inspect", "print what a configuration costs"),
    Command("doctor", "aapt_video.doctor", "Doctor", "run", "print what was built and found, and what is missing"),
    Command(
        "data make doom",
        "aapt_video.worlds.command",
        "MakeDoom",
        "make",
        "walk through Freedoom's maps with ViZDoom",
    ),
    Command(
        "data make folder",
        "aapt_video.worlds.command",
        "MakeFolder",
        "make",
        "cut a directory of videos into clips",
    ),
    Command(
        "data make humanoid",
        "aapt_video.worlds.command",
        "MakeHumanoid",
        "make",
        "render a moving figure with MuJoCo",
    ),
    Command("bench report", "aapt_video.bench.report", "Report", "run", "make docs/benchmarks.md from the records"),
    Command("data inspect", "aapt_video.worlds.command", "Inspect", "inspect", "print what a dataset holds"),
    Command("train quick", "aapt_video.train.quick", "Quick", "run", "every stage on a small capture, in minutes"),
    Command("train recipe", "aapt_video.train.recipe", "Recipe", "run", "all phases of a recipe, and a model folder"),
    Command("train codec", "aapt_video.train.command", "Codec", "run", "train the video codec"),
    Command("train diffusion", "aapt_video.train.command", "Diffusion", "run", "train the bidirectional model"),
    Command("train adapt", "aapt_video.train.command", "Adapt", "run", "make the model causal"),
    Command("train distill", "aapt_video.train.command", "Distill", "run", "train it to need one step"),
    Command("train adversarial", "aapt_video.train.command", "Adversarial", "run", "train it on its own past"),
    Command("train export", "aapt_video.train.export", "Export", "run_export", "make a model folder of a result"),
    Command("train keep", "aapt_video.train.export", "Keep", "run_keep", "copy a result's weights and record, small"),
    Command("bench step", "aapt_video.bench.step", "BenchStep", "run", "time one latent frame beside other programs"),
    Command("play", "aapt_video.serve.play", "Play", "play", "serve a world to walk through in the browser"),
    Command("profile", "aapt_video.bench.profile", "Profile", "run", "show where the time of one step goes"),
    Command("evaluate", "aapt_video.evaluate.command", "Evaluate", "run", "measure models beside real video"),
    Command("generate", "aapt_video.serve.generate", "Generate", "generate", "make a video"),
)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Mistakes of the user end with status 2 and one line, not with a traceback."""
    words = sys.argv[1:] if arguments is None else arguments
    for command in COMMANDS:
        own = command.words.split()
        if words[: len(own)] == own:
            _run(command, words[len(own) :])
            return
    plain = [word for word in words if word not in ("-h", "--help")]
    known = [command for command in COMMANDS if command.words.split()[: len(plain)] == plain]
    listing = "\n".join(f"  {command.words:<20} {command.summary}" for command in known or COMMANDS)
    usage = f"usage: aapt-video COMMAND [--help]\n\n{listing}"
    if known and (not words or plain != words):
        print(usage)
        return
    print(f"{'incomplete' if known else 'unknown'} command: {' '.join(plain)}\n{usage}", file=sys.stderr)
    sys.exit(2)


def _run(command: Command, arguments: list[str]) -> None:
    import tyro  # here, since the overview needs no parser

    module = import_module(command.module)
    function: Callable[[Any], None] = getattr(module, command.function)
    try:
        function(tyro.cli(getattr(module, command.arguments), prog=f"aapt-video {command.words}", args=arguments))
    except (ValueError, FileNotFoundError, ModuleNotFoundError, BlockingIOError) as error:
        print(f"aapt-video {command.words}: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(f"aapt-video {command.words}: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
