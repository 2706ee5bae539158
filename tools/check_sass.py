"""What the CUDA compiler made of every kernel, held against a table: `python tools/check_sass.py`.

For each source the assembler's report must show no spill, no stack frame and no message C75xx (wgmma serialised,
register reallocation ignored); the disassembly must show no local memory and exactly the expected number of tensor-core
and copy instructions. Needs nvcc, cuobjdump and nvdisasm (a toolkit, or the extras `cuda-compiler` and `cuda-inspect`),
no GPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import cuda_tools  # noqa: E402

BUILD = ROOT / "build" / "gates"


@dataclass(frozen=True)
class Expectation:
    """One kernel of one architecture."""

    source: str
    """Below csrc/."""
    kernel: str
    """A regular expression that the mangled name must contain."""
    arch: str
    registers: int
    """At most this many per thread at entry."""
    counts: dict[str, int] = field(default_factory=dict)
    """Instructions by name without modifiers, and how many there must be."""
    overlapped: int = 0
    """At least this many powers of two between a wait for all wgmma groups but one and the next wait."""


def _attend(d: int) -> Expectation:
    # q k^T in d / 16 instructions, p v in 176 / 16, each at two places; three copies: q, K, V. 384 threads enter with
    # 168 registers. Each of a thread's 88 scores has its power of two while p v runs.
    counts = {"HGMMA": 2 * (d // 16 + 176 // 16), "UTMALDG": 3, "USETMAXREG": 2}
    return Expectation("attention/sm90.cu", rf"sm90\d+attendILi{d}E", "sm_90a", 168, counts, overlapped=88)


def _everywhere(source: str, kernel: str, registers: int, **counts: int) -> tuple[Expectation, ...]:
    """A kernel that is compiled for every architecture from the same text."""
    return tuple(Expectation(source, kernel, arch, registers, counts) for arch in ("sm_80", "sm_90a"))


def _attend_sm80(d: int) -> tuple[Expectation, ...]:
    # A warp multiplies 16 queries with a tile of keys. 128 threads copy 64 rows of q, and K and V at two places.
    keys = 32 if d > 128 else 64
    products = d // 16 * keys // 8 + keys // 16 * d // 8
    copies = (64 + 4 * keys) * (d // 8) // 128
    return _everywhere("attention/cuda.cu", rf"sm80\d+attendILi{d}E", 255, HMMA=products, LDGSTS=copies)


def _quantise(dtype: str, vector: int) -> tuple[Expectation, ...]:
    # A thread holds 16 elements. Since sm_89 one instruction packs two of them.
    kernel = rf"quantiseI{dtype}Li{vector}E"
    counts = {"LDG": 16 // vector, "STG": 16 // vector + 1}
    return (
        Expectation("quantise/cuda.cu", kernel, "sm_80", 64, counts | {"F2FP": 0}),
        Expectation("quantise/cuda.cu", kernel, "sm_90a", 64, counts | {"F2FP": 8}),
    )


# Loads of modulate: x, y and five vectors; its stores: the residual and the result, or that in fp8 and its scale. Of
# cache_write: q, k, v, the page, two weights, and each pair's rotation for q, q_pinned and k; its stores: q, q_pinned,
# k, v and the flag.
EXPECTATIONS = (
    *_everywhere("modulate/cuda.cu", r"modulateINS_4bf16ELi8E", 64, LDG=7, STG=2 + 2),
    *_everywhere("modulate/cuda.cu", r"modulateIfLi4E", 64, LDG=7, STG=2 + 2),
    *_everywhere("modulate/cuda.cu", r"modulateINS_4bf16ELi1E", 64),
    *_everywhere("modulate/cuda.cu", r"modulateIfLi1E", 64),
    *_quantise("NS_4bf16E", 8),
    *_quantise("f", 4),
    *_everywhere("quantise/cuda.cu", r"quantiseINS_4bf16ELi1E", 64),
    *_everywhere("quantise/cuda.cu", r"quantiseIfLi1E", 64),
    *_everywhere("cache_write/cuda.cu", r"cache_writeINS_4bf16ELi8E", 64, LDG=6 + 3 * 4, STG=4 + 1),
    *_everywhere("cache_write/cuda.cu", r"cache_writeIfLi4E", 64, LDG=6 + 3 * 2, STG=4 + 1),
    *_everywhere("cache_write/cuda.cu", r"cache_writeINS_4bf16ELi2E", 64),
    *_everywhere("cache_write/cuda.cu", r"cache_writeIfLi2E", 64),
    *_everywhere("patch_embed/cuda.cu", r"sm8011patch_embedE", 128, HMMA=4 * 8, LDGSTS=2 * 4, LDSM=4 * 4),
    *_everywhere("patch_embed/cuda.cu", r"simt11patch_embedINS_4bf16E", 64),
    *_everywhere("patch_embed/cuda.cu", r"simt11patch_embedIfE", 64),
    *_everywhere("denoise/cuda.cu", r"sm807denoiseE", 128, HMMA=2 * 8),
    *_everywhere("denoise/cuda.cu", r"simt7denoiseINS_4bf16E", 64),
    *_everywhere("denoise/cuda.cu", r"simt7denoiseIfE", 64),
    *_attend_sm80(64),
    *_attend_sm80(128),
    *_attend_sm80(256),
    *_everywhere("attention/cuda.cu", r"simt6attendINS_4bf16E", 96),
    *_everywhere("attention/cuda.cu", r"simt6attendIfE", 96),
    _attend(64),
    _attend(128),
    Expectation("attention/sm90.cu", r"merge_partialsILi64E", "sm_90a", 64),
    Expectation("attention/sm90.cu", r"merge_partialsILi128E", "sm_90a", 64),
)


class MissingTool(RuntimeError):
    """nvcc, cuobjdump or nvdisasm is not on this machine."""


def tool(name: str) -> Path:
    """The tool's path.

    Raises:
        MissingTool: it is not there; the message says how to get it.
    """
    path = cuda_tools.find(name)
    if path is None:
        extra = "cuda-compiler" if name == "nvcc" else "cuda-inspect"
        raise MissingTool(f"{name} was not found: install a CUDA toolkit or `pip install '.[{extra}]'`")
    return path


def compile_source(source: str, arch: str) -> tuple[str, Path]:
    """Compiles csrc/`source` for `arch`; the assembler's report and the object file."""
    nvcc = tool("nvcc")
    BUILD.mkdir(parents=True, exist_ok=True)
    object_file = BUILD / f"{source.replace('/', '_')}.{arch}.o"
    code = f"arch={arch.replace('sm', 'compute')},code={arch}"
    command = [nvcc, "-std=c++17", "-O3", "-gencode", code, "--resource-usage", "-lineinfo", f"-I{ROOT / 'csrc'}"]
    done = subprocess.run(
        [*map(str, command), "-c", str(ROOT / "csrc" / source), "-o", str(object_file)], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"nvcc failed on {source}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr, object_file


def reports(log: str) -> dict[str, str]:
    """The assembler's report by mangled name."""
    parts = re.split(r"Compiling entry function '(\w+)'", log)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@dataclass(frozen=True)
class Sass:
    """What is read from the disassembly of one function."""

    counts: Counter[str]
    """How often each instruction occurs, by name without modifiers."""
    overlapped: int = 0
    """Powers of two that are computed while one wgmma group is under way."""


def count_overlapped(body: str) -> int:
    """The powers of two between the first wait for all wgmma groups but one and the wait after it."""
    between = re.search(r"WARPGROUP\.DEPBAR\.LE gsb0, 0x1 (.*?)WARPGROUP\.DEPBAR", body, re.DOTALL)
    return between[1].count("MUFU.EX2") if between else 0


def disassemble(object_file: Path) -> dict[str, Sass]:
    """The functions of an object file, by mangled name."""
    cuobjdump, nvdisasm = tool("cuobjdump"), tool("nvdisasm")
    path = f"{nvdisasm.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    sass = subprocess.run(
        [str(cuobjdump), "--dump-sass", str(object_file)],
        check=True, capture_output=True, text=True, env={**os.environ, "PATH": path},
    ).stdout  # fmt: skip
    parts = re.split(r"Function : (\w+)", sass)
    instruction = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)")
    return {
        name: Sass(Counter(instruction.findall(body)), count_overlapped(body))
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def complaints(expected: Expectation, log: str, functions: dict[str, Sass]) -> list[str]:
    """What is wrong with one kernel, in words."""
    report = {name: text for name, text in reports(log).items() if re.search(expected.kernel, name)}
    found = {name: sass for name, sass in functions.items() if re.search(expected.kernel, name)}
    if len(report) != 1 or len(found) != 1:
        return [f"{expected.kernel}: {len(report)} reports and {len(found)} functions, expected one of each"]
    (name, text), (sass,) = next(iter(report.items())), found.values()
    wrong = []
    if not re.search(r"0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", text):
        wrong.append("spills or has a stack frame: " + " ".join(text.split())[:160])
    used = re.search(r"Used (\d+) registers", text)
    if used is None or int(used[1]) > expected.registers:
        wrong.append(f"uses {used[1] if used else 'unknown'} registers, at most {expected.registers} expected")
    for local in ("STL", "LDL"):
        if sass.counts[local]:
            wrong.append(f"has {sass.counts[local]} {local}: local memory")
    for instruction, count in expected.counts.items():
        if sass.counts[instruction] != count:
            wrong.append(f"has {sass.counts[instruction]} {instruction}, expected {count}")
    if sass.overlapped < expected.overlapped:
        wrong.append(f"overlaps {sass.overlapped} powers of two with wgmma, expected {expected.overlapped}")
    return [f"{name}: {what}" for what in wrong]


def check() -> list[str]:
    """Everything that is wrong, over all expectations; empty where all hold.

    Raises:
        MissingTool: see `tool`.
        RuntimeError: a source does not compile.
    """
    wrong = []
    for source, arch in sorted({(e.source, e.arch) for e in EXPECTATIONS}):
        log, object_file = compile_source(source, arch)
        wrong += [f"{source}: {line.strip()}" for line in log.splitlines() if re.search(r"\bC75\d\d\b", line)]
        functions = disassemble(object_file)
        for expected in EXPECTATIONS:
            if (expected.source, expected.arch) == (source, arch):
                wrong += complaints(expected, log, functions)
    return wrong


if __name__ == "__main__":
    found = check()
    print("\n".join(found) or f"{len(EXPECTATIONS)} kernels as expected")
    sys.exit(bool(found))
