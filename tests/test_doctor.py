"""What `aapt-video doctor` tells."""

import pytest
import torch

import aapt_ext
from aapt_ext import _C
from aapt_video import cli, doctor


def test_every_fact_of_the_machine_is_told(capsys):
    cli.main(["doctor"])
    told = capsys.readouterr().out
    assert torch.__version__ in told
    for backend in _C.cpu_backends():
        assert backend in told
    for operator in aapt_ext.dispatch.OPERATORS:
        assert f"\n{operator} " in told


def test_the_table_shows_what_is_forced():
    with aapt_ext.backend("portable"):
        assert "modulate         portable" in doctor.format_table()


def test_a_module_without_cuda_says_what_to_do(monkeypatch):
    monkeypatch.setattr(_C, "built_with_cuda", False)
    assert any("AAPT_CUDA=ON" in remedy for remedy in doctor.examine().remedies)


def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch):
    gpu = {"name": "NVIDIA H100", "capability": (9, 0), "multiprocessors": 132, "memory": 80 * 2**30}
    report = {"runtime": 13000, "driver": 13000, "error": "", "devices": [gpu]}
    monkeypatch.setattr(_C, "built_with_cuda", True)
    monkeypatch.setattr(_C, "cuda_report", lambda: report, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finding = doctor.examine()
    assert ("GPU 0", "NVIDIA H100, sm_90, 132 multiprocessors, 80 GiB") in finding.facts
    assert any("CUDA build of torch" in remedy for remedy in finding.remedies)


@pytest.mark.parametrize(
    ("major", "says"), [(7, "none"), (8, "sm_80 kernels, compiled"), (9, "sm_90a"), (10, "PTX"), (12, "PTX")]
)
def test_every_gpu_is_told_its_path(major, says):
    assert says in doctor.cuda_path(major)
