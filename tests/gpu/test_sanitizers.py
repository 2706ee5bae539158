"""compute-sanitizer over the smallest calls, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools import cuda_tools

pytestmark = pytest.mark.sanitizer

TESTS = Path(__file__).parents[1]
OURS = "kernel_substring=aapt"


@pytest.mark.parametrize(
    "options",
    [
        ["--tool", "memcheck"],
        ["--tool", "synccheck"],
        ["--tool", "initcheck", "--kernel-name", OURS],
        ["--tool", "racecheck", "--kernel-name", OURS],
    ],
    ids=lambda options: options[1],
)
def test_sanitizer_finds_nothing(options: list[str]) -> None:
    sanitizer = cuda_tools.find("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not on this machine; it comes with the CUDA toolkit")
    # Without torch's caching allocator, each tensor is an allocation of its own, whose end the sanitizer knows.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    command = [str(sanitizer), "--error-exitcode", "9", *options, sys.executable, "-m", "gpu.smallest_calls"]
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
