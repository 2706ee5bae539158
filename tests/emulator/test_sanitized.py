"""The attention kernels in the emulator under AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import subprocess
import sys

import pytest

from .conftest import ROOT, build


def runtime(name: str) -> str:
    """The path of one of the compiler's runtime libraries."""
    compiler = os.environ.get("CXX", "c++")
    return subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_attention_touches_no_memory_that_is_not_its_own() -> None:
    folder = ROOT / "build" / "emulator-sanitized"
    build("aapt_emulated", folder, "-DAAPT_SANITIZE=ON")
    # Python is not sanitized, so the runtime must come first; libstdc++ with it, since kernels throw.
    environment = {
        **os.environ,
        "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libstdc++.so.6')}",
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "emulator.battery", str(folder / "csrc/emulator/libaapt_emulated.so")],
        cwd=ROOT / "tests", env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
