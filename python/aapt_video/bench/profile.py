"""`aapt-video profile`: where the time of one step goes, operator by operator."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from aapt_video.model import Linears

from .methods import Contest
from .ranges import FP8_OPERATORS, OPERATORS, ranges
from .workload import Case, CaseArguments, Workload

NAMES = (*FP8_OPERATORS, "linear qkv", "linear heads", "linear branch", "linear hidden", "decoder")


@dataclass(frozen=True)
class Profile(CaseArguments):
    """Profile one step of random weights with a full window; nothing is captured in a graph."""

    linears: Linears | None = None
    """fp8: multiply linears in fp8, as `load(..., linears="fp8")` does."""
    warm_up: int = 3
    """Steps before the one that is profiled."""
    trace: Path | None = None
    """Where to write a trace for chrome://tracing or Perfetto; none where it is not given."""
    ranges_only: bool = False
    """Run the step under its names and between cudaProfilerStart and Stop, for Nsight, instead of torch's profiler."""


def run(arguments: Profile) -> None:
    case = arguments.case()
    whole = Contest(Workload(case)).eager(arguments.linears).whole
    for _ in range(arguments.warm_up):
        whole()
    with ranges(case.config.blocks):
        if arguments.ranges_only:
            _between_marks(case, whole)
            return
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if case.device.type == "cuda" else [])]
        with profile(activities=activities) as taken:
            whole()
    print("\n".join(table(taken.key_averages(), on_gpu=case.device.type == "cuda")))
    if arguments.trace:
        arguments.trace.parent.mkdir(parents=True, exist_ok=True)
        taken.export_chrome_trace(str(arguments.trace))
        print(f"\ntrace -> {arguments.trace}")
    print("\nNsight Compute, on a machine with a GPU (clocks are left alone; say so beside a figure):")
    print("\n".join(f"  {line}" for line in nsight_commands(case, arguments.linears)))


def table(events: Iterable[FunctionEventAvg], on_gpu: bool) -> list[str]:
    """Calls and milliseconds of every name, the longest first: on the host and, with a GPU, on the device."""
    found = sorted((event for event in events if event.key in NAMES), key=lambda e: _spent(e, on_gpu), reverse=True)
    total = sum(_spent(event, on_gpu) for event in found) or 1.0
    lines = [f"{'operator':<18}{'calls':>7}{'host ms':>10}{'GPU ms':>10}{'share':>8}"]
    for event in found:
        host, device = event.cpu_time_total / 1e3, event.device_time_total / 1e3
        shown, share = f"{device:.3f}" if on_gpu else "-", _spent(event, on_gpu) / total
        lines.append(f"{event.key:<18}{event.count:>7}{host:>10.3f}{shown:>10}{share:>8.1%}")
    return lines


def _spent(event: FunctionEventAvg, on_gpu: bool) -> float:
    """Microseconds, on the device where there is one."""
    return float(event.device_time_total if on_gpu else event.cpu_time_total)


def nsight_commands(case: Case, linears: Linears | None = None) -> list[str]:
    """One command line per operator, and one for the timeline of the step."""
    workload: dict[str, object] = {**case.workload}
    own: list[str] = [sys.executable, "-m", "aapt_video.cli", "profile", "--ranges-only", "--device", "cuda"]
    for name in ("model", "size", "window", "decoder", "dtype"):
        own += [f"--{name}", str(workload[name])]
    if linears:
        own += ["--linears", linears]
    program, operators = shlex.join(own), FP8_OPERATORS if linears else OPERATORS
    shared = "ncu --profile-from-start off --clock-control none --set full --import-source yes --nvtx"
    lines = [f'{shared} --nvtx-include "{name}/" -c 1 -f -o {name} {program}' for name in operators]
    timeline = "nsys profile --capture-range cudaProfilerApi --capture-range-end stop -t cuda,nvtx -f true -o step"
    return [*lines, f"{timeline} {program}"]


def _between_marks(case: Case, whole: Callable[[], Any]) -> None:
    with ExitStack() as marks:
        if case.device.type == "cuda":
            torch.cuda.synchronize()
            marks.enter_context(torch.cuda.profiler.profile())
        whole()
