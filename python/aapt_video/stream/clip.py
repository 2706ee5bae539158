"""A clip of a given length, and the record that makes it again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from aapt_video.video import write_mp4

if TYPE_CHECKING:
    from .stream import Stream


@dataclass(frozen=True, eq=False)
class Clip:
    """Pictures, and how they came to be."""

    frames: NDArray[np.uint8]
    """[n, H, W, 3]"""
    fps: float
    """Pictures per second."""
    record: dict[str, Any]
    """Seed, prompt, configuration, timings; whether it was interrupted."""

    def save(self, path: str | Path) -> Path:
        """Writes H.264 and, beside it, the record as JSON; returns the path."""
        path = Path(path)
        write_mp4(path, [self.frames], self.fps)
        path.with_suffix(".json").write_text(json.dumps(self.record, indent=2) + "\n")
        return path


def make_clip(stream: Stream, frames: int, controls: Iterable[ArrayLike | None] | None, progress: bool) -> Clip:
    """Runs ceil(frames / 4) steps of a stream and trims; Ctrl-C ends it early."""
    steps = -(-frames // 4)
    fps = stream.generator.fps
    pictures: list[NDArray[np.uint8]] = []
    seconds: list[float] = []
    interrupted = False
    facts = {"seed": stream.state.seed, "prompt": stream.prompt}
    bar = tqdm(total=steps, unit="latent frame", disable=None if progress else True)
    try:
        begin = time.perf_counter()
        for made in stream.run(islice(repeat(None) if controls is None else controls, steps), ahead=True):
            pictures.append(np.asarray(made))
            seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            rate = 4 * len(seconds) / sum(seconds)
            bar.set_postfix_str(f"{rate:.1f} fps, {rate / fps:.2f} x real time", refresh=False)
            bar.update()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        bar.close()
    height, width = stream.size
    shown = np.concatenate(pictures)[:frames] if pictures else np.empty((0, height, width, 3), np.uint8)
    record = {
        **facts,
        "frames": len(shown),
        "fps": fps,
        "height": height,
        "width": width,
        "interrupted": interrupted,
        "seconds": _timings(seconds),
        "model": stream.generator.describe(),
    }
    return Clip(shown, fps, record)


def _timings(seconds: list[float]) -> dict[str, float]:
    """Of the steps: the first, and percentiles of all."""
    if not seconds:
        return {}
    p50, p95 = np.percentile(seconds, [50, 95]).tolist()
    return {"first": seconds[0], "p50": p50, "p95": p95, "total": sum(seconds)}
