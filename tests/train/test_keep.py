"""What `train keep` copies of a run."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from aapt_video.train.export import Keep, run_keep


def test_what_is_kept_is_half_as_large_and_may_be_read_by_whom_the_folder_allows(tmp_path):
    result, out = tmp_path / "run", tmp_path / "kept"
    (result / "samples").mkdir(parents=True)
    tensors = {"matrix": torch.randn(4, 6), "vector": torch.randn(6)}
    for name in ("model.safetensors", "codec.safetensors"):
        save_file(tensors, result / name)
    for step in (10, 20):
        (result / f"samples/step-{step:08}.png").write_text(str(step))
    with pytest.raises(ValueError, match="has not ended"):
        run_keep(Keep(result, out))
    (result / "record.json").write_text(json.dumps({"stage": "adversarial"}))

    run_keep(Keep(result, out))
    kept, codec = load_file(out / "model.safetensors"), load_file(out / "codec.safetensors")
    assert torch.equal(kept["matrix"], tensors["matrix"].half()) and torch.equal(kept["vector"], tensors["vector"])
    assert all(torch.equal(codec[name], tensor) for name, tensor in tensors.items()), "latents tell a codec apart"
    assert (out / "samples.png").read_text() == "20"
    modes = {path.stat().st_mode & 0o777 for path in out.iterdir()}
    assert len(modes) == 1, "weights have the mode of any other file"
