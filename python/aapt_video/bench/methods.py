"""Who is measured: ours, and what a good programmer would write instead. All share weights, inputs and decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aapt_video.model import CachedTransformer, FramePlan, Linears
from aapt_video.model.cached import Forward
from aapt_video.stream import window
from aapt_video.stream.lane import captured
from aapt_video.stream.noise import gaussian
from aapt_video.stream.state import StreamState

from .rivals import RingStep, best_attention, compiled, flex_attention
from .workload import SEED, Workload, decoder_call

METHODS = ("ours", "ours-ahead", "ours-eager", "ours-fp8-linears", "sdpa", "compile", "flex")
"""Ours (on a GPU captured in CUDA graphs); ours where a latent frame begins before the pictures of the one before are
there; ours without a graph; ours in a graph with linears in fp8; torch with SDPA on a contiguous ring; the same under
torch.compile (on a GPU max-autotune); the same with FlexAttention."""
FP8_TOLERANCE = 0.12
"""How far the velocity may be from ours with linears in fp8: twice what 36 blocks of random weights make of it."""


@dataclass(frozen=True)
class Method:
    """One way to make the next latent frame."""

    transformer: Callable[[], Tensor]
    """One pass over inputs that are there already; the clean latent [1, C, H, W]."""
    whole: Callable[[], Any]
    """What a user waits for: noise, the pass, the decoder, pictures on the host."""
    tolerance: float | None = None
    """How far its velocity may be from ours; None: as far as rounding in the dtype of the case takes it."""
    note: str = ""
    """What a reader of its figures must know."""


class Contest:
    """The inputs that all methods share, and the methods by name.

    Args:
        workload: its full state is made here and held.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        engine, case = workload.engine, workload.case
        self.state: StreamState = workload.full_state()
        self.decode = decoder_call(workload)
        self._drawn = torch.from_numpy(gaussian(SEED, workload.number, engine.latent_shape))[None]
        self.noise = self._drawn.to(case.device, case.dtype)
        self.condition = self._input(workload.condition) if case.config.condition_channels else None
        self.previous = self.state.latent[None].contiguous()
        self._plan: FramePlan = window.plan(self.state, engine.pool.allocate()[0])
        self._forward = engine.weights.open(1, *case.latent, engine.pool, engine.text_pool)
        self._ring: RingStep | None = None

    def make(self, name: str) -> Method:
        """Raises whatever the method raises while it is built."""
        if name not in METHODS:
            raise ValueError(f"methods names {name!r}; it must list some of {', '.join(METHODS)}")
        device = self.workload.case.device
        if name == "ours":
            return replace(self._ours(self._forward, graph=True), whole=self._stream_step)
        if name == "ours-ahead":
            note = "from latent frame to latent frame, which overlap: the parts add up to more"
            return replace(self._ours(self._forward, graph=True), whole=self._stream_ahead(), note=note)
        if name == "ours-eager":
            return self.eager()
        if name == "ours-fp8-linears":
            return self._ours_in_fp8()
        ring = self._new_ring(flex_attention if name == "flex" else None)
        return self._rival(ring, ring if name == "sdpa" else compiled(ring, device))

    @torch.no_grad()
    def error(self, latent: Tensor, exact: Tensor) -> float:
        """Distance of two predicted velocities: root mean square, as a share of the second's."""
        velocity = (self.noise - exact).double()
        return float((latent - exact).double().norm() / velocity.norm())

    # -- ours --

    def eager(self, linears: Linears | None = None) -> Method:
        """Ours without a graph, which a profiler can look into."""
        return self._ours(self._forward if linears is None else self._in_fp8(), graph=False)

    def _ours(self, forward: Forward, graph: bool) -> Method:
        forward.plan([self._plan])
        run: Callable[[], Tensor] = partial(forward.run, self.noise, self.condition, self.previous)
        if graph:
            run = captured(run, self.workload.case.device)

        def whole() -> Any:
            forward.plan([self._plan])
            return self._to_pictures(run)

        return Method(run, whole)

    def _ours_in_fp8(self) -> Method:
        case = self.workload.case
        note = "its floor is that of products in bfloat16"
        if case.device.type == "cpu":
            note = "a correctness path: a CPU multiplies no fp8, so what fp8 stands for is multiplied in float32"
        return replace(self._ours(self._in_fp8(), graph=True), tolerance=FP8_TOLERANCE, note=note)

    def _in_fp8(self) -> Forward:
        engine = self.workload.engine
        weights = CachedTransformer(engine.weights.model, linears="fp8")
        return weights.open(1, *self.workload.case.latent, engine.pool, engine.text_pool)

    def _stream_step(self) -> Any:
        """A step as `Stream.step` does it; the state stays where it is, so that every step sees the same window."""
        return self._begin()()

    def _stream_ahead(self) -> Callable[[], Any]:
        """Steps as `Stream.run` does them `ahead`: each begins its own, and waits for the one before."""
        coming = self._begin()

        def whole() -> Any:
            nonlocal coming
            before, coming = coming, self._begin()
            return before()

        return whole

    def _begin(self) -> Callable[[], Any]:
        engine = self.workload.engine
        stepped = engine.step([self.state], [self.workload.condition], [0])[0]
        engine.release(stepped.state)
        engine.noise.draw([(self.state.seed, self.state.frame + 1)])  # a stream goes on, and has drawn this meanwhile
        return stepped.pictures

    # -- rivals --

    @torch.no_grad()
    def _new_ring(self, attention: Callable[..., Tensor] | None) -> RingStep:
        workload, model = self.workload, self.workload.engine.weights.model
        embedding = workload.embedding
        text = None
        if embedding is not None:
            prompt = embedding.to(workload.case.device, workload.case.dtype)[None]
            text = model.encode_text(prompt, [prompt.shape[1]])
        ring = RingStep(model, *workload.case.latent, text, attention, share=self._ring)
        if self._ring is None:
            self._fill(ring)
            self._ring = ring
        return ring

    def _fill(self, ring: RingStep) -> None:
        """Copies the window's keys, so that both see the same past."""
        pool = self.workload.engine.pool
        assert self.state.first is not None
        for number, page in enumerate((self.state.first, *self.state.window), start=1):
            for layer in range(pool.layers):
                ring.write_frame(layer, number, *pool.read(layer, page))

    def _rival(self, ring: RingStep, step: Callable[..., Tensor]) -> Method:
        number, device = self.workload.number, self.workload.case.device
        fresh = torch.empty_like(self.noise)

        @torch.inference_mode()
        def run(noise: Tensor, rotation: tuple[Tensor, Tensor], place: tuple[Tensor, int]) -> Tensor:
            with best_attention(device):
                return step(noise, self.condition, self.previous, *rotation, *place)

        @torch.no_grad()
        def whole() -> Any:
            fresh.normal_()
            return self.decode(run(fresh, ring.rotation(number), ring.place(number))).cpu().numpy()

        return Method(partial(run, self.noise, ring.rotation(number), ring.place(number)), whole)

    # -- shared --

    @torch.no_grad()
    def _to_pictures(self, run: Callable[[], Tensor]) -> Any:
        self.noise.copy_(self._drawn)  # a stream draws it while the latent frame before is made
        return self.decode(run()).cpu().numpy()

    def _input(self, values: Any) -> Tensor:
        case = self.workload.case
        return torch.from_numpy(values)[None].to(case.device, case.dtype)
