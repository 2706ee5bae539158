"""The step benchmark: its floors, its records, its verdict, and what it does when a method fails."""

from dataclasses import replace

import pytest
import torch

from aapt_ext import reference
from aapt_video.bench import aims, methods, step, step_report
from aapt_video.bench.floors import Part, Roofs, floor
from aapt_video.bench.record import Record, read
from aapt_video.bench.timing import in_turns
from aapt_video.bench.workload import Case
from aapt_video.cli import main

CPU = torch.device("cpu")
TINY = Case.of("tiny", "48x32", window=2, dtype="float32", device="cpu")
EAGER = ["ours", "ours-eager", "sdpa"]
H100 = Roofs(matrix=720e12, copy=3.0e12)


def paper() -> Case:
    return Case.of("aapt-8b", "736x416", 30, "light", "bfloat16", "cuda")


def work(case: Case):
    return floor(case.config, case.codec, case.height, case.width, case.dtype, case.device.type)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two threads of a busy machine wait for each other longer than a tiny model takes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# -- floors --


def test_the_work_of_the_8b_step_is_what_the_shapes_say():
    parts = {part.name: part for part in work(paper()).transformer}
    tokens, width, blocks = 46 * 26, 3072, 36
    keys = 32 * tokens + 512
    ends = 2 * tokens * 4 * width * (32 + 16)  # patch embedding and head
    assert parts["linear"].flops == 2 * tokens * (4 * width**2 + 2 * width * 12288) * blocks + ends
    assert parts["linear"].flops == pytest.approx(9.75e12, rel=1e-3)
    assert parts["attention"].flops == 4 * tokens * keys * width * blocks
    assert parts["attention"].flops == pytest.approx(20.5e12, rel=2e-3)
    assert parts["attention"].bytes == 2 * keys * width * 2 * blocks  # 17.2 GB
    assert parts["linear"].bytes == pytest.approx(8.2e9, rel=0.01)
    assert parts["pointwise"].bytes == 14 * tokens * width * 2 * blocks  # 3.7 GB
    assert work(paper()).exponentials == pytest.approx(4.0e10, rel=0.01)


def test_cross_attention_adds_its_keys_and_its_passes():
    case = Case.of("wan-1.3b", "832x480", 20, "light", "bfloat16", "cuda")
    parts = {part.name: part for part in work(case).transformer}
    tokens = 52 * 30
    assert parts["attention"].flops == 4 * tokens * (22 * tokens + 512) * 1536 * 30
    assert parts["pointwise"].bytes == 20 * tokens * 1536 * 2 * 30


def test_a_part_takes_the_longer_of_its_two_floors():
    assert Part("a", flops=720e12, bytes=3e12).seconds(H100) == 1
    assert Part("a", flops=1440e12, bytes=3e12).seconds(H100) == 2
    assert Part("a", flops=0, bytes=9e12).seconds(H100) == 3


def test_parts_add_up():
    ground = work(paper())
    transformer = ground.transformer_seconds(H100)
    assert transformer == pytest.approx((9.753 + 20.52) / 720 + 3.70e9 / 3e12, rel=1e-3)
    assert ground.seconds(H100) == transformer + ground.decoder.seconds(H100)


# -- the command --


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Of the command on the CPU, with what it printed left alone."""
    folder = tmp_path_factory.mktemp("results")
    words = "bench step --model tiny --size 48x32 --window 2 --dtype float32 --device cpu --rounds 3 --warm-up 1"
    main([*words.split(), "--methods", ",".join(EAGER), "--record", "tiny", "--results", str(folder)])
    return read(folder)


def test_each_method_has_a_record(records):
    assert [(r.benchmark, r.method, r.status) for r in records] == [("step", name, "measured") for name in EAGER]
    assert records[0].workload == {
        "model": "tiny", "size": "48x32", "window": 2, "window full": True, "decoder": "test", "dtype": "float32",
        "device": "cpu",
    }  # fmt: skip


def test_methods_compute_the_same(records):
    assert all(r.metrics["error"] < 1e-5 for r in records)


def test_a_step_is_split_into_transformer_codec_and_host(records):
    for record in records:
        m = record.metrics
        assert m["transformer_seconds"] + m["codec_seconds"] + m["host_seconds"] == pytest.approx(m["p50_seconds"])
        assert m["transformer_seconds"] > 0 and 0 < m["p50_seconds"] <= m["p95_seconds"]
        assert m["rounds"] == 3


def test_the_floor_is_below_what_was_measured(records):
    for record in records:
        m = record.metrics
        assert 0 < m["floor_seconds"] < m["p50_seconds"]
        assert m["matrix TFLOP/s"] > 0 and m["copy TB/s"] > 0
        parts = ("linear", "attention", "pointwise", "decoder")
        assert sum(m[f"{part}_floor_seconds"] for part in parts) == pytest.approx(m["floor_seconds"])


def test_ours_tells_first_frame_cold_start_and_memory(records):
    ours, rivals = records[0].metrics, records[1:]
    assert 0 < ours["first_frame_seconds"] < ours["cold_start_seconds"]
    assert ours["peak_bytes"] > 1e6
    assert ours["ratio"] == records[2].metrics["p50_seconds"] / ours["p50_seconds"]
    assert all("cold_start_seconds" not in r.metrics for r in rivals)


@pytest.mark.parametrize("model", ["tiny", "wan"])
def test_rivals_equal_ours_with_every_kind_of_text(model):
    case = TINY
    if model == "wan":
        config = replace(case.config, text="cross", qk_norm="all", condition_channels=0)
        case = replace(case, config=config)
    found = step.measure(case, ["sdpa"], rounds=1, warm_up=0, cold=False)
    assert found[0].status == "measured" and found[0].metrics["error"] < 1e-5


# -- linears in fp8 --


def test_linears_in_fp8_are_a_method_that_shows_its_error():
    ours, rounded = step.measure(TINY, ["ours", "ours-fp8-linears"], rounds=1, warm_up=0, cold=False)
    assert rounded.status == "measured" and 1e-3 < rounded.metrics["error"] < 0.05 and ours.metrics["error"] == 0
    assert "ratio" not in ours.metrics, "it is no alternative to ours"
    shown = "\n".join(step._lines(rounded))
    assert f"velocity off by {rounded.metrics['error']:.2g}" in shown and "a correctness path" in shown
    row = next(iter(step_report.rows([rounded])))
    assert f"velocity {rounded.metrics['error']:.2g} off ours, a correctness path" in row[-1]


def test_steps_that_overlap_are_a_method_of_their_own():
    """Each call begins a latent frame and waits for the one before: all show the same pictures as steps one by one."""
    contest = methods.Contest(methods.Workload(TINY))
    ahead, alone = contest.make("ours-ahead"), contest.make("ours")
    expected = alone.whole()
    assert all((ahead.whole() == expected).all() for _ in range(3))
    ours, overlapping = step.measure(TINY, ["ours", "ours-ahead"], rounds=1, warm_up=0, cold=False)
    assert overlapping.status == "measured" and "ratio" not in ours.metrics, "it is no alternative to ours"
    assert "the parts add up to more" in next(iter(step_report.rows([overlapping])))[-1]


def test_linears_in_fp8_with_their_neighbours_scales_are_not_timed(monkeypatch):
    dequantise = reference.dequantise
    monkeypatch.setattr(reference, "dequantise", lambda values, scale: dequantise(values, scale.roll(1)))
    (found,) = step.measure(TINY, ["ours-fp8-linears"], rounds=1, warm_up=0, cold=False)
    assert found.status == "failed" and "away from ours, at most 0.12" in found.note


# -- failures --


def test_a_method_that_cannot_be_built_is_recorded_and_the_others_go_on(monkeypatch):
    def refuse(*_):
        raise RuntimeError("no kernel\nfor this machine")

    monkeypatch.setattr(methods, "compiled", refuse)
    found = {r.method: r for r in step.measure(TINY, ["compile", "ours", "sdpa"], rounds=1, warm_up=0, cold=False)}
    assert found["compile"].status == "failed"
    assert found["compile"].note == "RuntimeError: no kernel for this machine"
    assert found["compile"].metrics == {}
    assert found["ours"].status == found["sdpa"].status == "measured"


def test_a_method_that_computes_something_else_is_not_timed(monkeypatch):
    monkeypatch.setattr(methods, "compiled", lambda ring, device: lambda *inputs: 0.9 * ring(*inputs))
    found = {r.method: r for r in step.measure(TINY, ["compile", "ours"], rounds=1, warm_up=0, cold=False)}
    assert found["compile"].status == "failed" and "away from ours" in found["compile"].note
    assert found["ours"].status == "measured"


def test_a_call_that_fails_in_its_turn_leaves_the_others_alone():
    def fails_the_second_time(calls=[0]):  # noqa: B006
        calls[0] += 1
        if calls[0] == 2:
            raise MemoryError("full")

    samples = in_turns({"bad": fails_the_second_time, "good": lambda: None}, CPU, rounds=4, warm_up=1)
    assert samples.failed == {"bad": "MemoryError: full"}
    assert len(samples.seconds["good"]) == 4


# -- the target --


def fabricated(p50: float, transformer: float) -> list[Record]:
    metrics = {"p50_seconds": p50, "transformer_seconds": transformer}
    return [Record("step", dict(paper().workload), "ours", metrics, hardware={}, versions={}, command="", commit="")]


@pytest.mark.parametrize(
    ("p50", "transformer", "words"),
    [
        (0.079, 0.052, ["reached", "reached", "reached"]),
        (0.081, 0.052, ["reached", "missed", "reached"]),
        (0.170, 0.060, ["missed", "missed", "missed"]),
    ],
)
def test_the_target_is_reached_or_missed(p50, transformer, words):
    lines, reached = aims.verdict(fabricated(p50, transformer))
    assert [next(word for word in ("reached", "missed") if word in line.split()) for line in lines] == words
    assert reached == (words == ["reached"] * 3)


def test_the_target_shows_its_margin():
    lines, _ = aims.verdict(fabricated(0.040, 0.053))
    assert "+75.0%" in lines[0] and "+50.0%" in lines[1] and "+0.0%" in lines[2]


def test_a_failed_measurement_reaches_no_target():
    failed = [replace(fabricated(0, 0)[0], status="failed", metrics={}, note="out of memory")]
    assert aims.verdict(failed) == (["target: not measured, ours failed: out of memory"], False)


def test_the_command_ends_with_status_1_where_a_target_is_missed(monkeypatch):
    monkeypatch.setattr(step, "measure", lambda *_: [replace(r, metrics=r.metrics | SHOWN) for r in made[0]])
    words = ["bench", "step", "--target", "--device", "cpu", "--decoder", "light", "--methods", "ours"]
    made = [fabricated(0.079, 0.052)]
    main(words)
    made[0] = fabricated(0.079, 0.054)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1


SHOWN = {"p95_seconds": 0.08, "codec_seconds": 0.02, "host_seconds": 0.001, "floor_seconds": 0.04, "error": 0.0}


# -- mistakes of the user --


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--model tiny --target", "--target is about --model aapt-8b"),
        ("--model tiny --methods ours,magic", "methods names 'magic'"),
        ("--model tiny --size 48by32", "WIDTHxHEIGHT"),
        ("--model tiny --size 50x32", "multiples of 16"),
        ("--model tiny --decoder light", "latents of 16 channels"),
        ("--model tiny --rounds 0", "rounds is 0"),
    ],
)
def test_mistakes_are_named_before_any_work(words, complaint, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "step", *words.split()])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_model_that_does_not_fit_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr("aapt_video.bench.workload._free_bytes", lambda device: 10**5)
    with pytest.raises(ValueError, match=r"model tiny at 48x32 with window 2 needs about .* free on cpu"):
        TINY.check_memory()
