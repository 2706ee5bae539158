"""What a person sees of a run: progress bar, TensorBoard, and the same numbers as lines of JSON."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from aapt_video.video import contact_sheet, write_mp4

SCALARS = "scalars.jsonl"


class Monitor:
    """Scalars and sample videos of a run; only the first process has one that writes.

    Args:
        out: the run's folder: `scalars.jsonl`, `tensorboard/`, `samples/`.
        steps: of the whole run; start: where it continues. Scalars beyond `init` of a run that was cut off are
            dropped: they come again.
        tokens: per update, for the rate.
        quiet: no progress bar.
    """

    def __init__(self, out: Path, steps: int, start: int, tokens: int, writes: bool, quiet: bool) -> None:
        self.out, self.tokens, self.writes = out, tokens, writes
        self._bar = tqdm(
            total=steps, initial=start, unit="update", desc=out.name, disable=quiet or not writes, dynamic_ncols=True
        )
        self._since, self._updates = time.perf_counter(), 0
        self._board: Any = None
        if writes:
            out.mkdir(parents=True, exist_ok=True)
            _drop_after(out / SCALARS, start)
            self._board = _tensorboard(out / "tensorboard", start)

    def advance(self) -> None:
        """One more update is done."""
        self._updates += 1
        self._bar.update()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Shows and stores numbers after update `step`."""
        if not self.writes:
            return
        with (self.out / SCALARS).open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def rate(self) -> float:
        """Tokens per second since the last call; also shown on the bar."""
        now = time.perf_counter()
        rate = self._updates * self.tokens / max(now - self._since, 1e-9)
        self._since, self._updates = now, 0
        return rate

    def show(self, **values: str) -> None:
        """Puts values behind the progress bar."""
        self._bar.set_postfix(values)

    def pictures(self, step: int, frames: Tensor, columns: int = 8) -> None:
        """Stores sample frames uint8 [n, H, W, 3] as a video and a contact sheet."""
        if not self.writes:
            return
        path = self.out / "samples" / f"step-{step:08d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, [frames])
        sheet = contact_sheet(frames, columns)
        sheet.save(path.with_suffix(".png"))
        if self._board is not None:
            import numpy as np

            self._board.add_image("samples", np.asarray(sheet), step, dataformats="HWC")

    def message(self, text: str) -> None:
        """Prints a line without tearing the bar."""
        if self.writes:
            self._bar.write(text)

    def close(self) -> None:
        self._bar.close()
        if self._board is not None:
            self._board.close()


def read_scalars(out: Path) -> list[dict[str, float]]:
    """All that a run logged, in order."""
    path = out / SCALARS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _drop_after(path: Path, step: int) -> None:
    if path.exists():
        kept = []
        for line in path.read_text().splitlines():
            try:
                value = json.loads(line)
            except json.JSONDecodeError:
                continue  # a line that a kill cut in half
            if value["step"] <= step:
                kept.append(line + "\n")
        path.write_text("".join(kept))


def _tensorboard(folder: Path, start: int) -> Any:
    """A SummaryWriter, or None where tensorboard (the extra `train`) is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("tensorboard is not installed (extra `train`): scalars go to scalars.jsonl alone")
        return None
    return SummaryWriter(str(folder), purge_step=start + 1)
