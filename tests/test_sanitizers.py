"""The C++ core under AddressSanitizer and UndefinedBehaviourSanitizer: tests/cpp, every operator on every CPU path."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}"
    return done.stdout


@pytest.mark.slow
def test_no_operator_leaves_its_arrays_and_every_path_agrees_with_the_portable_one() -> None:
    build = "build/sanitize"
    run("cmake", "-S", ".", "-B", build, "-G", "Ninja", "-DAAPT_SANITIZE=ON", "-DAAPT_CUDA=OFF")
    run("cmake", "--build", build, "--target", "aapt_cpp_tests")
    # Threads of OpenMP keep their working memory until the process ends: that is no leak.
    said = run(f"{build}/csrc/aapt_cpp_tests", ASAN_OPTIONS="detect_leaks=0", OMP_NUM_THREADS="2")
    found = re.search(r"(\d+) comparisons", said)
    assert found and int(found[1]) > 0, said
