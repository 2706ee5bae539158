"""Builds `aapt_ext._C` with CMake in a folder that persists: a second build compiles only what changed.

Two variables of the environment steer the build (never the program):
  AAPT_CUDA       AUTO (default: CUDA where nvcc is found), ON (fail without nvcc), OFF
  AAPT_BUILD_DIR  the CMake folder; default build/<python tag>
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def find_nvcc() -> str | None:
    """nvcc from CUDACXX, PATH, the usual toolkit folder, or the wheels of the `cuda-compiler` extra."""
    named = os.environ.get("CUDACXX")
    candidates = [named] if named else []
    on_path = shutil.which("nvcc")
    candidates += [on_path] if on_path else []
    candidates += ["/usr/local/cuda/bin/nvcc"]
    candidates += [str(p) for p in sorted(Path(sysconfig.get_paths()["purelib"]).glob("nvidia/cu*/bin/nvcc"))]
    return next((c for c in candidates if Path(c).exists()), None)


class CMakeBuild(build_ext):
    """Configures once, then builds the one module straight into the place setuptools asks for."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        tag = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
        build = Path(os.environ.get("AAPT_BUILD_DIR", ROOT / "build" / tag))
        build.mkdir(parents=True, exist_ok=True)

        cuda = os.environ.get("AAPT_CUDA", "AUTO").upper()
        if cuda not in ("AUTO", "ON", "OFF"):
            raise SystemExit(f"AAPT_CUDA is {cuda!r}; it must be AUTO, ON or OFF")
        nvcc = None if cuda == "OFF" else find_nvcc()
        if cuda == "ON" and nvcc is None:
            raise SystemExit("AAPT_CUDA=ON, but no nvcc was found: install a CUDA toolkit or set CUDACXX")

        import pybind11

        configure = [
            "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DAAPT_MODULE_DIR={target.parent}",
            f"-DAAPT_MODULE_NAME={target.name}",
            f"-DAAPT_CUDA={'ON' if nvcc else 'OFF'}",
        ]  # fmt: skip
        configure += [f"-DCMAKE_CUDA_COMPILER={nvcc}"] if nvcc else []
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build), "--target", "_C"], check=True)


def packages() -> list[str]:
    above = ROOT / "python"
    found = sorted(p.parent.relative_to(above) for p in (above / "aapt_video").rglob("__init__.py"))
    return ["aapt_ext", *(".".join(p.parts) for p in found)]


setup(
    packages=packages(),
    package_dir={"aapt_ext": "aapt_ext", "aapt_video": "python/aapt_video"},
    package_data={"aapt_ext": ["py.typed", "*.pyi"], "aapt_video": ["py.typed", "**/*.html", "shipped/**/*"]},
    ext_modules=[Extension("aapt_ext._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
