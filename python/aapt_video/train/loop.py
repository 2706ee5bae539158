"""The trainer: runs a stage from wherever its checkpoints end to its last update.

    prepare or resume -> [ update -> log -> measure -> checkpoint ] ... -> measure -> save the result and its record

The data position and all noise are functions of the step, so a checkpoint holds weights, averages, optimiser state and
the step; the random states of torch, numpy and python are kept too, for a stage that uses them.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from .checkpoint import Checkpoint, flatten, load_newest, save_checkpoint, unflatten
from .ema import Ema
from .monitor import Monitor
from .optimiser import Optimiser, clip_gradients
from .parallel import Processes, fill, let_go, shard_like, whole
from .random_state import random_state, set_random_state
from .record import environment, now, read_record, write_record
from .settings import to_toml, to_values
from .stage import Collapsed, Loss, Stage


class NotFinite(RuntimeError):
    """A loss or a gradient is NaN or infinite; the weights before that update were saved."""


class Interrupted(RuntimeError):
    """A signal asked to stop; the state was saved."""


class Trainer:
    """Trains one stage in one folder.

    Args:
        stage: with fresh or loaded weights on `processes.device`; it is sharded here.
        out: the folder of checkpoints, logs, samples and the result. One with checkpoints of the same configuration
            is continued.
        quiet: no progress bar and no printed configuration.

    Raises:
        ValueError: the folder holds a run of another configuration.
    """

    def __init__(self, stage: Stage[Any], out: Path, processes: Processes, quiet: bool = False) -> None:
        self.stage, self.run, self.out, self.processes, self.quiet = stage, stage.run, out, processes, quiet
        self.run.share(0, processes)
        checkpoint = load_newest(out / "checkpoints")
        settings = to_values(stage.config)
        if checkpoint is not None and checkpoint.facts["config"] != settings:
            raise ValueError(
                f"out={str(out)!r} holds a run of another configuration: choose another folder, or delete this one"
            )
        if checkpoint is None:
            torch.manual_seed(self.run.seed)
            stage.prepare()
        for name, module in stage.modules.items():
            processes.shard(module, *stage.shards(name))
        self.optimisers = {
            name: Optimiser(module, stage.optimisers[name], self.run.steps) for name, module in stage.modules.items()
        }
        self.averages = {name: Ema(module, self.run.ema) for name, module in stage.modules.items()}
        self.step, self.seconds, self.started = 0, 0.0, now()
        self._asked_to_stop = False
        if checkpoint is not None:
            self._restore(checkpoint)

    def fit(self) -> dict[str, float]:
        """Trains to the end and saves the result; returns the last measurement.

        A finished run is not repeated: its result is measured and written again.

        Raises:
            NotFinite: see there.
            Collapsed: the stage says so; the checkpoints are from before.
            Interrupted: SIGINT or SIGTERM came; calling again in a new process goes on from here.
        """
        writes = self.processes.rank == 0
        if writes and not self.quiet:
            print(f"# {self.stage.name}\n{to_toml(self.stage.config)}")
        monitor = Monitor(self.out, self.run.steps, self.step, self.run.batch * self.stage.tokens, writes, self.quiet)
        try:
            with self._signals():
                self._train(monitor)
            values = self._measure(monitor)
            self._save_result(values)
            return values
        finally:
            monitor.close()

    def checkpoint(self) -> None:
        """Saves the present state."""
        tensors = self._tensors()
        if self.processes.rank == 0:
            facts = {"config": to_values(self.stage.config), "seconds": self.seconds, "started": self.started}
            facts["random"], tensors["random"] = random_state()
            save_checkpoint(self.out / "checkpoints", Checkpoint(self.step, tensors, facts), self.run.keep)
        self.processes.wait()

    # -- the loop --

    def _train(self, monitor: Monitor) -> None:
        run = self.run
        with ThreadPoolExecutor(1) as reader:
            ahead = self._read(reader, self.step)
            values: dict[str, float] = {}  # the newest of every module: not each has a turn in every update
            while self.step < run.steps:
                begun = time.perf_counter()
                parts, ahead = ahead, self._read(reader, self.step + 1)
                values |= self.update([part.result() for part in parts])
                self.seconds += time.perf_counter() - begun
                monitor.advance()
                if self.step % run.log_every == 0 or self.step == run.steps:
                    values["tokens/s"] = monitor.rate()
                    monitor.scalars(self.step, values)
                    shown = {name: f"{value:.4f}" for name, value in values.items() if name.endswith("loss")}
                    monitor.show(**shown, tokens_s=f"{values['tokens/s']:.0f}")
                if run.measure_every and self.step % run.measure_every == 0 and self.step < run.steps:
                    self._measure(monitor)
                stopping = self.processes.any(self._asked_to_stop)
                if stopping or self.step % run.checkpoint_every == 0 or self.step == run.steps:
                    self.checkpoint()
                if stopping and self.step < run.steps:
                    raise Interrupted(f"stopped after update {self.step} of {run.steps}; the same command goes on")

    def update(self, parts: list[Any]) -> dict[str, float]:
        """One update from the parts of this process's share of a batch; returns the scalars of all processes.

        Raises:
            NotFinite: a gradient is not finite. No module whose turn it was has changed; that state is saved.
        """
        values: dict[str, float] = {}
        for turn in self.stage.turns(self.step):
            prefix = f"{turn}/" if len(self.stage.modules) > 1 else ""
            optimiser = self.optimisers[turn]
            optimiser.zero_grad()
            sums: dict[str, Tensor] = {}
            for part in parts:
                for loss in self._losses(part, turn):
                    (loss.total / len(parts)).backward()  # type: ignore[no-untyped-call]
                    for name, value in {"loss": loss.total, **loss.scalars}.items():
                        sums[name] = sums.get(name, 0) + value.detach().float() / len(parts)
            means = self.processes.mean({prefix + name: float(value) for name, value in sums.items()})
            norm = float(clip_gradients(optimiser.gradients(), self.run.clip))
            if not all(map(_finite, (norm, means[f"{prefix}loss"]))):
                self._alarm(turn, norm, means[f"{prefix}loss"])
            self.stage.check(means)
            rate = optimiser.step(self.step)
            optimiser.zero_grad()
            self.averages[turn].update(self.step + 1)
            values |= means | {f"{prefix}gradient": norm, f"{prefix}lr": rate}
        self.step += 1
        return values

    def _losses(self, part: Any, turn: str) -> Iterator[Loss]:
        losses = iter(self.stage.losses(self.step, part, turn))
        while True:
            with self._autocast():
                loss = next(losses, None)
            if loss is None:
                return
            yield loss

    def _alarm(self, turn: str, norm: float, loss: float) -> None:
        self.checkpoint()
        raise NotFinite(
            f"update {self.step + 1} of {turn}: loss {loss}, gradient norm {norm}. Nothing of this update was "
            f"applied; the state before it is the checkpoint of step {self.step} in {self.out}. Lower the learning "
            f"rate, set clip, or try precision = 'fp32'"
        )

    def _read(self, reader: ThreadPoolExecutor, step: int) -> list[Future[Any]]:
        if step >= self.run.steps:
            return []
        return [reader.submit(self.stage.load, clips) for clips in self.run.share(step, self.processes)]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block all modules have their averaged weights."""
        with ExitStack() as stack:
            for average in self.averages.values():
                stack.enter_context(average.applied())
            yield
            for module in self.stage.modules.values():
                let_go(module)

    def _measure(self, monitor: Monitor) -> dict[str, float]:
        with self.averaged(), torch.no_grad(), self._autocast():
            values = self.processes.mean(self.stage.measure())
            self.stage.check(values)
            frames = self.stage.show()
        if values:
            monitor.scalars(self.step, values)
            monitor.message(f"step {self.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items()))
        if frames is not None:
            monitor.pictures(self.step, frames)
        return values

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.run.precision == "bf16")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM finishes the update and saves; a second SIGINT is an ordinary one."""

        def ask(number: int, frame: FrameType | None) -> None:
            self._asked_to_stop = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        try:
            before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: whoever runs us there has the signals
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # -- state --

    def _weights(self) -> dict[str, dict[str, Tensor]]:
        modules = self.stage.modules
        return {name: {k: whole(v) for k, v in module.state_dict().items()} for name, module in modules.items()}

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        averages = {name: {k: whole(v) for k, v in ema.tensors.items()} for name, ema in self.averages.items()}
        moments = {}
        for name, optimiser in self.optimisers.items():
            state = optimiser.state()
            moments[name] = flatten({key: {k: whole(v) for k, v in value.items()} for key, value in state.items()})
        kept = {name: whole(tensor) for name, tensor in self.stage.kept.items()}
        return {
            "weights": flatten(self._weights()),
            "ema": flatten(averages),
            "optimiser": flatten(moments),
            **({"kept": kept} if kept else {}),
        }

    @torch.no_grad()
    def _restore(self, checkpoint: Checkpoint) -> None:
        tensors = checkpoint.tensors
        for name, values in unflatten(tensors["weights"]).items():
            own = self.stage.modules[name].state_dict()
            if own.keys() != values.keys():
                raise ValueError(
                    f"out={str(self.out)!r} holds a checkpoint of a {name} with other weights, e.g. "
                    f"{sorted(own.keys() ^ values.keys())[0]}: the program has changed since, choose another folder"
                )
            for key, value in values.items():
                fill(own[key], value)
        for name, values in unflatten(tensors["ema"]).items():
            for key, value in values.items():
                fill(self.averages[name].tensors[key], value)
        for name, values in unflatten(tensors["optimiser"]).items():
            optimiser = self.optimisers[name]
            for key, state in unflatten(values).items():
                like = optimiser.parameters[key]
                optimiser.set_state(key, {k: shard_like(v, like) for k, v in state.items()})
        for name, tensor in self.stage.kept.items():
            fill(tensor, tensors["kept"][name])
        set_random_state(checkpoint.facts["random"], tensors["random"])
        self.step, self.seconds = checkpoint.step, checkpoint.facts["seconds"]
        self.started = checkpoint.facts["started"]

    def _save_result(self, values: dict[str, float]) -> None:
        with self.averaged(), torch.no_grad():
            self.stage.finish()
            weights = self._weights()
        if self.processes.rank == 0:
            self.stage.save(self.out, weights)
            record = {
                "stage": self.stage.name,
                "config": to_values(self.stage.config),
                "seed": self.run.seed,
                "updates": self.step,
                "seconds": round(self.seconds, 1),
                "started": self.started,
                "finished": now(),
                "measured": values,
                "sources": self.stage.sources,
                **environment(self.processes.device, self.processes.count),
            }
            write_record(self.out, record)
        self.processes.wait()


def _finite(value: float) -> bool:
    return value - value == 0


__all__ = ["Collapsed", "Interrupted", "NotFinite", "Trainer", "read_record"]
