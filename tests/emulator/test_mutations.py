"""Every planted bug (mutations.py) is noticed by a handful of small calls (battery.py)."""

import os
import shlex
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from .battery import run
from .conftest import ROOT, Kernels
from .mutations import MUTATIONS, Mutation

FOLDER = ROOT / "build" / "emulator"
TIMEOUT = 60  # seconds; a mutant may loop for ever
CAUGHT_BY_SIGNAL = (-6, -11)


def compile_mutant(mutation: Mutation) -> Path:
    """The attention library with one text replaced; sources that it does not touch are the shipped ones."""
    source = (ROOT / "csrc" / mutation.file).read_text()
    assert source.count(mutation.old) == 1, f"{mutation.name}: its text occurs {source.count(mutation.old)} times"
    folder = FOLDER / "mutants" / mutation.name.replace(" ", "_")
    changed = folder / mutation.file
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.write_text(source.replace(mutation.old, mutation.new))
    # The folder comes first in the search, but a header next to the including one comes before every folder.
    for other in (ROOT / "csrc" / "attention").glob("*"):
        if other.suffix in (".h", ".cuh") and other.name != changed.name:
            (folder / "attention" / other.name).write_text(other.read_text())
    library = folder / "libmutant.so"
    command = [
        *shlex.split(os.environ.get("CXX", "c++")),
        "-std=c++17", "-O1", "-fPIC", "-shared", "-march=native", "-fno-math-errno", "-w",
        f"-I{folder}", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests' / 'emulator'}",
        str(ROOT / "tests/emulator/attention.cpp"), str(ROOT / "tests/emulator/seed.cpp"),
        str(ROOT / "csrc/attention/plan.cpp"),
        str(FOLDER / "csrc/emulator/libaapt_emulator.a"), "-pthread", "-o", str(library),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library


def judge(mutation: Mutation) -> str:
    """What the battery says of the mutant; "" where it survives."""
    library = compile_mutant(mutation)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "emulator.battery", str(library)],
            cwd=ROOT / "tests", capture_output=True, text=True, timeout=TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "caught: it never ends"
    if done.returncode in CAUGHT_BY_SIGNAL:
        return "caught: it crashes"
    assert done.returncode == 0 or done.stderr.startswith("caught"), done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def verdicts(kernels: Kernels) -> dict[str, "Future[str]"]:
    """All mutants are compiled and judged side by side; a test waits for its own."""
    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    return {mutation.name: pool.submit(judge, mutation) for mutation in MUTATIONS}


def test_the_shipped_sources_pass_the_battery(kernels: Kernels) -> None:
    run(FOLDER / "csrc" / "emulator" / "libaapt_emulated.so")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_planted_bug_is_caught(mutation: Mutation, verdicts: dict[str, "Future[str]"]) -> None:
    assert verdicts[mutation.name].result().startswith("caught"), f"nobody noticed: {mutation.name}"
