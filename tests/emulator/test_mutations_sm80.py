"""Every bug of mutations_sm80.py is noticed by the small calls of battery_sm80.py."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import shlex
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from .battery_sm80 import run
from .conftest import ROOT, Kernels
from .mutations import Mutation
from .mutations_sm80 import EXPORTS, MUTATIONS

FOLDER = ROOT / "build" / "emulator"
SECONDS = 90
"""Until a mutant counts as running for ever."""
CAUGHT, CRASHED = 3, (-4, -6, -7, -8, -11)


def compile_mutant(mutation: Mutation) -> Path:
    """The library of C functions that reaches the mutated file; every other source is the shipped one."""
    source = (ROOT / "csrc" / mutation.file).read_text()
    assert source.count(mutation.old) == 1, f"{mutation.name}: its text occurs {source.count(mutation.old)} times"
    folder = FOLDER / "mutants" / mutation.name.replace(" ", "_").replace("'", "")
    changed = folder / mutation.file
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.write_text(source.replace(mutation.old, mutation.new))
    library = folder / "libmutant.so"
    exports = EXPORTS[mutation.file.split("/")[0]]
    command = [
        *shlex.split(os.environ.get("CXX", "c++")),
        "-std=c++17", "-O1", "-fPIC", "-shared", "-march=native", "-fno-math-errno", "-w", "-fvisibility=hidden",
        f"-I{folder}", f"-I{ROOT / 'csrc'}", str(ROOT / f"tests/emulator/{exports}.cpp"),
        str(ROOT / "tests/emulator/seed.cpp"), str(ROOT / "csrc/attention/plan.cpp"),
        str(FOLDER / "csrc/emulator/libaapt_emulator.a"), "-pthread", "-o", str(library),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library


def _try(exports: str, library: Path) -> None:
    faulthandler.disable()
    torch.set_num_threads(1)
    try:
        run(exports, library)
    except AssertionError:
        os._exit(CAUGHT)
    os._exit(0)


def judge(mutation: Mutation) -> str:
    """How the mutant was noticed; "" where it was not."""
    library = compile_mutant(mutation)
    # A process of its own, since a mutant may write anywhere; forked, since importing torch takes longer than a run.
    process = multiprocessing.get_context("fork").Process(
        target=_try, args=(EXPORTS[mutation.file.split("/")[0]], library)
    )
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        return "it never ends"
    if process.exitcode in CRASHED:
        return "it crashes"
    assert process.exitcode in (0, CAUGHT), f"{mutation.name}: the battery broke with {process.exitcode}"
    return "a result is wrong" if process.exitcode == CAUGHT else ""


@pytest.fixture(scope="module")
def verdicts(kernels: Kernels) -> dict[str, Future[str]]:
    """All mutants are compiled and judged side by side; a test waits for its own."""
    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    return {mutation.name: pool.submit(judge, mutation) for mutation in MUTATIONS}


@pytest.mark.parametrize("exports", sorted(set(EXPORTS.values())))
def test_the_shipped_sources_pass_the_battery(kernels: Kernels, exports: str) -> None:
    run(exports, FOLDER / "csrc" / "emulator" / "libaapt_emulated.so")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_planted_bug_is_caught(mutation: Mutation, verdicts: dict[str, Future[str]]) -> None:
    assert verdicts[mutation.name].result(), f"nobody noticed: {mutation.name}"
