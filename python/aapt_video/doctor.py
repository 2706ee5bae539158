"""`aapt-video doctor`: what was built and found, which implementation serves which operator, and what is missing."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import aapt_ext
from aapt_ext import _C

from .machine import package_version, processor_name


@dataclass(frozen=True)
class Doctor:
    """Print what was built and found on this machine."""


@dataclass
class Finding:
    """What the machine has."""

    facts: list[tuple[str, str]] = field(default_factory=list)
    """(what, found)"""
    remedies: list[str] = field(default_factory=list)
    """What to do about what is missing."""


def examine() -> Finding:
    """Looks at the machine; imports nothing heavy beyond torch and changes nothing."""
    finding = Finding()
    facts = finding.facts
    installed = package_version("aapt-video") or "not installed (running from source)"
    facts.append(("aapt-video", f"{installed}, Python {platform.python_version()}"))
    facts.append(("module", f"{Path(_C.__file__).name}, {'CPU and CUDA' if _C.built_with_cuda else 'CPU only'}"))
    facts.append(("torch", f"{torch.__version__}, {torch.get_num_threads()} threads"))
    facts.append(("processor", processor_name()))
    facts.append(("instruction sets", ", ".join(_C.cpu_backends())))
    if len(_C.cpu_backends()) == 1:
        finding.remedies.append("This CPU has no AVX2: the operators run portable code, which is slow.")
    _examine_cuda(finding)
    return finding


def _examine_cuda(finding: Finding) -> None:
    nvcc = shutil.which("nvcc") or next(
        iter(sorted(Path(sys.prefix).glob("lib/python*/site-packages/nvidia/cu*/bin/nvcc"))), None
    )
    finding.facts.append(("nvcc", str(nvcc) if nvcc else "not found"))
    if not _C.built_with_cuda:
        finding.facts.append(("GPU", "not looked for: the module was built without CUDA"))
        finding.remedies.append(
            "The module was built without CUDA. For a GPU: install a CUDA toolkit (or the extra `cuda-compiler`) and "
            "build again with AAPT_CUDA=ON."
        )
        return
    report: dict[str, Any] = _C.cuda_report()
    driver = _cuda_version(report["driver"]) if report["driver"] else "none"
    finding.facts.append(("CUDA", f"runtime {_cuda_version(report['runtime'])}, driver {driver}"))
    for index, device in enumerate(report["devices"]):
        major, minor = device["capability"]
        finding.facts.append(
            (
                f"GPU {index}",
                f"{device['name']}, sm_{major}{minor}, {device['multiprocessors']} multiprocessors, "
                f"{device['memory'] / 2**30:.0f} GiB",
            )
        )
        finding.facts.append((f"GPU {index} path", cuda_path(major)))
        if major < 8:
            finding.remedies.append(
                f"GPU {index} is older than sm_80, which our kernels need: call aapt_ext.backend('reference') there."
            )
    if not report["devices"]:
        finding.facts.append(("GPU", f"none ({report['error']})"))
    elif not torch.cuda.is_available():
        finding.remedies.append("There is a GPU, but this torch cannot use it: install a CUDA build of torch.")


def cuda_path(major: int) -> str:
    """Which kernels a GPU of compute capability `major`.x runs."""
    if major < 8:
        return "none: our kernels need sm_80 or newer"
    if major == 8:
        return "sm_80 kernels, compiled"
    if major == 9:
        return "sm_80 kernels, compiled; attention in bfloat16 with head size 64 or 128: sm_90a"
    return "sm_80 kernels, from PTX at the first call"


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def format_table() -> str:
    """The dispatch table, one operator a line; bfloat16, float32 and float64 where they differ."""
    devices = sorted({device for _, device in aapt_ext.table()})
    lines = ["operator         " + "".join(f"{device:<24}" for device in devices)]
    for operator in aapt_ext.dispatch.OPERATORS:
        cells = []
        for device in devices:
            fast = aapt_ext.implementation(operator, device)
            exact = aapt_ext.implementation(operator, device, torch.float64)
            cells.append(fast if fast == exact else f"{fast} (float64: {exact})")
        lines.append(f"{operator:<17}" + "".join(f"{cell:<24}" for cell in cells))
    return "\n".join(lines)


def run(_: Doctor) -> None:
    finding = examine()
    width = max(len(what) for what, _ in finding.facts) + 2
    for what, found in finding.facts:
        print(f"{what:<{width}}{found}")
    print(f"\n{format_table()}")
    print("\n" + ("\n".join(finding.remedies) if finding.remedies else "Nothing is missing for what this machine has."))
