"""quantise, and modulate with a result in fp8: each element within half a step of what it stands for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import aapt_ext
from aapt_ext import Quantised, reference

from .backends import every_path
from .rule import cast, summed_in_own_dtype

DTYPES = [torch.float32, torch.bfloat16, torch.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def activated(x, activation):
    return F.gelu(x, approximate="tanh") if activation == "gelu_tanh" else x


def assert_quantised(found, exact):
    """Holds fp8 rows against the float64 values [..., K] that they stand for.

    The largest of a row is 448 of its scale. A step of e4m3 is at most an eighth of the value, and at least 2^-9.
    """
    values, scale = found
    assert values.shape == exact.shape and scale.shape == exact.shape[:-1]
    torch.testing.assert_close(scale.double(), exact.abs().amax(-1) / 448, rtol=1e-5, atol=1e-30)
    half_step = torch.maximum(exact.abs() / 16, scale.double()[..., None] / 1024)
    error = (reference.dequantise(values, scale).double() - exact).abs()
    excess = error - half_step - 1e-5 * exact.abs().amax(-1, keepdim=True)
    assert (excess <= 0).all(), f"an element is {excess.max():.3g} beyond half a step"


@every_dtype
@pytest.mark.parametrize("activation", ["none", "gelu_tanh"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (17, 33), (5, 1536)])
def test_every_element_is_within_half_a_step(dtype, activation, shape, seed):
    x = (3 * torch.randn(shape, dtype=torch.float64)).to(dtype)
    assert_quantised(aapt_ext.quantise(x, activation), activated(x.double(), activation))


@given(st.integers(1, 40), st.integers(1, 200), st.integers(-120, 120), st.integers(0, 2**31), st.data())
def test_any_shape_at_any_magnitude(rows, width, power, seed, data):
    """Down to rows whose scale would be below its floor, where nothing but the floor's own step is promised."""
    torch.manual_seed(seed)
    x = (torch.randn(rows, width) * 2.0**power).to(data.draw(st.sampled_from(DTYPES[:2])))
    values, scale = aapt_ext.quantise(x)
    expected, expected_scale = reference.quantise(x, "none")
    assert torch.equal(values.view(torch.uint8), expected.view(torch.uint8))
    assert torch.equal(scale, expected_scale)


@every_dtype
def test_every_value_of_bfloat16_within_range_is_rounded_as_torch_does(dtype):
    """In rows whose scale is one."""
    x = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16)
    x = x[x.abs() <= 448]
    x = F.pad(x, (0, -len(x) % 7)).view(-1, 7)
    rows = F.pad(x, (1, 0), value=448.0).to(dtype)
    values, scale = aapt_ext.quantise(rows)
    assert (scale == 1).all()
    assert torch.equal(values[:, 1:].view(torch.uint8), x.to(torch.float8_e4m3fn).view(torch.uint8))


def test_a_row_of_zeros_stays_one_and_nan_stays_nan():
    x = torch.tensor([[0.0, -0.0, 0.0], [1.0, torch.nan, -2.0]])
    values, scale = aapt_ext.quantise(x)
    assert (values[0].float() == 0).all() and 0 < scale[0] < 1e-20
    assert values[1].float().tolist()[::2] == [224, -448] and values[1, 1].float().isnan()


def test_rows_do_not_depend_on_each_other(seed):
    x = torch.randn(9, 40)
    alone = [aapt_ext.quantise(row[None]) for row in x]
    together = aapt_ext.quantise(x)
    assert torch.equal(together.scale, torch.cat([row.scale for row in alone]))
    assert all(torch.equal(a.float(), row.values[0].float()) for a, row in zip(together.values, alone, strict=True))


@every_path
@pytest.mark.parametrize("branch", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 17, 33), (3, 5, 1536)])
def test_modulate_quantises_the_unrounded_result(path, dtype, branch, shape, seed):
    batch, _, width = shape
    x, y = (torch.randn(shape, dtype=torch.float64) * 2 + 1 for _ in range(2))
    gate, scale, shift = torch.randn(3, batch, width, dtype=torch.float64)
    x, y, gate, scale, shift = cast((x, y, gate, scale, shift), dtype)
    arguments = {"y": y, "gate": gate, "scale": scale, "shift": shift} if branch else {"scale": scale}
    with aapt_ext.backend(path):
        residual, found = aapt_ext.modulate(x, **arguments, quantised=True)
        plain, _ = aapt_ext.modulate(x, **arguments)
    exact = aapt_ext.modulate(x.double(), **{name: value.double() for name, value in arguments.items()})[1]
    assert isinstance(found, Quantised)
    assert_quantised(found, exact)
    torch.testing.assert_close(residual, plain, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)


def test_the_reference_keeps_half_a_step_too(seed):
    """In bfloat16 as in float32: it widens first."""
    x = torch.randn(4, 100).bfloat16()
    assert_quantised(reference.quantise(x, "gelu_tanh"), activated(x.double(), "gelu_tanh"))
    with summed_in_own_dtype(), pytest.raises(AssertionError):
        assert_quantised(reference.quantise(x, "gelu_tanh"), activated(x.double(), "gelu_tanh"))


def test_numpy_gets_bytes(seed):
    x = torch.randn(3, 20)
    expected, scale = aapt_ext.quantise(x)
    values, found = aapt_ext.quantise(x.numpy())
    assert values.dtype == np.uint8 and np.array_equal(values, expected.view(torch.uint8).numpy())
    assert np.array_equal(found, scale.numpy())
    words = x.bfloat16().view(torch.uint16).numpy()
    values, _ = aapt_ext.quantise(words, dtype="bf16")
    assert np.array_equal(values, aapt_ext.quantise(x.bfloat16()).values.view(torch.uint8).numpy())
    _, (values, _) = aapt_ext.modulate(x.numpy()[None], quantised=True)
    assert np.array_equal(values[0], aapt_ext.modulate(x[None], quantised=True)[1].values[0].view(torch.uint8).numpy())


def test_fp8_tensors_are_taken_as_they_are(seed):
    """The bound functions take fp8 itself where torch exports it, and its bytes everywhere."""
    x, scale = torch.randn(3, 20), torch.empty(3)
    values = torch.empty(3, 20, dtype=torch.float8_e4m3fn)
    found = aapt_ext.quantise(x, out=values, row_scale=scale)
    assert found.values is values and found.scale is scale
    assert torch.equal(values.float(), aapt_ext.quantise(x).values.float())
    with pytest.raises(ValueError, match="row_scale is given without quantised"):
        aapt_ext.modulate(x[None], row_scale=scale[None])
