"""One process or many: the same program under `python` and under `torchrun`.

Under torchrun weights, gradients and optimiser state are sharded (FSDP2). Every process computes its own share of a
batch, and gradients are averaged, so an update is that of one process with the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor


@dataclass(frozen=True)
class Processes:
    """The processes that train together."""

    rank: int
    """This process's number; 0 writes files."""
    count: int
    device: torch.device
    mesh: DeviceMesh | None
    """None for a single process: nothing is sharded."""

    @staticmethod
    def start(device: str | None = None) -> Processes:
        """Joins the processes that torchrun started; without torchrun, this process alone.

        Args:
            device: "cpu" or "cuda"; None takes a GPU where there is one.
        """
        kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
            return Processes(0, 1, torch.device(kind), None)
        if kind == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        if not dist.is_initialized():
            dist.init_process_group("nccl" if kind == "cuda" else "gloo")
        place = torch.device("cuda", torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)
        mesh = init_device_mesh(kind, (dist.get_world_size(),)) if dist.get_world_size() > 1 else None
        return Processes(dist.get_rank(), dist.get_world_size(), place, mesh)

    def shard(self, module: nn.Module, groups: Sequence[Sequence[nn.Module]], methods: Sequence[str]) -> None:
        """Spreads a module over the processes; does nothing for one process.

        Args:
            groups: modules whose weights are gathered together, used, and let go; the rest stays gathered during
                a pass.
            methods: names of the module's methods that compute, besides `forward`.
        """
        if self.mesh is None:
            return
        for group in groups:
            fully_shard(list(group), mesh=self.mesh)
        fully_shard(module, mesh=self.mesh)
        for method in methods:
            register_fsdp_forward_method(module, method)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Each value averaged over the processes, which all give the same names."""
        if self.mesh is None or not values:
            return values
        packed = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(packed)
        return dict(zip(values, (packed / self.count).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return self.mean({"flag": float(flag)})["flag"] > 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.mesh is not None:
            dist.barrier()

    def finish(self) -> None:
        """Leaves the group."""
        if dist.is_initialized():
            dist.destroy_process_group()


def let_go(module: nn.Module) -> None:
    """Lets a module's gathered weights go, which a pass without a backward pass leaves behind."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def whole(tensor: Tensor) -> Tensor:
    """A copy of a tensor on the CPU, its shards put together; every process must call it."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().cpu().clone()


def shard_like(value: Tensor, target: Tensor) -> Tensor:
    """A whole tensor with the device and sharding of `target` (its shape too, unless it is a scalar)."""
    if isinstance(target, DTensor) and value.shape == target.shape:
        return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    return value.to(target.device) if value.shape == target.shape else value


@torch.no_grad()
def fill(target: Tensor, value: Tensor) -> None:
    """Copies a whole tensor into one that may be sharded."""
    target.copy_(shard_like(value, target))
