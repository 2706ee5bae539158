"""Files appear whole or not at all, and others may read them."""

from __future__ import annotations

import stat

import pytest
import torch
from safetensors.torch import load_file

from aapt_video.files import replacing, write_json, write_tensors


def test_a_write_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("half")
        assert path.read_text() == "before"
        raise ZeroDivisionError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_come_back_also_from_views_and_may_be_read_by_whom_the_umask_lets(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    write_tensors(tmp_path / "a.safetensors", {"column": whole[:, 1], "turned": whole.t()}, {"kind": "test"})
    read = load_file(tmp_path / "a.safetensors")
    assert torch.equal(read["column"], whole[:, 1]) and torch.equal(read["turned"], whole.t())
    write_json(tmp_path / "a.json", {"x": 1})
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.safetensors", "a.json")]
    assert modes[0] == modes[1]
