"""`aapt-video generate`: a clip from a prompt, a picture and a way through the world."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from aapt_video.model import Linears
from aapt_video.model.conditions import Camera, Plain, Pose
from aapt_video.stream import Generator, Speeds, load
from aapt_video.video import read_video

from .path import follow
from .steering import FRAMES, OwnSpeeds

VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif"}
Control = NDArray[np.float64]
LONGEST = 86_400  # video frames of a clip whose end only standard input knows: an hour of 24 a second


@dataclass(frozen=True)
class Generate:
    """Make a video; writes OUT and, beside it, a JSON record that says how to make it again.

    In use:

        aapt-video generate doom --frames 240 --seed 7
        aapt-video generate doom --path "forward 2s, left 90 over 3s, forward 2s and right 45"
        aapt-video generate doom --image photo.jpg --prompt "a corridor of steel" --out hall.mp4
        aapt-video generate doom --image walk.mp4 --at 2.5 --path-file tour.txt
        echo "forward 2s" | aapt-video generate doom --controls-from-stdin
    """

    world: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WORLD")]
    """A shipped world, or a model's folder."""
    prompt: str | None = None
    """What is to be seen, in any script; only where the model knows text."""
    image: Path | None = None
    """Picture or video to start from, cropped to the size; a start frame of the world where it is not given."""
    at: float = 0.0
    """Seconds into the video that `image` is."""
    path: str | None = None
    """The camera's way in words: forward 2s, left 90 over 3s."""
    path_file: Path | None = None
    """The camera's way: words in a text file, or .npy or .json of [frames, 4, 4] transforms to the frame before."""
    pose_file: Path | None = None
    """Joints: .npy or .json of [frames, joints, 2 or 3]."""
    controls_from_stdin: bool = False
    """Read the way line by line while the video is made: words of a path, or JSON of one step's control."""
    frames: int | None = None
    """Video frames; the length of the way, else 240, where it is not given."""
    seed: int = 0
    """0 to 2^64 - 1; another seed is another video."""
    height: int | None = None
    """Of the pictures, pixels; the model's where it is not given."""
    width: int | None = None
    """Of the pictures, pixels."""
    device: str | None = None
    """cpu or cuda; the best that is there where it is not given."""
    linears: Linears | None = None
    """fp8 multiplies in fp8 on GPUs that can; on a CPU it shows the error, slowly."""
    out: Path = Path("out.mp4")
    """The video file; it is replaced if it is there."""
    speeds: OwnSpeeds = field(default_factory=OwnSpeeds)
    """Of the camera, where they shall not be the world's own."""


def generate(arguments: Generate) -> None:
    """Runs the command. Ctrl-C keeps what is done and ends with status 130.

    Raises:
        ValueError: an argument does not fit the model or a file is broken; nothing was written.
        FileNotFoundError: there is no such world or file.
    """
    check(arguments)
    image = None if arguments.image is None else read_image(arguments.image, arguments.at)
    generator = load(arguments.world, device=arguments.device, linears=arguments.linears)
    controls, count = find_controls(arguments, generator, sys.stdin)
    frames = arguments.frames or count or (240 if count is None else 0)
    clip = generator(
        arguments.prompt,
        image,
        frames or LONGEST,
        arguments.seed,
        controls=controls,
        height=arguments.height,
        width=arguments.width,
    )
    if len(clip.frames) == 0:
        raise ValueError("no frame was made: the controls ended before the first; write for example: forward 2s")
    path = clip.save(arguments.out)
    seconds, spent = len(clip.frames) / clip.fps, clip.record["seconds"]["total"]
    print(f"{path}: {len(clip.frames)} frames, {seconds:.1f} s; {path.with_suffix('.json')}")
    print(f"made in {spent:.1f} s: {len(clip.frames) / spent:.1f} frames a second, {seconds / spent:.2f} x real time")
    if clip.record["interrupted"]:
        sys.exit(130)


def check(arguments: Generate) -> None:
    """What can be seen wrong before a model is loaded; raises ValueError."""
    if arguments.frames is not None and arguments.frames < 1:
        raise ValueError(f"frames is {arguments.frames}; it must be at least 1")
    if arguments.out.suffix.lower() != ".mp4":
        raise ValueError(f"out is {str(arguments.out)!r}; it must end in .mp4")
    sources = {
        "--path": arguments.path,
        "--path-file": arguments.path_file,
        "--pose-file": arguments.pose_file,
        "--controls-from-stdin": arguments.controls_from_stdin or None,
    }
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given; give one of them")
    if arguments.at < 0:
        raise ValueError(f"at is {arguments.at:g}; it must be at least 0 seconds")


def read_image(path: Path, at: float) -> Image.Image | NDArray[np.uint8]:
    """A picture file, or the frame of a video that is on screen after `at` seconds."""
    if not path.is_file():
        raise FileNotFoundError(f"image is {str(path)!r}; there is no such file")
    if path.suffix.lower() not in VIDEOS:
        try:
            with Image.open(path) as image:
                still: Image.Image = image.copy()
                return still
        except (UnidentifiedImageError, OSError, SyntaxError):
            raise ValueError(f"image is {str(path)!r}, which cannot be read as a picture; give a JPEG or PNG") from None
    fps = 10.0
    skipped = round(at * fps)
    for frames in read_video(path, fps=fps):
        if skipped < len(frames):
            picture: NDArray[np.uint8] = frames[skipped].numpy()
            return picture
        skipped -= len(frames)
    raise ValueError(f"at is {at:g}, and {str(path)!r} is over before that; give an earlier moment")


def find_controls(
    arguments: Generate, generator: Generator, stdin: IO[str]
) -> tuple[Iterable[Control | None] | None, int | None]:
    """Controls for each step, and how many video frames they last: None where nothing was given, 0 where nobody knows.

    Raises:
        ValueError: they are not what steers this model.
    """
    condition = generator.condition
    wants_camera = arguments.path is not None or arguments.path_file is not None
    for flag, wrong in (
        ("path", wants_camera and not isinstance(condition, Camera)),
        ("pose-file", arguments.pose_file is not None and not isinstance(condition, Pose)),
        ("controls-from-stdin", arguments.controls_from_stdin and isinstance(condition, Plain)),
    ):
        if wrong:
            raise ValueError(f"--{flag} is given, and this model is steered by {condition.name!r}; leave it out")
    if isinstance(condition, Pose) and arguments.pose_file is None and not arguments.controls_from_stdin:
        raise ValueError("this model needs a pose in every step; give --pose-file")
    speeds = arguments.speeds.over(generator.speeds)
    if arguments.controls_from_stdin:
        return listen(stdin, condition, speeds, generator.fps), 0
    steps: Control
    if arguments.path is not None:
        steps = follow(arguments.path, speeds, generator.fps)
    elif arguments.path_file is not None and arguments.path_file.suffix.lower() not in (".npy", ".json"):
        steps = follow(read_words(arguments.path_file), speeds, generator.fps)
    elif (file := arguments.path_file or arguments.pose_file) is not None:
        steps = in_steps(read_array(file), condition)
    else:
        return None, None
    for step in steps:
        condition.split(step)  # raises now rather than in the middle
    wanted = -(-(arguments.frames or 0) // FRAMES)
    rest = None if isinstance(condition, Camera) else steps[-1]
    return [*steps, *[rest] * max(0, wanted - len(steps))], FRAMES * len(steps)


def read_words(path: Path) -> str:
    """A text file; lines that begin with # are left out."""
    if not path.is_file():
        raise FileNotFoundError(f"path-file is {str(path)!r}; there is no such file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"path-file is {str(path)!r}, which is not text; give words, .npy or .json") from None
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def read_array(path: Path) -> Control:
    """Numbers [frames, ...] of a .npy or .json file."""
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} is not there; give a .npy or .json file")
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
        return np.asarray(json.loads(path.read_text(encoding="utf-8")), dtype=np.float64)
    except (ValueError, TypeError, EOFError) as error:
        raise ValueError(f"{str(path)!r} holds no array of numbers: {error}") from None


def in_steps(controls: Control, condition: Camera | Pose | Plain) -> Control:
    """[frames, ...] as [steps, 4, ...]; the last step is filled up with rest, or with the last pose."""
    if controls.ndim != 3 or len(controls) == 0:
        raise ValueError(
            f"the file holds an array {list(controls.shape)}; it must be [frames, ...], one per video frame"
        )
    missing = -len(controls) % FRAMES
    last = np.eye(4)[None] if isinstance(condition, Camera) and controls.shape[1:] == (4, 4) else controls[-1:]
    filled: Control = np.concatenate((controls, np.repeat(last, missing, 0)))
    return filled.reshape(-1, FRAMES, *controls.shape[1:])


def listen(lines: Iterable[str], condition: Any, speeds: Speeds, fps: float) -> Iterator[Control]:
    """Controls from lines as they come; a line that is none is reported on standard error and passed over."""
    for line in lines:
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        try:
            if words[0] in "[{":
                yield condition.split(json.loads(words))
            elif isinstance(condition, Camera):
                yield from follow(words, speeds, fps)
            else:
                raise ValueError("a line must be JSON of one step's control")
        except ValueError as error:
            print(f"aapt-video generate: {error}", file=sys.stderr)
