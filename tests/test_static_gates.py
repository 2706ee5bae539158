"""What the CUDA compiler makes of every kernel: no spill, no local memory, the expected instructions.

The table is in tools/check_sass.py. Where the compiler or the disassembler is missing this fails in CI, since there it
is installed, and is skipped elsewhere.
"""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools import check_sass
from tools.check_sass import Sass

GOOD = (
    "Compiling entry function '_Z6kernelv' for 'sm_90a'\n"
    "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nUsed 40 registers"
)
EXPECTED = check_sass.Expectation("kernel.cu", "kernel", "sm_90a", 64, {"HGMMA": 2}, overlapped=8)
FUNCTIONS = {"_Z6kernelv": Sass(Counter(HGMMA=2), 8)}


def test_every_kernel_compiles_to_what_the_table_says() -> None:
    try:
        wrong = check_sass.check()
    except check_sass.MissingTool as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    assert not wrong, "\n".join(wrong)


def test_a_kernel_as_expected_has_no_complaint() -> None:
    assert check_sass.complaints(EXPECTED, GOOD, FUNCTIONS) == []


@pytest.mark.parametrize(
    ("log", "functions", "says"),
    [
        (GOOD.replace("0 bytes spill stores", "8 bytes spill stores"), FUNCTIONS, "spills"),
        (GOOD.replace("0 bytes stack", "16 bytes stack"), FUNCTIONS, "stack frame"),
        (GOOD.replace("Used 40", "Used 65"), FUNCTIONS, "65 registers"),
        (GOOD, {"_Z6kernelv": Sass(Counter(HGMMA=3), 8)}, "3 HGMMA"),
        (GOOD, {"_Z6kernelv": Sass(Counter(HGMMA=2, STL=1), 8)}, "STL"),
        (GOOD, {"_Z6kernelv": Sass(Counter(HGMMA=2), 7)}, "overlaps 7"),
        (GOOD, {}, "0 functions"),
    ],
)
def test_each_kind_of_damage_is_named(log: str, functions: dict[str, Sass], says: str) -> None:
    (complaint,) = check_sass.complaints(EXPECTED, log, functions)
    assert says in complaint
