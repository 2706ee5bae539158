"""The command line: what it lists, what it refuses."""

import subprocess
import sys
from importlib import import_module

import pytest

from aapt_video.cli import COMMANDS, main


def test_every_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    shown = capsys.readouterr().out
    for command in COMMANDS:
        module = import_module(command.module)
        assert callable(getattr(module, command.function))
        assert getattr(module, command.arguments).__doc__
        assert command.words in shown


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_every_command_explains_itself(command, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as ended:
        main([*command.words.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: aapt-video {command.words}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        ("--help", ("torch", "numpy", "tyro", "aapt_ext")),
        ("doctor", ("aiohttp", "av", "PIL", "aapt_video.stream", "aapt_video.serve")),
    ],
)
def test_a_command_imports_nothing_that_it_does_not_need(words: str, unwanted: tuple[str, ...]) -> None:
    seen = f"print(sorted({set(unwanted)} & set(sys.modules)))"
    program = f"import sys; from aapt_video.cli import main; main([{words!r}]); {seen}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_on_part_of_a_command_lists_what_begins_so(capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "make", "--help"])
    shown = capsys.readouterr().out
    assert "data make doom" in shown
    assert "data inspect" not in shown


@pytest.mark.parametrize(
    ("words", "said"), [(["dance"], "unknown command: dance"), (["data"], "incomplete command: data")]
)
def test_a_command_that_is_none_ends_with_status_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_users_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", "inspect", "/nowhere"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("aapt-video data inspect: /nowhere: no dataset")
