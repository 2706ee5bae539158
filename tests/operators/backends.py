"""Every path of this machine, as parameters of a test."""

import pytest
import torch

from aapt_ext import _C

CPU_PATHS = [(name, dtype) for name in _C.cpu_backends() for dtype in (torch.float32, torch.bfloat16)]
CPU_PATHS.append(("portable", torch.float64))

every_path = pytest.mark.parametrize(("path", "dtype"), CPU_PATHS, ids=lambda value: str(value).replace("torch.", ""))
