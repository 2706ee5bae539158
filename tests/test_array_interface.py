"""What the bound functions take for an array, and what they refuse: torch, NumPy, anything that speaks DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import aapt_ext
from aapt_ext import _C
from aapt_ext.layout import page_shapes

B, L, D, H, HEAD = 1, 6, 8, 2, 4


class OnlyDLPack:
    """An array of an unknown library: it wraps a tensor and offers the two methods of the protocol."""

    def __init__(self, tensor: torch.Tensor, newest: bool = True) -> None:
        self.tensor, self.newest = tensor, newest

    def __dlpack__(self, **options: Any) -> Any:
        if not self.newest and "max_version" in options:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()


class NoCapsule(OnlyDLPack):
    def __dlpack__(self, **options: Any) -> Any:
        return "not a capsule"


class NoDevice(OnlyDLPack):
    def __dlpack_device__(self) -> Any:
        return None


def modulate(x: Any, out: Any, weight: Any = None, **options: Any) -> None:
    _C.modulate(x, None, None, None, None, weight, None, 1e-6, None, out, **options)


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, weight, and modulate's result as torch computes it."""
    x, weight = torch.randn(B, L, D), torch.randn(D)
    return x, weight, torch.nn.functional.layer_norm(x, (D,), weight, None, 1e-6)


def test_numpy_float32(seed: int) -> None:
    x, weight, expected = tensors()
    out = np.full((B, L, D), np.nan, np.float32)
    modulate(x.numpy(), out, weight.numpy())
    torch.testing.assert_close(torch.from_numpy(out), expected)


def test_numpy_words_are_bfloat16_where_the_caller_says_so(seed: int) -> None:
    x, weight, _ = (t.bfloat16() for t in tensors())
    words = [t.view(torch.uint16).numpy() for t in (x, weight)]
    out = np.zeros((B, L, D), np.uint16)
    modulate(words[0], out, words[1], dtype="bf16")
    expected = torch.empty_like(x)
    modulate(x, expected, weight)
    assert np.array_equal(out, expected.view(torch.uint16).numpy())
    with pytest.raises(ValueError, match="x has an unsupported dtype"):
        modulate(words[0], out, words[1])


def test_the_public_function_answers_in_the_callers_library(seed: int) -> None:
    x, weight, expected = tensors()
    _, out = aapt_ext.modulate(x.numpy(), weight=weight.numpy())
    assert isinstance(out, np.ndarray)
    torch.testing.assert_close(torch.from_numpy(out), expected)


@pytest.mark.parametrize("newest", [True, False], ids=["versioned capsule", "old capsule"])
def test_anything_that_speaks_dlpack(newest: bool, seed: int) -> None:
    x, weight, expected = tensors()
    out = torch.full_like(x, torch.nan)
    modulate(*(OnlyDLPack(t, newest) for t in (x, out, weight)))
    torch.testing.assert_close(out, expected)


def test_libraries_may_be_mixed(seed: int) -> None:
    x, weight, expected = tensors()
    out = torch.empty_like(x)
    modulate(x.numpy(), out, OnlyDLPack(weight))
    torch.testing.assert_close(out, expected)


@pytest.mark.gpu
def test_cupy(seed: int) -> None:
    cupy = pytest.importorskip("cupy")
    x, weight, expected = tensors()
    out = cupy.empty((B, L, D), cupy.float32)
    modulate(cupy.asarray(x.numpy()), out, cupy.asarray(weight.numpy()))
    torch.testing.assert_close(torch.from_numpy(cupy.asnumpy(out)), expected)


def test_a_read_only_input_is_read_and_a_read_only_output_refused(seed: int) -> None:
    x, _, _ = tensors()
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    if tuple(map(int, np.__version__.split(".")[:2])) >= (2, 1):
        modulate(frozen, np.empty_like(frozen))
    before = frozen.copy()
    with pytest.raises(ValueError, match=r"out (is read-only|cannot be exported)"):
        modulate(x.numpy(), frozen)
    assert np.array_equal(frozen, before)


def test_a_refused_array_is_given_back(seed: int) -> None:
    tensor = torch.zeros(1, 1, 1, 1, 1, 1, 1)
    uses = tensor._use_count()
    with pytest.raises(ValueError, match="x has 7 dimensions"):
        modulate(OnlyDLPack(tensor), torch.zeros(1, 1, 1))
    assert tensor._use_count() == uses


BAD_ARRAYS = {
    "none": None,
    "number": 3,
    "string": "x",
    "list": [[1.0]],
    "class": torch.Tensor,
    "no capsule": NoCapsule(torch.zeros(B, L, D)),
    "no device": NoDevice(torch.zeros(B, L, D)),
    "objects": np.array([None]),
    "float16": torch.zeros(B, L, D, dtype=torch.float16),
    "complex": torch.zeros(B, L, D, dtype=torch.complex64),
    "sparse": torch.zeros(B, L, D).to_sparse(),
    "meta": torch.zeros(B, L, D, device="meta"),
    "scalar": torch.tensor(1.0),
    "backwards": np.zeros((B, L, D), np.float32)[:, ::-1],
    "transposed": torch.zeros(B, D, L).transpose(1, 2),
    "seven dimensions": torch.zeros(1, 1, 1, 1, 1, 1, 1),
}


@pytest.mark.parametrize("argument", ["x", "out"])
@pytest.mark.parametrize("bad", BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_what_is_no_dense_array_is_refused_by_its_name(argument: str, bad: Any) -> None:
    good = torch.zeros(B, L, D)
    with pytest.raises(ValueError, match=rf"\b{argument}\b"):
        modulate(**{"x": good, "out": good.clone(), argument: bad})


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"dtype": 3}, {"stream": "0"}, {"stream": 1 << 80}], ids=str)
def test_a_wrong_option_is_refused_by_its_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        modulate(torch.zeros(B, L, D), torch.zeros(B, L, D), **options)


def good_calls() -> dict[str, list[Any]]:
    """Positional arguments of every bound function that it takes."""
    pages = page_shapes("tiled", 2, H, L, HEAD, torch.float32)
    k_pages, v_pages, page = torch.zeros(pages[0]), torch.zeros(pages[1]), torch.zeros(1, dtype=torch.int32)
    query, x, latent = torch.zeros(B, L, H, HEAD), torch.zeros(B, L, D), torch.zeros(B, 3, 4, 6)
    row, one = torch.zeros(B, D), torch.ones(1, dtype=torch.int32)
    segment = (k_pages, v_pages, L, page[None], one, one, 0)
    return {
        "modulate": [x, x, row, row, row, torch.ones(D), torch.ones(D), 1e-6, x.clone(), x.clone()],
        "quantise": [x[0], "none", torch.zeros(L, D, dtype=torch.uint8), torch.zeros(L)],
        "cache_write": [
            torch.zeros(B, L, 3, H, HEAD), torch.ones(HEAD), torch.ones(HEAD), 1e-6, torch.zeros(B, 1, 2),
            torch.zeros(L, 1, 2), torch.zeros(B, 1, 2), page, k_pages, v_pages, query, query.clone(),
        ],
        "paged_attention": [[query], [segment], 1.0, query.clone(), torch.zeros(B, H, L)],
        "patch_embed": [[latent], torch.zeros(D, 12), torch.zeros(D), x],
        "denoise": [x, row, row, torch.zeros(12, D), torch.zeros(12), latent, 0.5, 1e-6, latent.clone()],
        "linear": [x[0], torch.zeros(D, D), torch.zeros(D), "none", x[0].clone()],
    }  # fmt: skip


@pytest.mark.parametrize("name", good_calls())
def test_the_calls_that_the_fuzzing_breaks_are_good(name: str) -> None:
    getattr(_C, name)(*good_calls()[name])


garbage = st.one_of(
    st.sampled_from(list(BAD_ARRAYS.values())),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.none() | st.integers() | st.text(max_size=1), max_size=8),
    st.lists(st.integers(0, 3), max_size=7).map(lambda shape: torch.zeros(shape)),
    st.lists(st.integers(0, 3), max_size=7).map(lambda shape: np.zeros(shape, np.int32)[..., ::-1] if shape else 0),
)


@pytest.mark.parametrize("name", good_calls())
@given(data=st.data())
def test_garbage_raises_and_never_crashes(name: str, data: st.DataObject) -> None:
    arguments = good_calls()[name]
    nested = [
        (i, j) for i, a in enumerate(arguments) if isinstance(a, list) and isinstance(a[0], tuple) for j in range(7)
    ]
    places: list[tuple[int, int | None]] = [(i, None) for i in range(len(arguments))] + nested
    for i, j in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3, unique=True)):
        value = data.draw(garbage)
        if j is None:
            arguments[i] = value
        elif isinstance(arguments[i], list) and arguments[i] and isinstance(arguments[i][0], tuple):
            arguments[i] = [(*arguments[i][0][:j], value, *arguments[i][0][j + 1 :])]
    try:
        getattr(_C, name)(*arguments)
    except (ValueError, TypeError) as error:
        assert str(error)
