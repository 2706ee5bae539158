"""What the report says about steps follows from their records, and the goals find what the benchmarks write."""

import pytest

from aapt_video.bench import report, step_report
from aapt_video.bench.ratios import with_ratios
from aapt_video.bench.record import Record, write
from aapt_video.bench.targets import GOALS

GPU = {"gpu": "NVIDIA H100", "cpu": "a processor"}
STEP = {
    "model": "aapt-8b", "size": "736x416", "window": 30, "window full": True, "decoder": "light", "dtype": "bfloat16",
    "device": "cuda",
}  # fmt: skip
METRICS = {
    "p50_seconds": 0.078, "p95_seconds": 0.08, "jitter_seconds": 0.003, "transformer_seconds": 0.051,
    "codec_seconds": 0.025, "host_seconds": 0.002, "floor_seconds": 0.06, "ratio": 1.2,
    "linear_floor_seconds": 0.013, "attention_floor_seconds": 0.028, "pointwise_floor_seconds": 0.001,
    "decoder_floor_seconds": 0.018, "matrix TFLOP/s": 750.0, "copy TB/s": 3.0, "linear TFLOP": 9.75,
    "attention TFLOP": 20.5, "decoder TFLOP": 10.0, "linear GB": 8.2, "attention GB": 17.2, "pointwise GB": 3.7,
    "decoder GB": 1.0,
}  # fmt: skip


def made_up(benchmark="step", method="ours", workload=STEP, metrics=METRICS, **changes):
    shared = {"hardware": GPU, "versions": {}, "command": "the command", "commit": "abc"}
    return Record(benchmark, workload, method, metrics, **{**shared, **changes})


def reached(records):
    """Goals that find a record, by whether it reaches them."""
    found = {}
    for goal in GOALS:
        for record in records:
            if goal.matches(record):
                found[goal.text] = goal.reached(record.metrics[goal.metric])
    return found


def test_the_step_of_the_paper_is_found_and_others_are_not():
    assert list(reached([made_up()]).values()) == [True, True, True]
    slow = METRICS | {"p50_seconds": 0.09, "transformer_seconds": 0.06, "ratio": 1.0}
    assert list(reached([made_up(metrics=slow)]).values()) == [False, False, False]
    for change in ({"model": "aapt-8b-4096"}, {"window": 3}, {"decoder": "tiny"}, {"device": "cpu"}):
        assert reached([made_up(workload=STEP | change)]) == {}


@pytest.mark.parametrize("dtype", ["torch.bfloat16", "torch.float32"])
@pytest.mark.parametrize("shape", ["300 x 4800", "1196 x 9568"])
def test_attention_on_a_cpu_is_found(dtype, shape):
    workload = {"case": f"bench_paged_attention[{dtype}-{shape}]", "dtype": dtype, "isa": "avx2", "shape": shape}
    record = made_up("attention", workload=workload, metrics={"ratio": 2.5}, hardware={"cpu": "a processor"})
    assert list(reached([record]).values()) == [True]


def test_ratios_come_from_the_same_run():
    workload = {"case": "bench_attention[AAPT 736x416, 24 heads]", "name": "AAPT 736x416, 24 heads"}

    def timed(method, seconds, **changes):
        return made_up("attention_gpu", method, workload, {"gpu_seconds": seconds}, **changes)

    records = [
        timed("ours", 1.0), timed("cuDNN", 1.2), timed("FlexAttention", 1.5),
        timed("FlashAttention-3, no text", 0.9), timed("FlashInfer", 0.5, commit="another"),
    ]  # fmt: skip
    ours = with_ratios(records)[0]
    assert ours.metrics["ratio"] == 1.2
    assert list(reached([ours]).values()) == [True]
    assert with_ratios(records[:1]) == records[:1]


def test_the_waterfall_adds_up_to_the_median():
    assert sum(width for _, width in step_report.waterfall(made_up())) == pytest.approx(78)


def test_points_of_the_roofline():
    name, intensity, rate = step_report.points(made_up())[0]
    assert name == "transformer"
    assert intensity == pytest.approx(30.25e12 / 29.1e9)
    assert rate == pytest.approx(30.25 / 0.051)


def test_the_page_shows_steps_in_columns_and_failures_in_words():
    failed = made_up(method="flex", metrics={}, status="failed", note="OutOfMemoryError: no room")
    page = report.make([made_up(), failed], [])
    head = "| case | method | where | p50, ms |"
    assert head in page and "| ours | NVIDIA H100 | 78 | 80 | 3 | 51 | 25 | 2 | 60 |" in page
    assert "failed: OutOfMemoryError: no room" in page and "light decoder" in page


def test_pictures_are_made_from_records_alone(tmp_path):
    pytest.importorskip("matplotlib")
    write(tmp_path / "results" / "a.json", [made_up()])
    report.run(report.Report(tmp_path / "results", tmp_path / "docs" / "benchmarks.md"))
    for kind in ("waterfall", "roofline"):
        assert f"(step-1-{kind}.svg)" in (tmp_path / "docs" / "benchmarks.md").read_text()
        first = (tmp_path / "docs" / f"step-1-{kind}.svg").read_text()
        assert "<svg" in first
    report.run(report.Report(tmp_path / "results", tmp_path / "docs" / "benchmarks.md"))
    assert (tmp_path / "docs" / "step-1-roofline.svg").read_text() == first


def test_without_matplotlib_the_page_is_made_and_a_word_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert step_report.draw([made_up()], tmp_path) == []
    assert "aapt-video[report]" in capsys.readouterr().out
