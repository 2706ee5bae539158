"""The report says what the records say, and nothing else."""

from aapt_video.bench import record, report
from aapt_video.bench.goals import Goal

GOAL = Goal("attention, small", "attention", "rows=300", "ratio", 2.0, "at_least", "cpu")
CPU = {"cpu": "a processor", "threads": 2, "instruction set": "avx2"}


def measured(**changes):
    values = {
        "benchmark": "attention",
        "workload": {"rows": 300},
        "method": "ours",
        "metrics": {"median_seconds": 0.0062, "ratio": 2.5},
        "hardware": CPU,
        "command": "the command",
    }
    return record.Record(**{**values, **changes})


def goal_line(records, goal=GOAL):
    page = report.make(records, [goal])
    return next(line for line in page.splitlines() if line.startswith(f"| {goal.text}"))


def test_what_has_no_record_is_not_measured():
    assert report.NOT_MEASURED in goal_line([])
    assert report.NOT_MEASURED in goal_line([measured(benchmark="modulate")])
    assert report.NOT_MEASURED in goal_line([measured(method="torch")])
    assert report.NOT_MEASURED in goal_line([measured(status="failed")])
    assert report.NOT_MEASURED in goal_line([measured(hardware={**CPU, "gpu": "NVIDIA H100"})])


def test_a_goal_is_reached_or_missed():
    assert goal_line([measured()]).endswith("| 2.5 | a processor, 2 threads, avx2 | reached |")
    assert goal_line([measured(metrics={"ratio": 1.9})]).endswith("**missed** |")


def test_the_newest_record_counts():
    old = measured(metrics={"ratio": 3.0}, time="2026-01-01T00:00:00+00:00")
    new = measured(metrics={"ratio": 1.5}, time="2026-02-01T00:00:00+00:00")
    assert "**missed**" in goal_line([new, old])


def test_every_measurement_shows_its_command():
    page = report.make([measured()], [])
    assert "    the command" in page and "6.2" in page


def test_the_command_writes_the_page(tmp_path):
    record.write(tmp_path / "results" / "cpu.json", [measured()])
    report.run(report.Report(tmp_path / "results", tmp_path / "docs" / "benchmarks.md"))
    assert "a processor" in (tmp_path / "docs" / "benchmarks.md").read_text()
