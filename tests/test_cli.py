"""The command line: help is there at once, mistakes get one line, and only the chosen command is loaded."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from kinalign import __version__
from kinalign.cli import COMMANDS, Command, config_class, main
from kinalign.errors import ConfigError


@dataclass(frozen=True)
class GreetConfig:
    to_whom: str
    """Who is greeted."""
    times: int = 1
    languages: tuple[Literal["en", "fr", "de"], ...] = ("en",)


@pytest.fixture()
def greet(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A command `greet` with a real config; `greet.calls` are the configs it was called with."""
    module = types.ModuleType("greet")
    module.calls = []  # type: ignore[attr-defined]

    def greet(config: GreetConfig) -> None:
        """Say hello."""
        module.calls.append(config)  # type: ignore[attr-defined]

    module.greet = greet  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "greet", module)
    monkeypatch.setitem(COMMANDS, "greet", Command("greet:greet", "Say hello"))
    return module


def failing_with(error: BaseException, greet: types.ModuleType) -> None:
    def fail(config: GreetConfig) -> None:
        raise error

    greet.greet = fail  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_with_what_it_does(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"{name} " in shown
        assert command.does in shown


@pytest.mark.parametrize("arguments", [["data"], ["data", "--help"]])
def test_a_group_lists_its_own_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "data build" in shown
    assert "tokenizer" not in shown


def test_help_loads_neither_torch_nor_numpy() -> None:
    code = "import sys; from kinalign.cli import main; main([]); print({'torch', 'numpy', 'tyro'} & {*sys.modules})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.endswith("set()\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kinalign {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["data", "biuld"], "did you mean 'data build'"),
        (["tokeniser", "train"], "did you mean 'tokenizer'"),
        (["generat", "a person walks"], "did you mean 'generate'"),
        (["qqq"], "unknown command 'qqq'; kinalign --help"),
    ],
)
def test_a_mistyped_command_gets_one_line_that_helps(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("kinalign: error: ")
    assert hint in message
    assert message.count("\n") == 1


def test_options_become_the_config(greet: types.ModuleType) -> None:
    assert main(["greet", "--to-whom", "Ada", "--times", "3"]) == 0
    assert greet.calls == [GreetConfig("Ada", times=3)]


def test_choices_are_one_word_with_commas(greet: types.ModuleType) -> None:
    assert main(["greet", "--languages", "fr,de", "--to-whom", "Ada"]) == 0
    assert greet.calls == [GreetConfig("Ada", languages=("fr", "de"))]


def test_an_unknown_choice_is_told_the_known_ones(greet: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["greet", "--to-whom", "Ada", "--languages", "fr,la"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "la is unknown" in message
    assert "en,fr,de" in message


def test_help_of_a_command_says_what_its_options_mean(
    greet: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["greet", "--help"])
    assert stop.value.code == 0
    assert "Who is greeted." in capsys.readouterr().out


def test_an_unknown_option_exits_with_2(greet: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["greet", "--to-whom", "Ada", "--tmies", "3"])
    assert stop.value.code == 2
    assert "--times" in capsys.readouterr().err
    assert greet.calls == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("times=-1 is too few\n(--times)"), "kinalign: error: times=-1 is too few (--times)\n"),
        (OSError(28, "No space left on device", "a.mp4"), "kinalign: error: No space left on device: a.mp4\n"),
        (PermissionError(13, "Permission denied", "out"), "kinalign: error: Permission denied: out\n"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_2(
    error: Exception, line: str, greet: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    failing_with(error, greet)
    assert main(["greet", "--to-whom", "Ada"]) == 2
    assert capsys.readouterr().err == line


def test_an_interrupt_is_130(greet: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    failing_with(KeyboardInterrupt(), greet)
    assert main(["greet", "--to-whom", "Ada"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_the_traceback_is_there_for_who_asks(greet: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINALIGN_DEBUG", "1")
    failing_with(ConfigError("times=-1 is too few"), greet)
    with pytest.raises(ConfigError):
        main(["greet", "--to-whom", "Ada"])


def test_a_programming_error_keeps_its_traceback(greet: types.ModuleType) -> None:
    failing_with(ZeroDivisionError(), greet)
    with pytest.raises(ZeroDivisionError):
        main(["greet", "--to-whom", "Ada"])


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise on Windows")
def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "from kinalign.cli import main; import sys; sys.exit(main())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_the_console_script_is_this_main() -> None:
    script = Path(sys.executable).with_name("kinalign.exe" if os.name == "nt" else "kinalign")
    answer = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout == f"kinalign {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_one_frozen_dataclass_and_shows_its_options(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module, function = COMMANDS[name].function.split(":")
    kind = config_class(getattr(__import__(module, fromlist=[function]), function))
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert f"kinalign {name}" in capsys.readouterr().out
