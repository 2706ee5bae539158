"""training_attention: a clip's frames see what they will see when they are generated one by one."""

import sys
from dataclasses import dataclass
from functools import partial

import pytest
import torch

from aapt_ext import ClipText, training_attention

from .rule import assert_within_rule, cast

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
every_way = pytest.mark.parametrize("over_pages", [False, True], ids=["frame by frame", "over pages"])


@dataclass
class Clip:
    """Random inputs in float64."""

    frames: int
    window: int
    texts: tuple[tuple[int, ...], ...] = ()
    """Valid tokens: prompt, stream."""
    text_of: tuple[int, ...] | None = None
    pinned: int = 0
    """Frames, the last ones, that look at far keys with a query of their own."""
    batch: int = 2
    rows: int = 5
    heads: int = 2
    head_dim: int = 16

    def __post_init__(self):
        def normal(*shape):
            return torch.randn(self.batch, *shape, self.heads, self.head_dim, dtype=torch.float64)

        self.inputs = {name: normal(self.frames, self.rows) for name in "qkv"}
        if self.pinned:
            self.inputs["q_pinned"] = normal(self.pinned, self.rows)
        for i, lengths in enumerate(self.texts):
            self.inputs |= {f"text {i} {side}": normal(max(lengths) + 1) for side in "kv"}

    def run(self, inputs, over_pages=False):
        texts = [
            ClipText(inputs[f"text {i} k"], inputs[f"text {i} v"], lengths) for i, lengths in enumerate(self.texts)
        ]
        return training_attention(
            inputs["q"], inputs["k"], inputs["v"], self.window, texts=texts, text_of=self.text_of,
            q_pinned=inputs.get("q_pinned"), over_pages=over_pages,
        )  # fmt: skip

    def formula(self, inputs):
        """The mask written out over all tokens of the clip, and over those of all prompts."""
        q, k, v = (inputs[name] for name in "qkv")
        frame = torch.arange(self.frames, device=q.device).repeat_interleave(self.rows)
        i, j = frame[:, None], frame[None]
        allowed = (j <= i) & ((i - j <= self.window) | (j == 0))
        far = (j == 0) & (i > self.window)
        q_far = q if not self.pinned else torch.cat((q[:, : self.frames - self.pinned], inputs["q_pinned"]), 1)

        def heads(x):
            return x.flatten(1, 2).transpose(1, 2)

        q, k, v, q_far = heads(q), heads(k), heads(v), heads(q_far)
        scores = [torch.where(far, q_far @ k.mT, q @ k.mT).masked_fill(~allowed, -torch.inf)]
        values = [v]
        for prompt, lengths in enumerate(self.texts):
            text_k, text_v = (inputs[f"text {prompt} {side}"].transpose(1, 2) for side in "kv")
            valid = torch.arange(text_k.shape[2], device=q.device) < torch.tensor(lengths, device=q.device)[:, None]
            asked = torch.tensor(self.text_of or (0,) * self.frames, device=q.device)[frame] == prompt
            seen = valid[:, None, None] & asked[:, None]
            scores.append((q_far @ text_k.mT).masked_fill(~seen, -torch.inf))
            values.append(text_v)
        out = torch.softmax(torch.cat(scores, -1) * self.head_dim**-0.5, -1) @ torch.cat(values, 2)
        return out.transpose(1, 2).unflatten(1, (self.frames, self.rows))

    def gradients(self, function, inputs, upstream):
        """The output and the gradient of every input."""
        inputs = {name: x.detach().requires_grad_() for name, x in inputs.items()}
        out = function(inputs)
        return out, torch.autograd.grad(out, list(inputs.values()), upstream.to(out.dtype))


CLIPS = {
    "one frame": {"frames": 1, "window": 3},
    "inside the window": {"frames": 3, "window": 4},
    "past the window": {"frames": 6, "window": 2},
    "no past but the pinned": {"frames": 4, "window": 0},
    "text of two lengths": {"frames": 5, "window": 1, "texts": ((3, 7),)},
    "a prompt change": {"frames": 5, "window": 2, "texts": ((3, 7), (4, 2)), "text_of": (0, 0, 1, 1, 0)},
    "a second query": {"frames": 5, "window": 1, "pinned": 5},
    "a second query and text": {"frames": 5, "window": 2, "texts": ((4, 1),), "pinned": 5},
    "a second query of the last frames": {"frames": 6, "window": 1, "texts": ((4, 1),), "pinned": 2},
    "heads that Hopper's kernel serves": {
        "frames": 4,
        "window": 1,
        "texts": ((9, 20),),
        "pinned": 2,
        "rows": 30,
        "head_dim": 64,
    },
}
every_clip = pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS.keys())


@every_clip
@every_way
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_output_and_gradients_equal_the_masked_formula(clip, over_pages, device, seed):
    clip = Clip(**clip)
    inputs = {name: x.to(device) for name, x in clip.inputs.items()}
    upstream = torch.randn(inputs["q"].shape, dtype=torch.float64, device=device)
    out, found = clip.gradients(partial(clip.run, over_pages=over_pages), inputs, upstream)
    truth, expected = clip.gradients(clip.formula, inputs, upstream)
    torch.testing.assert_close(out, truth, rtol=0, atol=1e-10)
    for name, ours, theirs in zip(inputs, found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10, msg=f"gradient of {name}")


@every_clip
@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_output_and_gradients_keep_the_error_rule(clip, over_pages, dtype, device, seed):
    clip = Clip(**clip)
    inputs = cast({name: x.to(device) for name, x in clip.inputs.items()}, dtype)
    upstream = torch.randn(inputs["q"].shape, dtype=torch.float64, device=device).to(dtype)
    ours = clip.gradients(partial(clip.run, over_pages=over_pages), inputs, upstream)
    composed = clip.gradients(clip.formula, inputs, upstream)
    exact = clip.gradients(clip.formula, cast(inputs, torch.float64), upstream)
    assert_within_rule(ours, exact, composed)


def counted(monkeypatch):
    """How often the forward pass goes over pages, from here on."""
    module, calls = sys.modules["aapt_ext.training_attention"], []
    original = module.paged_attention

    def counting(*args, **options):
        calls.append(0)
        return original(*args, **options)

    monkeypatch.setattr(module, "paged_attention", counting)
    return calls


def test_a_cpu_keeps_what_its_backward_pass_needs(monkeypatch, seed):
    calls = counted(monkeypatch)
    clip = Clip(3, 1)
    for dtype in (torch.float32, torch.bfloat16):
        clip.run(cast(clip.inputs, dtype), over_pages=None)
    assert not calls


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "times"), [(torch.bfloat16, 1), (torch.float32, 0)])
def test_a_gpu_goes_over_pages_where_the_kernel_has_tensor_cores(dtype, times, monkeypatch, seed):
    calls = counted(monkeypatch)
    clip = Clip(3, 1)
    clip.run({name: x.to("cuda", dtype) for name, x in clip.inputs.items()}, over_pages=None)
    assert len(calls) == times


@every_way
def test_a_frame_that_is_not_seen_changes_nothing(over_pages, seed):
    clip = Clip(6, 2)
    before = clip.run(clip.inputs, over_pages)
    clip.inputs["k"][:, 2], clip.inputs["v"][:, 2] = torch.randn(2, 2, 5, 2, 16, dtype=torch.float64)
    changed = (clip.run(clip.inputs, over_pages) != before).flatten(2).any(-1).any(0)
    assert changed.tolist() == [False, False, True, True, True, False]


@every_way
def test_only_wanted_gradients_are_made(over_pages, seed):
    q, k, v = Clip(3, 1).inputs.values()
    training_attention(q, k.requires_grad_(), v, 1, over_pages=over_pages).sum().backward()
    assert k.grad is not None and q.grad is None and v.grad is None


def test_a_second_derivative_is_refused_over_pages(seed):
    q, k, v = Clip(3, 1).inputs.values()
    out = training_attention(q.requires_grad_(), k, v, 1, over_pages=True)
    (gradient,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@every_way
def test_inputs_may_be_views_of_one_projection(over_pages, seed):
    qkv = torch.randn(1, 4, 5, 3, 2, 16, dtype=torch.float64)
    q, k, v = qkv.unbind(3)
    dense = [x.contiguous() for x in (q, k, v)]
    views, copies = (training_attention(*x, 2, over_pages=over_pages) for x in ((q, k, v), dense))
    assert torch.equal(views, copies)


def text(**changes):
    tokens = torch.zeros(2, 4, 2, 16)
    return ClipText(**{"k": tokens, "v": tokens, "lengths": (4, 4), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": torch.zeros(2, 3, 4, 8)}, r"q has shape \[2, 3, 4, 8\]; it must be \[B, T, L, h, d\]"),
        ({"k": torch.zeros(2, 3, 5, 2, 8)}, "k has shape"),
        ({"v": torch.zeros(2, 3, 5, 2, 16, dtype=torch.float64)}, "v is torch.float64"),
        ({"window": -1}, "window is -1"),
        ({"q_pinned": torch.zeros(2, 4, 5, 2, 16)}, r"q_pinned has shape .* of the last 1 to 3 frames"),
        ({"texts": [text(k=torch.zeros(1, 4, 2, 16))]}, r"texts\[0\].k has shape .* \[2, S, 2, 16\]"),
        ({"texts": [text(v=torch.zeros(2, 3, 2, 16))]}, r"texts\[0\].v has shape"),
        ({"texts": [text(), text(lengths=(0, 3))]}, r"texts\[1\].lengths is \[0, 3\]; .* 1 to S = 4"),
        ({"texts": [text(lengths=(3,))]}, "it must be 2 numbers"),
        ({"text_of": [0, 1, 0]}, r"text_of is \[0, 1, 0\]; it must be T = 3 numbers below 1"),
        ({"text_of": [0, 0]}, "it must be T = 3 numbers"),
    ],
)
def test_a_bad_argument_is_named(changes, message):
    frames = torch.zeros(2, 3, 5, 2, 16)
    arguments = {"q": frames, "k": frames, "v": frames, "window": 1, "texts": [text()]}
    with pytest.raises(ValueError, match=message):
        training_attention(**{**arguments, **changes})
