"""From the start of a process to its first pictures, and the most memory that this took: measured in a new process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass

from .workload import Case


@dataclass(frozen=True)
class ColdStart:
    """What a new process needed."""

    seconds: float
    """From its start to the first pictures on the host; weights are random, so no file is read."""
    peak_bytes: int
    """On a GPU the most that torch held there, else the process's resident memory."""


def cold_start(case: Case, timeout: float = 600) -> ColdStart:
    """Starts a process that makes one stream and its first pictures.

    Raises:
        RuntimeError: it failed; the message ends with its last line.
    """
    words = [case.model, f"{case.width}x{case.height}", str(case.config.window), case.decoder]
    words += [str(case.dtype).removeprefix("torch."), case.device.type]
    start = time.time()
    try:
        command = [sys.executable, "-m", __name__, *words]
        process = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no picture after {timeout:.0f} seconds") from error
    if process.returncode != 0:
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"a new process ended with status {process.returncode}: {last}")
    told = json.loads(process.stdout.strip().splitlines()[-1])
    return ColdStart(told["time"] - start, told["peak_bytes"])


def main(words: list[str]) -> None:
    import torch

    from .workload import Workload

    case = Case.of(words[0], words[1], int(words[2]), *words[3:])
    Workload(case).first_frame()
    shown = time.time()
    if case.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"time": shown, "peak_bytes": peak}))


if __name__ == "__main__":
    main(sys.argv[1:])
