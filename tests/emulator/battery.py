"""Small attention calls that between them notice every planted bug: `python -m emulator.battery LIBRARY` from tests/.

Exits 0 where every result is right, else with the first complaint.
"""

import sys
from pathlib import Path

from .attention import Case, Segment, assert_right
from .conftest import Kernels


def cases() -> list[Case]:
    """Long pieces; three segments and two queries; head size 128; streams without keys, cut work."""
    return [
        Case(70, 1, 64, [Segment(200, [[1, 0, 3, 2]], [150])]),
        Case(
            130,
            2,
            64,
            [
                Segment(90, [[0], [1]], [11, 90]),
                Segment(50, [[0], []], [50, 1], query=1),
                Segment(50, [[1, 2], [3]], [50, 7]),
            ],
            gangs=3,
            queries=2,
        ),
        Case(30, 2, 128, [Segment(177, [[2, 0, 1]], [40])], gangs=1),
        Case(40, 3, 64, [Segment(60, [[], [3, 1, 0, 2]], [1, 60])], gangs=5),
        Case(300, 1, 64, [Segment(60, [[0, 1]], [60])], gangs=3, gang_tiles=2),
    ]


def run(library: Path) -> None:
    kernels = Kernels(library)
    for case in cases():
        for seed in range(3):
            kernels.seed(seed)
            assert_right(case, kernels)


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]))
    except AssertionError as wrong:
        sys.exit(f"caught: {wrong}")
