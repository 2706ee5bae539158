"""training_attention: a clip's frames see what they will see when they are generated one by one."""

from dataclasses import dataclass

import pytest
import torch

import aapt_ext
from aapt_ext import training_attention

from .rule import assert_within_rule, cast

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
NAMES = ("q", "k", "v", "q_pinned", "text_k", "text_v")


@dataclass
class Clip:
    """Random inputs in float64."""

    frames: int
    window: int
    text: tuple[int, ...] | None = None
    pinned: bool = False
    batch: int = 2
    rows: int = 5
    heads: int = 2
    head_dim: int = 16

    def __post_init__(self):
        shape = (self.batch, self.frames, self.rows, self.heads, self.head_dim)
        present = [True, True, True, self.pinned, self.text is not None, self.text is not None]
        text_shape = (self.batch, max(self.text or (0,)) + 1, self.heads, self.head_dim)
        shapes = [shape] * 4 + [text_shape] * 2
        self.inputs = [
            torch.randn(s, dtype=torch.float64) if given else None for s, given in zip(shapes, present, strict=True)
        ]

    def run(self, inputs):
        named = dict(zip(NAMES, inputs, strict=True))
        return training_attention(
            named.pop("q"), named.pop("k"), named.pop("v"), self.window, text_lengths=self.text, **named
        )

    def formula(self, inputs):
        """The mask written out over all tokens of the clip."""
        q, k, v, q_pinned, text_k, text_v = inputs
        frame = torch.arange(self.frames, device=q.device).repeat_interleave(self.rows)
        i, j = frame[:, None], frame[None]
        allowed = (j <= i) & ((i - j <= self.window) | (j == 0))
        far = (j == 0) & (i > self.window)

        def heads(x):
            return x.flatten(1, 2).transpose(1, 2)

        q, k, v, q_far = heads(q), heads(k), heads(v), heads(q if q_pinned is None else q_pinned)
        score = torch.where(far, q_far @ k.mT, q @ k.mT).masked_fill(~allowed, -torch.inf)
        if text_k is not None:
            valid = torch.arange(text_k.shape[1], device=q.device) < torch.tensor(self.text, device=q.device)[:, None]
            text = (q_far @ text_k.transpose(1, 2).mT).masked_fill(~valid[:, None, None], -torch.inf)
            score, v = torch.cat((text, score), -1), torch.cat((text_v.transpose(1, 2), v), 2)
        out = torch.softmax(score * self.head_dim**-0.5, -1) @ v
        return out.transpose(1, 2).unflatten(1, (self.frames, self.rows))

    def gradients(self, function, inputs, upstream):
        """The output and the gradient of every input that is there."""
        inputs = [None if x is None else x.detach().requires_grad_() for x in inputs]
        out = function(inputs)
        return out, torch.autograd.grad(out, [x for x in inputs if x is not None], upstream.to(out.dtype))


CLIPS = {
    "one frame": {"frames": 1, "window": 3},
    "inside the window": {"frames": 3, "window": 4},
    "past the window": {"frames": 6, "window": 2},
    "no past but the pinned": {"frames": 4, "window": 0},
    "text of two lengths": {"frames": 5, "window": 1, "text": (3, 7)},
    "a second query": {"frames": 5, "window": 1, "pinned": True},
    "a second query and text": {"frames": 5, "window": 2, "text": (4, 1), "pinned": True},
}
every_clip = pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS.keys())


@every_clip
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_output_and_gradients_equal_the_masked_formula(clip, device, seed):
    clip = Clip(**clip)
    inputs = [None if x is None else x.to(device) for x in clip.inputs]
    upstream = torch.randn(inputs[0].shape, dtype=torch.float64, device=device)
    out, found = clip.gradients(clip.run, inputs, upstream)
    truth, expected = clip.gradients(clip.formula, inputs, upstream)
    torch.testing.assert_close(out, truth, rtol=0, atol=1e-10)
    for name, ours, theirs in zip([n for n, x in zip(NAMES, inputs, strict=True) if x is not None], found, expected,
                                  strict=True):  # fmt: skip
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10, msg=f"gradient of {name}")


@every_clip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_output_and_gradients_keep_the_error_rule(clip, dtype, device, seed):
    clip = Clip(**clip)
    inputs = cast([None if x is None else x.to(device) for x in clip.inputs], dtype)
    upstream = torch.randn(inputs[0].shape, dtype=torch.float64, device=device).to(dtype)
    ours = clip.gradients(clip.run, inputs, upstream)
    composed = clip.gradients(clip.formula, inputs, upstream)
    exact = clip.gradients(clip.formula, cast(inputs, torch.float64), upstream)
    assert_within_rule(ours, exact, composed)


def test_a_frame_that_is_not_seen_changes_nothing(seed):
    clip = Clip(6, 2)
    before = clip.run(clip.inputs)
    clip.inputs[1][:, 2], clip.inputs[2][:, 2] = torch.randn(2, 2, 5, 2, 16, dtype=torch.float64)
    changed = (clip.run(clip.inputs) != before).flatten(2).any(-1).any(0)
    assert changed.tolist() == [False, False, True, True, True, False]


def test_only_wanted_gradients_are_made(seed):
    q, k, v, *_ = Clip(3, 1).inputs
    training_attention(q, k.requires_grad_(), v, 1).sum().backward()
    assert k.grad is not None and q.grad is None and v.grad is None


def test_inputs_may_be_views_of_one_projection(seed):
    qkv = torch.randn(1, 4, 5, 3, 2, 16, dtype=torch.float64)
    q, k, v = qkv.unbind(3)
    dense = [x.contiguous() for x in (q, k, v)]
    assert torch.equal(training_attention(q, k, v, 2), training_attention(*dense, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": torch.zeros(2, 3, 4, 8)}, r"q has shape \[2, 3, 4, 8\]; it must be \[B, T, L, h, d\]"),
        ({"k": torch.zeros(2, 3, 5, 2, 8)}, "k has shape"),
        ({"v": torch.zeros(2, 3, 5, 2, 16, dtype=torch.float64)}, "v is torch.float64"),
        ({"window": -1}, "window is -1"),
        ({"text_v": None}, "text_v is missing"),
        ({"text_k": torch.zeros(1, 4, 2, 16)}, r"text_k has shape .* \[2, any, 2, 16\]"),
        ({"text_lengths": [0, 3]}, r"text_lengths is \[0, 3\]; .* 1 to S = 4"),
        ({"text_lengths": [3]}, "it must be 2 numbers"),
    ],
)
def test_a_bad_argument_is_named(changes, message):
    frames, text = torch.zeros(2, 3, 5, 2, 16), torch.zeros(2, 4, 2, 16)
    arguments = {"q": frames, "k": frames, "v": frames, "window": 1, "text_k": text, "text_v": text}
    with pytest.raises(ValueError, match=message):
        aapt_ext.training_attention(**{**arguments, **changes})
