"""What a profile of one step shows, and that its names are gone afterwards."""

import json

import pytest

import aapt_ext
from aapt_video.bench import profile
from aapt_video.bench.ranges import OPERATORS, ranges
from aapt_video.bench.workload import Case
from aapt_video.cli import main
from aapt_video.codec import Codec
from aapt_video.model import cached
from aapt_video.model.kernels import Kernels

BLOCKS = 2
WORDS = [
    "profile",
    "--model",
    "tiny",
    "--size",
    "48x32",
    "--window",
    "2",
    "--dtype",
    "float32",
    "--device",
    "cpu",
    "--warm-up",
    "1",
]


def printed(*words: str) -> list[str]:
    """The lines that the command prints."""
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *words: lines.extend(str(words[0]).splitlines()))
        main([*WORDS, *words])
    return lines


def calls(lines: list[str]) -> dict[str, str]:
    """Of every operator in the table."""
    return {line[:18].strip(): line[18:].split()[0] for line in lines if line[:18].strip() in profile.NAMES}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What the command printed, and its trace."""
    trace = tmp_path_factory.mktemp("profile") / "step.json"
    return printed("--trace", str(trace)), json.loads(trace.read_text())


def test_every_operator_is_in_the_table_as_often_as_it_ran(shown):
    assert calls(shown[0]) == {
        "patch_embed": "1", "cache_write": f"{BLOCKS}", "paged_attention": f"{BLOCKS}", "denoise": "1",
        "modulate": f"{2 * BLOCKS + 1}", "linear qkv": f"{BLOCKS}", "linear branch": f"{2 * BLOCKS}",
        "linear hidden": f"{BLOCKS}", "decoder": "1",
    }  # fmt: skip


def test_a_step_in_fp8_shows_its_quantisation_and_its_products():
    """Quantised apart from `modulate`: what attention and the activation of the MLP give."""
    lines = printed("--linears", "fp8")
    found = calls(lines)
    assert found["quantise"] == f"{2 * BLOCKS}" and found["linear qkv"] == f"{BLOCKS}"
    commands = [line for line in lines if line.strip().startswith("ncu ")]
    assert len(commands) == len(OPERATORS) + 1 and all(line.endswith("--linears fp8") for line in commands)


def test_the_trace_names_every_block(shown):
    names = {event.get("name") for event in shown[1]["traceEvents"]}
    assert {f"block {i}" for i in range(BLOCKS)} <= names and f"block {BLOCKS}" not in names


def test_a_command_line_for_each_operator_repeats_the_case(shown):
    lines = [line for line in shown[0] if line.strip().startswith("ncu ")]
    assert [line.split('"')[1] for line in lines] == [f"{name}/" for name in OPERATORS]
    assert all("--model tiny --size 48x32 --window 2 --decoder test --dtype float32" in line for line in lines)


def test_the_program_that_is_handed_to_nsight_runs():
    case = Case.of("tiny", "48x32", 2, dtype="float32", device="cpu")
    words = profile.nsight_commands(case)[0].split(" aapt_video.cli ")[1].replace("cuda", "cpu").split()
    main(words)


def test_names_are_gone_afterwards():
    functions = [cached.run_block, Kernels.linear, Codec.decode_step, *(getattr(aapt_ext, n) for n in OPERATORS)]
    with ranges(BLOCKS):
        assert cached.run_block is not functions[0]
    after = [cached.run_block, Kernels.linear, Codec.decode_step, *(getattr(aapt_ext, n) for n in OPERATORS)]
    assert all(a is b for a, b in zip(functions, after, strict=True))
