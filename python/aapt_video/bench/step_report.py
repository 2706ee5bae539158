"""What the report says about steps: a table, and two pictures for each machine and workload, from records alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .record import Record

PARTS = ("linear", "attention", "pointwise", "decoder")
HEAD = ("case", "method", "where", "p50, ms", "p95", "jitter", "transformer", "codec", "host", "floor", "also")


def is_step(record: Record) -> bool:
    """Whether `aapt-video bench step` wrote it."""
    return record.benchmark == "step" and "window full" in record.workload


def case(record: Record) -> str:
    """The workload in words."""
    w = record.workload
    return f"{w['model']}, {w['size']}, window {w['window']} (full), {w['decoder']} decoder, {w['dtype']}"


def place(record: Record) -> str:
    """The GPU if the step ran there, else the processor."""
    if record.workload["device"] == "cpu":
        return f"{record.hardware.get('cpu', '?')}, {record.hardware.get('threads', '?')} threads"
    return str(record.hardware.get("gpu", "?"))


def rows(records: Iterable[Record]) -> Iterator[tuple[str, ...]]:
    """One row of `HEAD` for each step, milliseconds."""
    for record in records:
        if record.status == "failed":
            yield case(record), record.method, place(record), f"failed: {record.note}", *[""] * 7
            continue
        names = ("p50", "p95", "jitter", "transformer", "codec", "host", "floor")
        yield (
            case(record),
            record.method,
            place(record),
            *(f"{record.metrics[f'{name}_seconds'] * 1e3:.3g}" for name in names),
            ", ".join(_also(record)),
        )


def _also(record: Record) -> Iterator[str]:
    own = record.metrics
    if "first_frame_seconds" in own:
        yield f"first frame {own['first_frame_seconds']:.3g} s"
    if "cold_start_seconds" in own:
        yield f"cold start {own['cold_start_seconds']:.3g} s, peak memory {own['peak_bytes'] / 1e9:.3g} GB"
    if "ratio" in own:
        yield f"best alternative {own['ratio']:.2f} x as long"
    if record.method == "ours-fp8-linears":
        yield f"velocity {own['error']:.2g} off ours"
    if record.note:
        yield record.note
    yield f"machine {own['matrix TFLOP/s']:.3g} TFLOP/s, {own['copy TB/s']:.3g} TB/s"


def draw(records: Sequence[Record], folder: Path) -> list[tuple[str, Path]]:
    """Writes both pictures for every step of ours; (caption, file) of each. Empty without steps or matplotlib.

    matplotlib is the extra `report`.
    """
    ours = [record for record in records if record.method == "ours" and record.status == "measured"]
    if not ours:
        return []
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("no pictures: matplotlib is missing; pip install 'aapt-video[report]'")
        return []
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "aapt-video"  # equal records, equal files
    drawn = []
    for number, record in enumerate(ours, start=1):
        for kind, function in (("waterfall", _waterfall), ("roofline", _roofline)):
            path = folder / f"step-{number}-{kind}.svg"
            function(record, path)
            drawn.append((f"{kind}: {case(record)}, {place(record)}", path))
    return drawn


def waterfall(record: Record) -> list[tuple[str, float]]:
    """Milliseconds that add up to the median step: floors of the parts, what is lost to each, and the host."""
    own = {name: 1e3 * value for name, value in record.metrics.items() if name.endswith("_seconds")}
    floors = [(f"{part} floor", own[f"{part}_floor_seconds"]) for part in PARTS[:3]]
    transformer = sum(value for _, value in floors)
    decoder = own["decoder_floor_seconds"]
    return [
        *floors,
        ("transformer above its floor", own["transformer_seconds"] - transformer),
        ("decoder floor", decoder),
        ("decoder above its floor", own["codec_seconds"] - decoder),
        ("host", own["host_seconds"]),
    ]


def points(record: Record) -> list[tuple[str, float, float]]:
    """(name, FLOP per byte, TFLOP/s) of the transformer and the decoder."""
    own, found = record.metrics, []
    for name, parts, seconds in (
        ("transformer", PARTS[:3], own["transformer_seconds"]),
        ("decoder", PARTS[3:], own["codec_seconds"]),
    ):
        teraflops = sum(own.get(f"{part} TFLOP", 0.0) for part in parts)
        gigabytes = sum(own[f"{part} GB"] for part in parts)
        found.append((name, 1e3 * teraflops / gigabytes, teraflops / seconds))
    return found


def _waterfall(record: Record, path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    start, bars = 0.0, waterfall(record)
    for row, (name, width) in enumerate(bars):
        lost = not name.endswith(" floor") or "above" in name
        axes.barh(row, width, left=start, color="#e45756" if lost else "#4c78a8")
        axes.text(max(start, start + width), row, f" {width:.3g}", va="center", fontsize=8)
        start += width
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("ms of one latent frame")
    axes.set_title(f"{case(record)}\n{place(record)}", fontsize=9)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _roofline(record: Record, path: Path) -> None:
    from matplotlib import pyplot

    matrix, copy = record.metrics["matrix TFLOP/s"], record.metrics["copy TB/s"]
    found = points(record)
    ridge = matrix / copy  # FLOP per byte
    low = min(ridge, *(x for _, x, _ in found)) / 4
    high = max(ridge, *(x for _, x, _ in found)) * 4
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axes.loglog([low, ridge, high], [low * copy, matrix, matrix], color="black", label="measured on this machine")
    for name, x, y in found:
        axes.plot(x, y, "o", label=f"{name}, {y / min(matrix, x * copy):.0%} of the roof")
    axes.set_xlabel("FLOP per byte")
    axes.set_ylabel("TFLOP/s")
    axes.set_title(f"{case(record)}\n{place(record)}", fontsize=9)
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
