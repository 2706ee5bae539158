"""`aapt-video bench step`: one latent frame with a full window, ours beside what others would write, in turns.

A step is what a user waits for: noise, the transformer's pass, the decoder, four pictures on the host. It is split by
timing the pass and the decoder alone in the same rounds; what is left is the host's share.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from aapt_video.machine import commit

from . import aims
from .cold_start import cold_start
from .floors import Floor, Roofs, floor
from .methods import METHODS, Contest, Method
from .record import Record, clocks, command, hardware, versions, write
from .roofs import RoofCalls
from .timing import Call, Samples, in_turns, once, reason
from .workload import Case, CaseArguments, Workload

TOLERANCE = {torch.bfloat16: 0.05, torch.float32: 1e-3}
"""How far a method's velocity may be from ours, root mean square: rounding in 36 blocks, not another model."""


@dataclass(frozen=True)
class BenchStep(CaseArguments):
    """Time one latent frame of random weights at real scale, beside other ways to compute it."""

    methods: str = ",".join(METHODS)
    """Who is measured, separated by commas."""
    rounds: int = 100
    """Timed steps of each method."""
    warm_up: int = 5
    """Steps of each method that are not counted."""
    cold_start: bool = True
    """Whether to time a new process from its start to its first pictures."""
    target: bool = False
    """Whether to hold aapt-8b at 736x416 against 0.160, 0.080 and 0.053 s; status 1 where one is missed."""
    record: str | None = None
    """Writes the records to RESULTS/RECORD.json."""
    results: Path = Path("bench/results")
    """Folder of records."""


def run(arguments: BenchStep) -> None:
    case = arguments.case()
    names = [name for name in arguments.methods.split(",") if name]
    for name in names or [""]:
        if name not in METHODS:
            raise ValueError(f"methods names {name!r}; it must list some of {', '.join(METHODS)}")
    if arguments.rounds < 1:
        raise ValueError(f"rounds is {arguments.rounds}; it must be at least 1")
    if arguments.target:
        aims.check_workload(case.workload, names)
    records = measure(case, names, arguments.rounds, arguments.warm_up, arguments.cold_start)
    for record in records:
        print("\n".join(_lines(record)))
    if arguments.record:
        path = arguments.results / f"{arguments.record}.json"
        write(path, records)
        print(f"{len(records)} records -> {path}")
    if arguments.target:
        lines, reached = aims.verdict(records)
        print("\n".join(lines))
        if not reached:
            sys.exit(1)


def measure(case: Case, names: Sequence[str], rounds: int, warm_up: int, cold: bool) -> list[Record]:
    """One record for each name, in that order. A method that fails is recorded as failed, and the others go on."""
    case.check_memory()
    before = clocks()
    alone = _alone(case) if cold else {}
    workload = Workload(case)
    workload.first_frame()
    alone["first_frame_seconds"] = once(workload.first_frame, case.device)
    built = _build(Contest(workload), names, case)
    samples = in_turns(built.calls, case.device, rounds, warm_up)
    roofs = built.roof_calls.roofs(samples.median("product"), samples.median("copy"))
    ground = _ground(floor(case.config, case.codec, case.height, case.width, case.dtype, case.device.type), roofs)
    shared: dict[str, Any] = {
        "hardware": hardware(),
        "versions": versions(),
        "command": command(),
        "commit": commit(),
        "clocks": {"before": before, "after": clocks()},
    }
    metrics = {name: _metrics(name, samples) for name in built.methods if not _failure(name, samples)}
    for values in metrics.values():
        values |= ground | {"floor_share": ground["floor_seconds"] / values["p50_seconds"]}
    if "ours" in metrics:
        metrics["ours"] |= alone | _ratios(metrics)
    failed = built.failed | {name: why for name in built.methods if (why := _failure(name, samples))}

    def record(name: str) -> Record:
        done = name in metrics
        values = {**metrics.get(name, {}), **({"error": built.errors[name]} if done else {})}
        status: Literal["measured", "failed"] = "measured" if done else "failed"
        note = built.methods[name].note if done else failed[name]
        return Record("step", dict(case.workload), name, values, status, note, **shared)

    return [record(name) for name in names]


@dataclass
class _Built:
    """The methods that could be built and that agree with ours, ready to be timed."""

    roof_calls: RoofCalls
    methods: dict[str, Method] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)


def _build(contest: Contest, names: Sequence[str], case: Case) -> _Built:
    built = _Built(RoofCalls.on(case.device, case.dtype))
    exact = contest.make("ours-eager").transformer().clone()
    for name in names:
        try:
            method = contest.make(name)
            error = contest.error(method.transformer().clone(), exact)
        except Exception as problem:  # a rival may fail in any way; that is its result
            built.failed[name] = reason(problem)
            _free(case.device)
            continue
        tolerance = TOLERANCE[case.dtype] if method.tolerance is None else method.tolerance
        if not error <= tolerance:
            built.failed[name] = f"its velocity is {error:.2g} away from ours, at most {tolerance} is allowed"
            continue
        built.methods[name], built.errors[name] = method, error
        built.calls |= {f"{name}/whole": method.whole, f"{name}/transformer": method.transformer}
    built.calls["decoder"] = partial(contest.decode, exact)
    built.calls |= {"product": built.roof_calls.product, "copy": built.roof_calls.copy}
    return built


def _free(device: torch.device) -> None:
    """After a failure: the memory that it left behind."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _alone(case: Case) -> dict[str, float]:
    """Before this process takes its share of the memory."""
    try:
        started = cold_start(case)
    except RuntimeError as error:
        print(f"cold start: not measured, {error}", file=sys.stderr)
        return {}
    return {"cold_start_seconds": started.seconds, "peak_bytes": float(started.peak_bytes)}


def _failure(name: str, samples: Samples) -> str | None:
    return samples.failed.get(f"{name}/whole") or samples.failed.get(f"{name}/transformer")


def _metrics(name: str, samples: Samples) -> dict[str, float]:
    whole = f"{name}/whole"
    p50, transformer, codec = (samples.median(call) for call in (whole, f"{name}/transformer", "decoder"))
    return {
        "p50_seconds": p50,
        "p95_seconds": samples.quantile(whole, 0.95),
        "jitter_seconds": samples.quantile(whole, 0.95) - samples.quantile(whole, 0.05),
        "transformer_seconds": transformer,
        "codec_seconds": codec,
        "host_seconds": p50 - transformer - codec,
        "frames_per_second": 4 / p50,
        "rounds": float(len(samples.seconds[whole])),
    }


def _ground(work: Floor, roofs: Roofs) -> dict[str, float]:
    """What the figures are held against."""
    return {
        "matrix TFLOP/s": roofs.matrix / 1e12,
        "copy TB/s": roofs.copy / 1e12,
        "floor_seconds": work.seconds(roofs),
        **{f"{part.name}_floor_seconds": part.seconds(roofs) for part in work.parts},
        **{f"{part.name} TFLOP": part.flops / 1e12 for part in work.parts if part.flops},
        **{f"{part.name} GB": part.bytes / 1e9 for part in work.parts},
    }


def _ratios(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The best rival's median divided by ours."""
    rivals = [values for name, values in metrics.items() if not name.startswith("ours")]
    if not rivals:
        return {}
    return {
        name: min(values[metric] for values in rivals) / metrics["ours"][metric]
        for name, metric in (("ratio", "p50_seconds"), ("transformer_ratio", "transformer_seconds"))
    }


def _lines(record: Record) -> list[str]:
    if record.status == "failed":
        return [f"{record.method:<16} failed: {record.note}"]
    head, own = f"{record.method:<16}", record.metrics
    split = ", ".join(f"{part} {own[f'{part}_seconds'] * 1e3:.3g}" for part in ("transformer", "codec", "host"))
    lines = [
        f"{head} p50 {own['p50_seconds'] * 1e3:.3g} ms, p95 {own['p95_seconds'] * 1e3:.3g} ms ({split}); "
        f"floor {own['floor_seconds'] * 1e3:.3g} ms; velocity off by {own['error']:.2g}"
    ]
    if record.note:
        lines.append(f"{'':<16} {record.note}")
    if "first_frame_seconds" in own:
        lines += [
            f"{'':<16} {key} {own[key]:.3g}"
            for key in ("first_frame_seconds", "cold_start_seconds", "peak_bytes", "ratio", "transformer_ratio")
            if key in own
        ]
    return lines
