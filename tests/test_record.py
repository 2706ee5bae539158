"""Records of measurements."""

import dataclasses
import json

import pytest

from aapt_video.bench import record


def some_record(**changes):
    values = {"benchmark": "step", "workload": {"rows": 48}, "method": "ours", "metrics": {"median_seconds": 0.01}}
    return record.Record(**{**values, **changes})


def test_what_is_written_is_read(tmp_path):
    records = [some_record(), some_record(method="torch", status="failed", note="out of memory")]
    record.write(tmp_path / "a.json", records)
    assert record.read(tmp_path) == records


def test_a_record_tells_how_to_take_it_again():
    told = dataclasses.asdict(some_record())
    for name in ("hardware", "versions", "command", "time"):
        assert told[name], f"{name} is empty"
    assert told["hardware"]["instruction set"] and told["versions"]["torch"]


def test_a_file_that_is_no_record_is_named(tmp_path):
    (tmp_path / "broken.json").write_text('[{"benchmark": "step"}]')
    with pytest.raises(ValueError, match=r"broken\.json is not a list of records"):
        record.read(tmp_path)


def test_another_schema_is_refused(tmp_path):
    values = dataclasses.asdict(some_record()) | {"schema": 99}
    (tmp_path / "new.json").write_text(json.dumps([values]))
    with pytest.raises(ValueError, match="schema 99; this program reads 1"):
        record.read(tmp_path)
