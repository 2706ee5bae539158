"""Builds the kernels for the emulator, once, into a folder that persists, and loads them."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


class Kernels:
    """The C functions of exports.cpp: arrays go by address; what the emulator objects to comes back as text."""

    def __init__(self, path: Path):
        self.compiled = ctypes.CDLL(str(path))

    def __call__(self, name: str, *arguments: object) -> str:
        function = getattr(self.compiled, name)
        function.restype = ctypes.c_char_p
        return str(function(*[_c_value(a) for a in arguments]).decode())

    def seed(self, seed: int) -> None:
        self.compiled.emulator_seed(ctypes.c_uint(seed))


def _c_value(argument: object) -> object:
    if isinstance(argument, np.ndarray):
        assert argument.flags["C_CONTIGUOUS"]
        return ctypes.c_void_p(argument.ctypes.data)
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return argument


def build(target: str, folder: Path, *options: str) -> None:
    """Configures and builds one CMake target without CUDA; fails with the compiler's words."""
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DAAPT_CUDA=OFF", *options],
        ["cmake", "--build", folder, "--target", target],
    ):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}", pytrace=False)


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    folder = ROOT / "build" / "emulator"
    build("aapt_emulated", folder)
    return Kernels(folder / "csrc" / "emulator" / "libaapt_emulated.so")


@pytest.fixture(params=range(4), ids=lambda seed: f"order{seed}")
def order(request: pytest.FixtureRequest, kernels: Kernels) -> int:
    """Runs a test under several orders of the threads."""
    kernels.seed(request.param)
    return request.param


def to_bf16(x: np.ndarray) -> np.ndarray:
    """Float32 to the bits of bf16, rounded to nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    """The bits of bf16 to float64."""
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
