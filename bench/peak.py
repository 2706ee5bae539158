"""The machine's vdpbf16ps rate, as something that can be timed in turns with an operator."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from aapt_ext import _C

ROUNDS = 50_000
SUMS, FLOPS_PER_INSTRUCTION = 24, 64  # of vdpbf16_peak.cpp


def vdpbf16_peak() -> tuple[Callable[[], None], float] | None:
    """A call that multiplies in registers on all threads, and its FLOPs; None without instructions or compiler."""
    if "avx512_bf16" not in _C.cpu_backends():
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "peak.so"
        command = ["c++", "-O3", "-shared", "-fPIC", "-fopenmp", "-mavx512f", "-mavx512bf16"]
        try:
            subprocess.run([*command, str(Path(__file__).with_name("vdpbf16_peak.cpp")), "-o", library], check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        multiply = ctypes.CDLL(str(library)).multiply
    flops = float(torch.get_num_threads() * ROUNDS * SUMS * FLOPS_PER_INSTRUCTION)
    return lambda: multiply(ctypes.c_long(ROUNDS)), flops
