"""Two processes with sharded weights do what one does with the whole batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from aapt_video.model import NAMED
from aapt_video.model.conditions import Plain
from aapt_video.train.loop import Trainer
from aapt_video.train.optimiser import OptimiserConfig
from aapt_video.train.parallel import Processes
from aapt_video.train.predictor import Predictor, PredictorConfig
from aapt_video.train.stage import Loss, Noise, RunConfig

from .test_loop import without_global_draws
from .toy import ToyConfig, ToyStage

RUN = RunConfig(steps=4, batch=8, checkpoint_every=3, log_every=1, ema=0.9, precision="fp32")
ADAMW = OptimiserConfig(lr=1e-2, schedule="constant")


class PredictorStage(ToyStage):
    """The latent stages' module on noise: its velocity learns to be 0, by blocks that are gathered one by one."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        torch.manual_seed(0)
        transformer = replace(NAMED["tiny"], condition_channels=0)
        self.net = Predictor(PredictorConfig(transformer, 1, Plain()))
        torch.nn.init.normal_(self.net.transformer.head.weight, std=0.1)
        self.modules = {"net": self.net}

    def loss(self, step, batch, turn):
        noise = Noise(0, batch[0], torch.device("cpu"))
        x, previous = noise.normal(2, 4, 4, 4), noise.normal(2, 4, 4, 4)
        prompts = [f"a room, number {clip}" for clip in batch[0]]
        return Loss(self.net(x, previous, noise.uniform(), None, prompts, recompute=True).square().mean(), {})

    def measure(self):
        return {}

    def shards(self, name):
        return self.net.shards()


def train(kind: type[ToyStage], out: Path, run: RunConfig, optimiser: OptimiserConfig) -> None:
    processes = Processes.start("cpu")
    stage = kind(ToyConfig(run, optimiser))
    if kind is ToyStage:
        stage.loss = without_global_draws(stage)
    trainer = Trainer(stage, out, processes, quiet=True)
    assert all(isinstance(p, DTensor) == (processes.count > 1) for p in stage.net.parameters())
    trainer.fit()
    processes.finish()


def _join(rank: int, port: int, *arguments) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2"
    )
    torch.set_num_threads(1)
    train(*arguments)


def train_with_two(*arguments) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    torch.multiprocessing.start_processes(_join, (port, *arguments), nprocs=2, start_method="fork")


@pytest.mark.parametrize(
    "kind,optimiser",
    [(ToyStage, ADAMW), (ToyStage, replace(ADAMW, muon_lr=1e-2)), (PredictorStage, replace(ADAMW, lr=1e-3))],
    ids=["adamw", "muon", "predictor"],
)
def test_two_processes_equal_one_with_the_double_batch(tmp_path, kind, optimiser):
    train(kind, tmp_path / "one", RUN, optimiser)
    train_with_two(kind, tmp_path / "two", RUN, optimiser)
    one, two = (load_file(tmp_path / name / "net.safetensors") for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=2e-4)


def test_one_process_goes_on_where_two_stopped(tmp_path):
    train(ToyStage, tmp_path / "whole", replace(RUN, steps=5), ADAMW)
    train_with_two(ToyStage, tmp_path / "parts", replace(RUN, steps=3), ADAMW)
    facts = tmp_path / "parts/checkpoints/step-00000003/checkpoint.json"
    facts.write_text(facts.read_text().replace('"steps": 3', '"steps": 5'))
    train(ToyStage, tmp_path / "parts", replace(RUN, steps=5), ADAMW)
    whole, parts = (load_file(tmp_path / name / "net.safetensors") for name in ("whole", "parts"))
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_torchrun_starts_the_same_program(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import pathlib, sys; from tests.train.test_parallel import ADAMW, RUN, ToyStage, train\n"
        "train(ToyStage, pathlib.Path(sys.argv[1]), RUN, ADAMW)"
    )
    root = Path(__file__).parents[2]
    python = os.pathsep.join([str(root), str(root / "python"), os.environ.get("PYTHONPATH", "")])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, str(program), str(tmp_path / "two")],
        cwd=root, env={**os.environ, "PYTHONPATH": python, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "two/record.json").is_file()
