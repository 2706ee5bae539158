"""What torch knows of the operators: schema, fake kernel, gradient, compilation."""

from types import SimpleNamespace

import pytest
import torch
from torch import library

import aapt_ext
from aapt_ext import reference

from .test_cache_write import Frame, poisoned_pool
from .test_paged_attention import SHAPES, Case


def _random(*shape, grad=True, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype).requires_grad_(grad)


def attention_call(grad):
    case = Case(*SHAPES["text, pinned, window"], torch.float64, "tiled")
    arguments = case.formula_arguments()
    for tensor in (*arguments[0], *arguments[1], *arguments[2]):
        tensor.requires_grad_(grad)
    return "paged_attention", reference.paged_attention, arguments


def patch_embed_call(grad):
    sources = [_random(2, c, 4, 6, grad=grad) for c in (3, 2)]
    return (
        "patch_embed",
        reference.patch_embed,
        (sources, _random(7, 5, 2, 2, grad=grad), _random(7, grad=grad), 7),
    )


def modulate_call(grad):
    vectors = _random(2, 8, grad=grad), _random(2, 8, grad=grad), None, _random(8, grad=grad)
    return "modulate", reference.modulate, (_random(2, 5, 8, grad=grad), *vectors, 1e-6)


def residual_modulate_call(grad):
    x, y = _random(2, 5, 8, grad=grad), _random(2, 5, 8, grad=grad)
    vectors = _random(2, 8, grad=grad), _random(2, 8, grad=grad), None, None, _random(8, grad=grad)
    return "residual_modulate", reference.residual_modulate, (x, y, *vectors, 1e-6)


def modulate_quantised_call(grad):
    vectors = _random(2, 8, grad=False), None, None, _random(8, grad=False)
    return "modulate_quantised", reference.modulate_quantised, (_random(2, 5, 8, grad=False), *vectors, 1e-6)


def residual_modulate_quantised_call(grad):
    x, y, gate = _random(2, 5, 8, grad=False), _random(2, 5, 8, grad=False), _random(2, 8, grad=False)
    arguments = x, y, gate, None, None, None, None, 1e-6
    return "residual_modulate_quantised", reference.residual_modulate_quantised, arguments


def quantise_call(grad):
    return "quantise", reference.quantise, (_random(5, 8, grad=False), "gelu_tanh")


def denoise_call(grad):
    arguments = (
        _random(2, 6, 8, grad=grad),
        *(_random(2, 8, grad=grad) for _ in range(2)),
        _random(12, 8, grad=grad),
        _random(12, grad=grad),
        _random(2, 3, 4, 6, grad=grad),
        0.7,
        1e-6,
    )
    return "denoise", reference.denoise, arguments


def linear_call(grad):
    arguments = _random(5, 8, grad=grad), _random(7, 8, grad=grad), _random(7, grad=grad), "gelu_tanh", 7
    return "linear", reference.linear, arguments


def cache_write_call(grad):
    frame = Frame(2, 5, 2, 8, "all")
    k_pages, v_pages = poisoned_pool(frame, "tiled", torch.float64).layer(0)
    page = torch.tensor([1, 3], dtype=torch.int32)
    # torch compares the mutated pages by value, and NaN is unequal to itself.
    k_pages.zero_(), v_pages.zero_()
    arguments = (*frame.inputs(torch.float64), page, k_pages, v_pages)
    return "cache_write", reference.cache_write, arguments


WITH_GRADIENT = [
    attention_call,
    patch_embed_call,
    modulate_call,
    residual_modulate_call,
    denoise_call,
    linear_call,
]
WITHOUT_GRADIENT = [cache_write_call, modulate_quantised_call, residual_modulate_quantised_call, quantise_call]
by_name = {"ids": lambda call: call.__name__.removesuffix("_call")}


def flat(arguments):
    return [t for t in torch.utils._pytree.tree_leaves(arguments) if torch.is_tensor(t)]


@pytest.mark.parametrize("call", [*WITH_GRADIENT, *WITHOUT_GRADIENT], **by_name)
def test_opcheck_passes(call, seed):
    name, _, arguments = call(grad=True)
    library.opcheck(getattr(torch.ops.aapt, name).default, arguments)


@pytest.mark.parametrize("call", WITH_GRADIENT, **by_name)
def test_gradients_equal_those_of_the_reference(call, seed):
    name, formula, arguments = call(grad=True)
    inputs = [t for t in flat(arguments) if t.requires_grad]
    assert inputs
    ours = [o for o in flat(getattr(torch.ops.aapt, name)(*arguments)) if o.is_floating_point()]
    theirs = flat(formula(*arguments))
    upstream = [torch.randn_like(o) for o in ours]
    for found, expected in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("call", WITH_GRADIENT, **by_name)
def test_a_second_derivative_is_refused(call, seed):
    name, _, arguments = call(grad=True)
    out = flat(getattr(torch.ops.aapt, name)(*arguments))[0]
    first = next(t for t in flat(arguments) if t.requires_grad)
    (gradient,) = torch.autograd.grad(out.square().sum(), first, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("call", [*WITH_GRADIENT, *WITHOUT_GRADIENT], **by_name)
def test_compilation_keeps_one_graph(call, seed):
    torch.compiler.reset()  # it compiles one function only so many times
    name, _, arguments = call(grad=False)
    operator = getattr(torch.ops.aapt, name)
    eager = flat(operator(*arguments))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(*arguments):
        return operator(*arguments)

    for a, b in zip(eager, flat(compiled(*arguments)), strict=True):
        assert torch.equal(a, b)


def test_a_second_stream_of_inputs_keeps_its_own_dtype(seed):
    """The same operator serves float32 and bfloat16 in turn."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x = torch.randn(1, 3, 8).to(dtype)
        assert aapt_ext.modulate(x)[1].dtype == dtype


def test_the_table_names_every_operator():
    table = aapt_ext.table()
    assert {operator for operator, device in table if device == "cpu"} == set(aapt_ext.dispatch.OPERATORS)
    assert table["modulate", "cpu"] == aapt_ext._C.cpu_backends()[-1]


def test_forcing_ends_with_the_block():
    best = aapt_ext.implementation("linear", "cpu")
    with aapt_ext.backend("portable"):
        assert aapt_ext.implementation("linear", "cpu") == "portable"
        with aapt_ext.backend("reference"):
            assert aapt_ext.implementation("linear", "cpu") == "reference"
        assert aapt_ext.implementation("linear", "cpu") == "portable"
    assert aapt_ext.implementation("linear", "cpu") == best


def test_an_unknown_path_is_refused():
    with pytest.raises(ValueError, match="name is 'sse9'; on this CPU it must be one of auto, portable"):
        aapt_ext.backend("sse9")


def test_the_forced_path_is_the_one_that_runs(monkeypatch, seed):
    """`reference` goes through torch, everything else through the module."""
    calls = SimpleNamespace(module=0)
    original = aapt_ext._C.modulate

    def counting(*args, **options):
        calls.module += 1
        return original(*args, **options)

    monkeypatch.setattr(aapt_ext._C, "modulate", counting)
    x = torch.randn(1, 3, 8)
    with aapt_ext.backend("reference"):
        aapt_ext.modulate(x)
    assert calls.module == 0
    with aapt_ext.backend("portable"):
        aapt_ext.modulate(x)
    assert calls.module == 1
