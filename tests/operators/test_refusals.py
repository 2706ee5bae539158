"""Bad input of every kind, for every argument: a ValueError that names the argument, before anything is computed."""

import pytest
import torch

from aapt_ext import _C

F32 = torch.float32


def zeros(*shape, dtype=F32):
    return torch.zeros(shape, dtype=dtype)


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


def attention_arguments():
    return {
        "queries": [zeros(2, 4, 2, 8)],
        "k_pages": zeros(3, 2, 5, 8),
        "v_pages": zeros(3, 2, 5, 8),
        "rows": 5,
        "page_table": ints(0, 2, 1, 1).view(2, 2),
        "page_count": ints(2, 1),
        "last_rows": ints(5, 3),
        "query": 0,
        "scale": 0.5,
        "out": zeros(2, 4, 2, 8),
        "lse": zeros(2, 2, 4),
    }


def attention(a):
    fields = ("k_pages", "v_pages", "rows", "page_table", "page_count", "last_rows", "query")
    _C.paged_attention(a["queries"], [tuple(a[f] for f in fields)], a["scale"], a["out"], a["lse"])


def cache_write_arguments():
    return {
        "qkv": zeros(2, 5, 3, 2, 8),
        "q_weight": zeros(16),
        "k_weight": zeros(16),
        "eps": 1e-6,
        "time_rotation": zeros(2, 1, 2),
        "space_rotation": zeros(5, 3, 2),
        "pinned_rotation": zeros(2, 1, 2),
        "page": ints(0, 1),
        "k_pages": zeros(3, 2, 5, 8),
        "v_pages": zeros(3, 2, 5, 8),
        "q": zeros(2, 5, 2, 8),
        "q_pinned": zeros(2, 5, 2, 8),
    }


def patch_embed_arguments():
    return {
        "sources": [zeros(1, 3, 4, 6), zeros(1, 2, 4, 6)],
        "weight": zeros(7, 5, 2, 2),
        "bias": zeros(7),
        "out": zeros(1, 6, 7),
    }


def modulate_arguments():
    vectors = {name: zeros(2, 8) for name in ("gate", "scale", "shift")}
    tokens = {name: zeros(2, 5, 8) for name in ("residual", "out")}
    return {
        "x": zeros(2, 5, 8), "y": zeros(2, 5, 8), **vectors, "weight": zeros(8), "bias": zeros(8), "eps": 1e-6, **tokens
    }  # fmt: skip


def modulate_quantised_arguments():
    return {**modulate_arguments(), "out": zeros(2, 5, 8, dtype=torch.float8_e4m3fn), "row_scale": zeros(2, 5)}


def quantise_arguments():
    return {
        "x": zeros(5, 8),
        "activation": "none",
        "out": zeros(5, 8, dtype=torch.float8_e4m3fn),
        "row_scale": zeros(5),
    }


def denoise_arguments():
    return {
        "x": zeros(1, 6, 8),
        "scale": zeros(1, 8),
        "shift": zeros(1, 8),
        "weight": zeros(12, 8),
        "bias": zeros(12),
        "noisy": zeros(1, 3, 4, 6),
        "timestep": 1.0,
        "eps": 1e-6,
        "out": zeros(1, 3, 4, 6),
    }


def linear_arguments():
    return {
        "x": zeros(5, 8),
        "weight": zeros(7, 8),
        "bias": zeros(7),
        "activation": "none",
        "out": zeros(5, 7),
    }


OPERATORS = {
    "paged_attention": (attention_arguments, attention),
    "cache_write": (cache_write_arguments, lambda a: _C.cache_write(**a)),
    "patch_embed": (patch_embed_arguments, lambda a: _C.patch_embed(**a)),
    "modulate": (modulate_arguments, lambda a: _C.modulate(**a)),
    "modulate in fp8": (modulate_quantised_arguments, lambda a: _C.modulate(**a)),
    "quantise": (quantise_arguments, lambda a: _C.quantise(**a)),
    "denoise": (denoise_arguments, lambda a: _C.denoise(**a)),
    "linear": (linear_arguments, lambda a: _C.linear(**a)),
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_good_arguments_are_taken(operator):
    arguments, call = OPERATORS[operator]
    call(arguments())


def tensor_arguments():
    for operator, (arguments, _) in OPERATORS.items():
        for name, value in arguments().items():
            if torch.is_tensor(value) or isinstance(value, list):
                yield operator, name


def broken(value, how):
    """One tensor, or the last tensor of a list, spoiled."""
    if isinstance(value, list):
        return [*value[:-1], broken(value[-1], how)]
    if how == "rank":
        return value[None]
    if how == "size":
        return torch.zeros([n + 1 for n in value.shape], dtype=value.dtype)
    if how == "dtype":
        return value.to(torch.int64 if value.dtype == torch.int32 else torch.float64)
    if how == "half":
        return value.half()
    if how == "strides":
        return torch.zeros([2 * n for n in value.shape], dtype=value.dtype)[
            tuple(slice(0, None, 2) for _ in value.shape)
        ]
    return "not an array"


@pytest.mark.parametrize("how", ["rank", "size", "dtype", "strides", "type"])
@pytest.mark.parametrize(("operator", "argument"), list(tensor_arguments()))
def test_a_broken_tensor_is_refused(operator, argument, how):
    if (operator, argument, how) == ("quantise", "x", "dtype"):
        how = "half"  # no other argument says which of the three dtypes it must have
    arguments, call = OPERATORS[operator]
    arguments = arguments()
    arguments[argument] = broken(arguments[argument], how)
    with pytest.raises(ValueError) as error:
        call(arguments)
    message = str(error.value)
    # A size that two arguments share may be blamed on either.
    names = [name for name in arguments if name in message]
    assert names, f"no argument is named: {message}"
    if how in ("strides", "type"):
        assert argument in names, message
    assert "must be" in message, f"no remedy is named: {message}"


VALUES = {
    "page past the pool": (
        "paged_attention",
        {"page_table": ints(0, 3, 0, 0).view(2, 2)},
        r"page_table\[0, 1\] is 3; .* 2$",
    ),
    "negative page": ("paged_attention", {"page_table": ints(0, 0, -1, 0).view(2, 2)}, r"page_table\[1, 0\] is -1"),
    "count past the table": ("paged_attention", {"page_count": ints(3, 1)}, r"page_count\[0\] is 3; .* P = 2"),
    "negative count": ("paged_attention", {"page_count": ints(-1, 1)}, r"page_count\[0\] is -1"),
    "no valid row": ("paged_attention", {"last_rows": ints(0, 1)}, r"last_rows\[0\] is 0; .* between 1 and rows = 5"),
    "rows past the page": ("paged_attention", {"last_rows": ints(6, 1)}, r"last_rows\[0\] is 6"),
    "no such query": ("paged_attention", {"query": 1}, r"query is 1"),
    "rows unlike the pages": ("paged_attention", {"rows": 4}, r"k_pages has shape \[3, 2, 5, 8\]"),
    "negative scale": ("paged_attention", {"scale": -1.0}, "scale is -1"),
    "scale of NaN": ("paged_attention", {"scale": float("nan")}, "scale is nan"),
    "no query": ("paged_attention", {"queries": []}, "queries has 0 tensors"),
    "odd head size": ("paged_attention", {"queries": [zeros(1, 4, 2, 7)]}, "head size d = 7"),
    "write past the pool": ("cache_write", {"page": ints(0, 3)}, r"page\[1\] is 3; .* pages - 1 = 2"),
    "two streams, one page": ("cache_write", {"page": ints(1, 1)}, r"page\[1\] is 1 as is page\[0\]"),
    "one norm weight": ("cache_write", {"k_weight": None}, "k_weight is missing"),
    "pinned without a place": ("cache_write", {"q_pinned": None}, "q_pinned is missing"),
    "too many time pairs": ("cache_write", {"time_rotation": zeros(2, 5, 2)}, "time_rotation has 5 pairs"),
    "eps of zero": ("cache_write", {"eps": 0.0}, "eps is 0"),
    "odd height": ("patch_embed", {"sources": [zeros(1, 5, 3, 6)]}, "even in both"),
    "five sources": ("patch_embed", {"sources": [zeros(1, 1, 4, 6)] * 5}, "sources has 5 tensors"),
    "gate without y": ("modulate", {"y": None, "residual": None}, "gate is given without y"),
    "y without residual": ("modulate", {"residual": None}, "residual is missing"),
    "fp8 without row_scale": ("modulate in fp8", {"row_scale": None}, "out has dtype float8_e4m3fn"),
    "row_scale without fp8": ("modulate", {"row_scale": zeros(2, 5)}, "out has dtype float32; .* float8_e4m3fn"),
    "a product's activation": ("quantise", {"activation": "silu"}, "activation is 'silu'; .* none or gelu_tanh"),
    "rows of nothing": ("quantise", {"x": zeros(5, 0)}, "K at least 1"),
    "negative eps": ("modulate", {"eps": -1.0}, "eps is -1"),
    "timestep past one": ("denoise", {"timestep": 1.5}, "timestep is 1.5"),
    "odd width": ("denoise", {"noisy": zeros(1, 3, 4, 5)}, "even in both"),
    "unknown activation": (
        "linear",
        {"activation": "relu"},
        "activation is 'relu'; it must be none, gelu_tanh or silu",
    ),
    "odd inputs in bf16": (
        "linear",
        {
            "x": zeros(5, 7, dtype=torch.bfloat16),
            "weight": zeros(7, 7, dtype=torch.bfloat16),
            "bias": None,
            "out": zeros(5, 7, dtype=torch.bfloat16),
        },
        "weight has 7 inputs",
    ),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_bad_value_is_refused(case):
    operator, changes, message = VALUES[case]
    arguments, call = OPERATORS[operator]
    with pytest.raises(ValueError, match=message):
        call({**arguments(), **changes})


def test_a_refused_call_writes_nothing():
    arguments, call = OPERATORS["paged_attention"]
    arguments = arguments()
    arguments["out"].fill_(7)
    with pytest.raises(ValueError):
        call({**arguments, "page_table": ints(0, 3, 0, 0).view(2, 2)})
    assert (arguments["out"] == 7).all()
