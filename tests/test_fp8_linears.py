"""Linears in fp8: near the exact ones, the same numbers as on a GPU, refused where they cannot be, told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from models import CONFIGS, TINY, Clip, PagedStreams, camera, picture, random_model, tiny_generator
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.torch_version import TorchVersion

import aapt_ext
from aapt_ext import Quantised
from aapt_video import load
from aapt_video.cli import main
from aapt_video.inspection import Inspect, lines
from aapt_video.model import CachedTransformer, cached, fp8
from aapt_video.model.kernels import Projection
from aapt_video.model.size import size
from aapt_video.serve.path import follow
from aapt_video.serve.play import Play, prepare
from aapt_video.stream import Generator, step_together

STEPS = 6  # past the window of four
on_a_cpu = pytest.mark.skipif(
    TorchVersion(torch.__version__) < "2.13", reason="this torch may not multiply rows of fp8 on a CPU"
)
since_ada = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < fp8.CAPABILITY,
    reason="this GPU does not multiply fp8",
)


def rows_in_fp8(layer: torch.nn.Linear) -> Projection:
    """A layer laid out as for a GPU."""
    values, scale = aapt_ext.quantise(layer.weight.detach())
    return Projection(values, layer.bias.detach(), len(values), scale)


def latents(config, dtype, linears=None, device="cpu"):
    """Of every step of two streams [2, C, H, W], each from inputs that do not depend on the step before."""
    with torch.no_grad():
        clip = Clip.random(config, 2, STEPS, dtype).to(device, dtype)
        streams = PagedStreams(random_model(config, dtype=dtype).to(device), clip, linears=linears)
        return [streams.step().cpu() for _ in range(STEPS)]


def velocity_errors(config, dtype, found, exact):
    """Of every step: root mean square, as a share of the exact velocity's."""
    noise = Clip.random(config, 2, STEPS, dtype).noise.unbind(1)
    return [float((a - b).float().norm() / (n - b).float().norm()) for a, b, n in zip(found, exact, noise, strict=True)]


# -- the error --


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [name for name in CONFIGS if CONFIGS[name].width % 16 == 0])
def test_every_kind_of_block_stays_near_the_exact_one(name, dtype):
    """Random weights damp nothing: 2 to 12 per cent."""
    config = CONFIGS[name]
    errors = velocity_errors(config, dtype, latents(config, dtype, "fp8"), latents(config, dtype))
    assert min(errors) > 1e-3 and max(errors) < 0.16, errors


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(np.float64) - b).mean()))


def walk(world: Generator) -> np.ndarray:
    """32 pictures of the shipped world."""
    start = world.gallery[0]
    with world.open(start.prompt, start.image, seed=1) as stream:
        ways = follow("forward 1s, left 45 over 1s", world.speeds, world.fps)[:8]
        return np.concatenate([np.asarray(stream.step(control)) for control in ways])


def test_the_shipped_world_looks_the_same(monkeypatch, one_thread):
    """34.5 to 38 dB from its twelve starts; below 20 dB where a token or a weight takes its neighbour's scale."""
    exact = walk(load("doom", device="cpu", dtype=torch.float32))
    world = load("doom", device="cpu", dtype=torch.float32, linears="fp8")
    assert 30 < psnr(walk(world), exact) < 60
    dequantise = fp8.reference.dequantise
    monkeypatch.setattr(fp8.reference, "dequantise", lambda values, scale: dequantise(values, scale.roll(1)))
    assert psnr(walk(world), exact) < 25
    damaged = load("doom", device="cpu", dtype=torch.float32, linears="fp8")
    monkeypatch.undo()
    assert psnr(walk(damaged), exact) < 25


# -- the way of a GPU --


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=on_a_cpu), pytest.param("cuda", marks=[pytest.mark.gpu, since_ada])]
)
@pytest.mark.parametrize("rows", [1, 6, 33, 1196])
def test_torchs_product_and_ours_multiply_the_same_numbers(rows, device, seed):
    layer = torch.nn.Linear(48, 80).bfloat16()
    x = aapt_ext.quantise(torch.randn(rows, 48))
    expected = fp8.multiply(x, fp8.quantised_projection(layer), torch.float32)
    found = fp8.multiply(Quantised(*(part.to(device) for part in x)), rows_in_fp8(layer.to(device)), torch.bfloat16)
    torch.testing.assert_close(found.cpu().float(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.gpu
@since_ada
@pytest.mark.parametrize("text", ["joint", "cross"])
def test_a_gpu_stays_near_its_exact_steps(text):
    config = replace(TINY, text=text, width=128, mlp=256)
    found, exact = (latents(config, torch.bfloat16, linears, "cuda") for linears in ("fp8", None))
    errors = velocity_errors(config, torch.bfloat16, found, exact)
    assert min(errors) > 1e-3 and max(errors) < 0.16, errors


@on_a_cpu
@pytest.mark.parametrize("name", ["joint, cap", "cross, Wan"])
def test_whole_steps_the_way_of_a_gpu_are_those_of_a_cpu(name, monkeypatch):
    """The same calls as on a GPU, torch's product included; sums in another order may round to a neighbour in fp8."""
    config, products = CONFIGS[name], 0
    expected = latents(config, torch.bfloat16, "fp8")
    product = torch._scaled_mm

    def counted(*arguments, **options):
        nonlocal products
        products += 1
        return product(*arguments, **options)

    monkeypatch.setattr(torch, "_scaled_mm", counted)
    monkeypatch.setattr(cached, "quantised_projection", rows_in_fp8)
    errors = velocity_errors(config, torch.bfloat16, latents(config, torch.bfloat16, "fp8"), expected)
    assert products == STEPS * config.blocks * (6 if config.text == "cross" else 4)
    assert max(errors) < 0.03


def test_torch_takes_the_product_on_a_gpu():
    """Shapes, strides and dtypes pass what torch checks before it calls its kernels there."""
    with FakeTensorMode(), torch.device("cuda"):
        x = Quantised(torch.empty(1196, 64, dtype=torch.float8_e4m3fn), torch.empty(1196))
        weight, scale = torch.empty(192, 64, dtype=torch.float8_e4m3fn), torch.empty(192)
        bias = torch.empty(192, dtype=torch.bfloat16)
        found = fp8.multiply(x, Projection(weight, bias, 192, scale), torch.bfloat16)
    assert found.shape == (1196, 192) and found.dtype == torch.bfloat16 and found.device.type == "cuda"


# -- streams --


def test_streams_do_not_depend_on_their_company(one_thread):
    generator = tiny_generator(linears="fp8")
    starts = [("one", picture(1), 5), ("another", picture(2), 6)]
    alone = []
    for words, image, seed in starts:
        with generator.open(words, image, seed) as stream:
            alone.append(np.concatenate([np.asarray(stream.step(camera(i))) for i in range(3)]))
    with generator.open(*starts[0]) as first, generator.open(*starts[1]) as second:
        together = [step_together([first, second], [camera(i)] * 2, exact=True) for i in range(3)]
    for b in range(2):
        assert np.array_equal(np.concatenate([np.asarray(frames[b]) for frames in together]), alone[b])


def test_forks_and_rewinds_repeat_their_bits(one_thread):
    generator = tiny_generator(linears="fp8")
    with generator.open("words", picture(), 3, history=4) as stream:
        for i in range(3):
            stream.step(camera(i))
        with stream.fork() as branch:
            expected = np.asarray(branch.step(camera(3)))
        stream.step(camera(9))
        stream.rewind(1)
        assert np.array_equal(np.asarray(stream.step(camera(3))), expected)


def test_a_snapshot_goes_on_only_with_the_linears_that_it_was_taken_with(tmp_path, one_thread):
    plain, rounded = tiny_generator(), tiny_generator(linears="fp8")
    with rounded.open("words", picture(), 3) as stream:
        stream.step(camera(0))
        stream.save(tmp_path / "a.snapshot")
        expected = np.asarray(stream.step(camera(1)))
    with pytest.raises(ValueError, match="with other linears"):
        plain.restore(tmp_path / "a.snapshot")
    with tiny_generator(linears="fp8").restore(tmp_path / "a.snapshot") as stream:
        assert np.array_equal(np.asarray(stream.step(camera(1))), expected)


# -- what it says of itself, and what it refuses --


def test_records_and_estimates_tell_of_it():
    plain, rounded = tiny_generator(), tiny_generator(linears="fp8")
    assert "linears" not in plain.describe() and rounded.describe()["linears"] == "fp8"
    held = [getattr(block, name).weight for block in rounded.weights.blocks for name in ("qkv", "out", "up", "down")]
    more = rounded.memory()["transformer"] - plain.memory()["transformer"]
    assert more == sum(weight.nbytes for weight in held)


@pytest.mark.parametrize("text", ["joint", "cross"])
def test_on_a_gpu_the_estimate_counts_a_byte_a_weight_and_the_scales(text):
    config = replace(TINY, text=text)
    block = random_model(config).stack[0]
    layers = [block.qkv, block.out, block.up, block.down]
    layers += [block.cross.q, block.cross.out] if block.cross is not None else []
    expected = config.blocks * sum(layer.weight.numel() + 4 * len(layer.weight) for layer in layers)
    assert size(config, 4, 6, torch.bfloat16, "cuda").fp8_bytes == expected


def test_inspect_counts_it_where_it_is_asked_for():
    with_it, without = (list(lines(Inspect("aapt-8b", linears=linears))) for linears in ("fp8", None))
    assert set(with_it) - set(without) >= {"  weights in fp8       4.08 GB"}
    assert not any("fp8" in line for line in without)


@pytest.mark.parametrize(("changes", "message"), [
    ({"width": 30, "heads": 3}, "width is 30; it must be a multiple of 16"),
    ({"mlp": 50}, "mlp is 50; it must be a multiple of 16"),
])  # fmt: skip
def test_widths_that_the_product_does_not_take_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CachedTransformer(random_model(replace(TINY, **changes)), linears="fp8")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="linears is 'int8'; it must be fp8 or None"):
        CachedTransformer(random_model(TINY), linears="int8")


@pytest.mark.parametrize(("capability", "dtype", "message"), [
    ((8, 0), torch.bfloat16, r"an A100 has compute capability 8\.0; it must be 8\.9 or newer: leave linears out"),
    ((9, 0), torch.float32, r"dtype is torch\.float32; it must be bfloat16 on a GPU"),
])  # fmt: skip
def test_gpus_that_cannot_are_refused(monkeypatch, capability, dtype, message):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "an A100")
    with pytest.raises(ValueError, match=message):
        fp8.check_linears("fp8", TINY, dtype, torch.device("cuda"))
    fp8.check_linears("fp8", TINY, torch.bfloat16, torch.device("cpu"))
    fp8.check_linears(None, TINY, torch.float32, torch.device("cuda"))


def test_commands_take_it(tmp_path):
    out = tmp_path / "clip.mp4"
    main(["generate", "doom", "--frames", "4", "--device", "cpu", "--linears", "fp8", "--out", str(out)])
    assert '"linears": "fp8"' in out.with_suffix(".json").read_text()
    generator, _ = prepare(Play("doom", device="cpu", linears="fp8"))
    assert generator.weights.linears == "fp8"
