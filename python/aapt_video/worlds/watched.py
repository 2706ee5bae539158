"""A worker process under watch: it is ended when it falls silent, and nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

LEFTOVERS = "leftovers"
"""File in a worker's directory: one path per line, to be deleted when the worker had to be ended by force."""

_GRACE = 3.0  # seconds that a worker has to end in order


class WatchedWorker:
    """Runs `worker.py` on one job.

    Args:
        job: the job; its key `litter` names the worker's directory.
        timeout: seconds of silence after which the worker is ended.
        report: called with the number of new frames.
    """

    def __init__(self, job: dict[str, Any], timeout: float, report: Callable[[int], None]) -> None:
        self._job, self._timeout, self._report = job, timeout, report
        self._silent = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aapt_video.worlds.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that what it starts can be ended together with it
        )

    @property
    def number(self) -> int:
        """The process's number."""
        return self._process.pid

    def run(self) -> str:
        """Waits for the end; returns why the worker failed, or nothing."""
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
        reader.start()
        alarm = self._alarm()
        try:
            with suppress(BrokenPipeError):  # a worker that ends at once says why on its standard error
                process.stdin.write(json.dumps(self._job))
                process.stdin.close()
            for line in process.stdout:
                alarm.cancel()
                alarm = self._alarm()
                self._report(int(line))
            process.wait()
        finally:
            alarm.cancel()
            self.end()
        reader.join()
        if self._silent:
            return f"no sign of life for {self._timeout:g} s; the worker was ended"
        if process.returncode:
            return errors[-1].strip() if errors else f"the worker ended with {process.returncode}"
        return ""

    def end(self) -> None:
        """Asks the worker to end, so that an engine can be closed in order; then makes sure. Any thread may call."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        leftovers = Path(self._job["litter"]) / LEFTOVERS
        if leftovers.exists():
            for path in leftovers.read_text().splitlines():
                Path(path).unlink(missing_ok=True)

    def _alarm(self) -> threading.Timer:
        timer = threading.Timer(self._timeout, self._fell_silent)
        timer.daemon = True
        timer.start()
        return timer

    def _fell_silent(self) -> None:
        self._silent = True
        self.end()
