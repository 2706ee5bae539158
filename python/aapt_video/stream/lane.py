"""A second queue of work on a device, and pictures on their way from it to the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Lane:
    """A CUDA stream beside the current one: its work runs in the order in which it was asked for, while the current
    stream goes on. Without a GPU everything runs at once, in the order of the program."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @contextmanager
    def behind(self) -> Iterator[None]:
        """Inside, work is asked of the lane; it begins when what the current stream was asked for so far is done."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def reads(self, tensors: Iterable[Tensor]) -> None:
        """Memory of the current stream that work on the lane reads: it is not given away before that has happened."""
        if self._stream is not None:
            for tensor in tensors:
                tensor.record_stream(self._stream)

    def join(self) -> None:
        """What the current stream is asked for from now on begins when the lane's work so far is done."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)


class Pictures:
    """Pictures that the current stream was asked for, on their way to the host.

    Args:
        shown: uint8, of any shape; it may be written again once `numpy` has returned.
    """

    def __init__(self, shown: Tensor) -> None:
        self._array: NDArray[np.uint8] | None = None
        self._arrived: torch.cuda.Event | None = None
        self._host = shown
        if shown.is_cuda:
            self._host = torch.empty(shown.shape, dtype=shown.dtype, pin_memory=True)
            self._host.copy_(shown, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def numpy(self) -> NDArray[np.uint8]:
        """Waits for them; a second call gives the same array."""
        if self._array is None:
            if self._arrived is None:
                self._array = self._host.numpy()
            else:
                self._arrived.synchronize()
                self._array = self._host.numpy().copy()  # pinned memory is scarce
        return self._array


@torch.no_grad()
def captured(call: Callable[[], Tensor], device: torch.device, warm_up: bool = True) -> Callable[[], Tensor]:
    """The call as a CUDA graph over the tensors that it reads now; without a GPU the call itself.

    Args:
        warm_up: runs it first, so that what libraries prepare at a first call is done; not needed where calls of the
            same operators, over the same shapes, have run before.
    """
    if device.type != "cuda":
        if warm_up:
            call()
        return call
    if warm_up:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                call()
        torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay
