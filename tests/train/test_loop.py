"""The trainer: it resumes bit for bit, stops when a number is not finite, and leaves a result with its record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aapt_video.train.checkpoint import load_newest
from aapt_video.train.ema import Ema
from aapt_video.train.loop import Interrupted, NotFinite, Trainer
from aapt_video.train.monitor import read_scalars
from aapt_video.train.parallel import Processes
from aapt_video.train.record import read_record
from aapt_video.train.stage import RunConfig

from .toy import ToyConfig, ToyNet, ToyStage

RUN = RunConfig(steps=30, batch=8, checkpoint_every=7, log_every=5, ema=0.9, precision="fp32")


def trainer(out: Path, config: ToyConfig) -> Trainer:
    return Trainer(ToyStage(config), out, Processes.start("cpu"), quiet=True)


def equal(a: Path, b: Path) -> bool:
    one, other = load_newest(a / "checkpoints"), load_newest(b / "checkpoints")
    assert one.step == other.step
    return all(
        torch.equal(value, other.tensors[file][name])
        for file, tensors in one.tensors.items()
        for name, value in tensors.items()
    )


class Stopped(Exception):
    pass


def stop_at(stage: ToyStage, step: int, how: str) -> None:
    real = stage.loss

    def loss(now, batch, turn):
        if now == step:
            if how == "SIGINT":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                raise Stopped
        return real(now, batch, turn)

    stage.loss = loss


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("how,resumed_from", [("SIGINT", 17), ("error", 14)])
def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path, precision, how, resumed_from):
    config = ToyConfig(replace(RUN, precision=precision))
    trainer(tmp_path / "whole", config).fit()

    first = trainer(tmp_path / "parts", config)
    stop_at(first.stage, 16, how)
    with pytest.raises(Interrupted if how == "SIGINT" else Stopped):
        first.fit()
    second = trainer(tmp_path / "parts", config)
    assert second.step == resumed_from
    second.fit()

    assert equal(tmp_path / "whole", tmp_path / "parts")
    whole, parts = (load_file(tmp_path / name / "net.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    logs = [read_scalars(tmp_path / name) for name in ("whole", "parts")]
    for row in logs[0] + logs[1]:
        row.pop("tokens/s", None)
    assert logs[0] == logs[1]


def test_a_killed_process_is_resumed_to_the_same_bits(tmp_path):
    program = (
        "import sys, pathlib; from tests.train.test_loop import trainer, RUN, ToyConfig\n"
        "trainer(pathlib.Path(sys.argv[1]), ToyConfig(RUN)).fit()"
    )
    killer = program.replace("trainer(path", "t = trainer(path").replace(".fit()", "") + (
        "\nimport os, signal; real = t.stage.loss\n"
        "def loss(step, *rest):\n    step == 23 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(step, *rest)\n"
        "t.stage.loss = loss; t.fit()"
    )
    for name, text, status in (("whole", program, 0), ("parts", killer, -signal.SIGKILL), ("parts", program, 0)):
        run = subprocess.run([sys.executable, "-c", text, str(tmp_path / name)], cwd=Path(__file__).parents[2])
        assert run.returncode == status
    assert equal(tmp_path / "whole", tmp_path / "parts")


def test_the_toy_learns_and_the_record_says_how(tmp_path):
    config = ToyConfig(replace(RUN, steps=200, batch=32, measure_every=50))
    before = ToyStage(config).measure()["held_out/error"]
    after = trainer(tmp_path, config).fit()["held_out/error"]
    assert after < 0.2 * before
    record = read_record(tmp_path)
    assert record["measured"] == {"held_out/error": after} and record["updates"] == 200 and record["seed"] == 0
    assert record["config"]["run"]["batch"] == 32 and record["versions"]["torch"] and record["device"]
    assert [row["step"] for row in read_scalars(tmp_path) if "held_out/error" in row] == [50, 100, 150, 200]


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_parts_give_the_update_of_the_whole_batch(accumulate):
    nets = []
    for parts in (1, accumulate):
        config = ToyConfig(replace(RUN, accumulate=parts))
        stage = ToyStage(config)
        stage.loss = without_global_draws(stage)
        one = Trainer(stage, Path("nowhere"), Processes.start("cpu"), quiet=True)
        for step in range(3):
            one.update([stage.load(part) for part in config.run.share(step, one.processes)])
        nets.append(stage.net.state_dict())
    for name in nets[0]:
        torch.testing.assert_close(nets[0][name], nets[1][name], rtol=1e-4, atol=1e-5)


def without_global_draws(stage):
    """Draws from a global generator differ when a batch is spread differently; `Noise` does not."""
    real = ToyStage.loss

    def loss(step, batch, turn):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return real(stage, step, batch, turn)

    return loss


def test_a_nan_stops_the_run_and_keeps_the_state_before_it(tmp_path):
    bad = trainer(tmp_path / "bad", ToyConfig(RUN, nan_at=12))
    with pytest.raises(NotFinite, match=r"update 13 of net: loss nan.*step 12"):
        bad.fit()
    good = trainer(tmp_path / "good", ToyConfig(RUN))
    stop_at(good.stage, 12, "error")
    with pytest.raises(Stopped):
        good.fit()
    kept = load_newest(tmp_path / "bad/checkpoints")
    assert kept.step == 12
    for name, value in good.stage.net.state_dict().items():
        assert torch.equal(kept.tensors["weights"][f"net/{name}"], value)


def test_a_run_of_another_configuration_is_not_continued(tmp_path):
    trainer(tmp_path, ToyConfig(replace(RUN, steps=1))).fit()
    with pytest.raises(ValueError, match="another configuration"):
        trainer(tmp_path, ToyConfig(replace(RUN, steps=1, seed=1)))


def test_a_checkpoint_of_another_net_is_not_continued(tmp_path):
    config = ToyConfig(replace(RUN, steps=1))
    trainer(tmp_path, config).fit()
    stage = ToyStage(config)
    stage.net.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"other weights, e\.g\. extra\.bias"):
        Trainer(stage, tmp_path, Processes.start("cpu"), quiet=True)


def test_a_batch_that_cannot_be_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"batch=8 must be a multiple of 1 processes x accumulate=3"):
        trainer(tmp_path, ToyConfig(replace(RUN, accumulate=3)))


def test_every_clip_is_seen_once_and_in_order(tmp_path):
    one = trainer(tmp_path, ToyConfig(replace(RUN, steps=5)))
    one.fit()
    assert one.stage.seen == list(range(40))


def test_the_trainer_runs_in_a_thread_too(tmp_path):
    done = []
    thread = threading.Thread(target=lambda: done.append(trainer(tmp_path, ToyConfig(replace(RUN, steps=2))).fit()))
    thread.start()
    thread.join()
    assert done


def test_scalars_of_a_run_that_was_cut_off_come_once(tmp_path):
    (tmp_path / "scalars.jsonl").write_text('{"step": 5, "loss": 99}\n{"step": 9')
    trainer(tmp_path, ToyConfig(replace(RUN, steps=10))).fit()
    rows = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [5, 10]
    assert rows[0]["loss"] != 99


def test_ema_is_the_average_that_its_docstring_says_and_leaves_the_weights_alone():
    net = ToyNet()
    ema = Ema(net, 0.5)
    before = net.out.bias.detach().clone()
    with torch.no_grad():
        net.out.bias += 1
    ema.update(step=1)  # the decay is 2/11 at first
    expected = before * 2 / 11 + (before + 1) * 9 / 11
    with ema.applied():
        torch.testing.assert_close(net.out.bias.detach(), expected)
    assert torch.equal(net.out.bias, before + 1)
