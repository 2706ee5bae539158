"""Writes down, on a Hopper GPU, where each function of csrc/ptx/ puts what: tests/emulator/layout_h100.npz.

The emulator is compared with this file (tests/emulator/test_layout.py). Needs nvcc and the GPU; run it once.
"""

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.emulator import layout  # noqa: E402
from tools import cuda_tools  # noqa: E402


def take_dump() -> dict[str, np.ndarray]:
    """Compiles the dump for sm_90a, runs it on device 0 and returns its sections.

    Raises:
        RuntimeError: there is no nvcc, or the kernel could not run.
    """
    nvcc = cuda_tools.find("nvcc")
    if nvcc is None:
        raise RuntimeError("no nvcc was found: install a CUDA toolkit or set CUDACXX")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "layout_dump.so"
        command = [str(nvcc), "-std=c++17", "-gencode", "arch=compute_90a,code=sm_90a", "-Xcompiler=-fPIC", "-shared"]
        sources = [ROOT / "tests/gpu/layout_dump.cu", ROOT / "csrc/ptx/tensor_map.cu"]
        subprocess.run([*command, f"-I{ROOT / 'csrc'}", *map(str, sources), "-o", str(library)], check=True)
        loaded = ctypes.CDLL(str(library))
        loaded.layout_dump.restype = ctypes.c_char_p
        source, out = layout.source(), np.zeros(loaded.layout_dump_size(), np.int32)
        objection = loaded.layout_dump(ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(out.ctypes.data))
    if objection:
        raise RuntimeError(objection.decode())
    return layout.split(out)


if __name__ == "__main__":
    target = ROOT / "tests/emulator/layout_h100.npz"
    np.savez_compressed(target, **take_dump())
    print(f"wrote {target.relative_to(ROOT)}")
