"""The smallest calls that reach every kernel, for compute-sanitizer: `python -m gpu.smallest_calls`."""

import torch

import aapt_ext

from .launches import LAUNCHES
from .paged import make_call, make_segment, window_call


def main() -> None:
    torch.manual_seed(0)
    window_call(tokens=70, heads=2, pages=2, head_dim=64).run()
    window_call(tokens=130, heads=1, pages=2).run()
    make_call(2, 10, 1, 64, [make_segment(1, 64, 20, [0, 1], [1, 20])]).run()
    for make in LAUNCHES.values():
        make().run()
    torch.cuda.synchronize()
    aapt_ext.check()


if __name__ == "__main__":
    main()
