"""A stage that trains in milliseconds: a small net learns a linear map of random vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from aapt_video.train.optimiser import OptimiserConfig
from aapt_video.train.stage import Loss, Noise, RunConfig, Stage


@dataclass(frozen=True)
class ToyConfig:
    run: RunConfig
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(lr=1e-2, muon_lr=1e-2))
    nan_at: int = -1


class ToyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(6, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.out(x)


class ToyStage(Stage[tuple[range, Tensor]]):
    name = "toy"

    def __init__(self, config: ToyConfig) -> None:
        self.config, self.run, self.tokens = config, config.run, 1
        torch.manual_seed(config.run.seed)
        self.net = ToyNet()
        self.modules, self.optimisers = {"net": self.net}, {"net": config.optimiser}
        self.sources: dict[str, str] = {}
        self.truth = torch.linspace(-1, 1, 18).view(6, 3)
        self.seen: list[int] = []

    def load(self, clips: range) -> tuple[range, Tensor]:
        return clips, Noise(self.run.seed, clips, torch.device("cpu")).normal(6)

    def loss(self, step: int, batch: tuple[range, Tensor], turn: str) -> Loss:
        clips, x = batch
        self.seen += clips
        noise = Noise(self.run.seed, clips, x.device, purpose=1).normal(3)
        total = (self.net(x) - x @ self.truth + 0.1 * noise).square().mean()
        # A draw from a global generator, as a careless stage would do it.
        total = total + 0.0 * torch.rand(()) + 1e-3 * self.net.out.weight.square().mean() * torch.rand(())
        return Loss(total * float("nan") if step == self.config.nan_at else total, {"twice": 2 * total})

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        x = Noise(0, range(64), torch.device("cpu"), purpose=2).normal(6)
        return {"held_out/error": float((self.net(x) - x @ self.truth).square().mean())}

    def save(self, out: Path, weights: dict[str, dict[str, Tensor]]) -> None:
        save_file(weights["net"], out / "net.safetensors")

    def shards(self, name: str) -> tuple[Sequence[Sequence[nn.Module]], Sequence[str]]:
        return [[block] for block in self.net.blocks], ()
