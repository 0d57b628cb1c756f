"""Every command has --version, and names itself and others as it was called."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from dien_fuxictr import __version__
from dien_fuxictr.common import command_parser
from dien_fuxictr.common.errors import fail

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(file.stem for file in ROOT.glob("*.py"))
MODULES = [f"dien_fuxictr.dataset.{name}" for name in ("generate_sample", "generate_log", "copy_samples")]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def called(program: str, command: str, *arguments: str) -> str:
        """Return the output of a command that was started as `program`."""
        monkeypatch.setattr(sys, "argv", [program])
        main = runpy.run_path(str(ROOT / f"{command}.py"))["main"]
        with pytest.raises(SystemExit):
            main(list(arguments))
        return capsys.readouterr().out

    return called


@pytest.mark.parametrize("command", COMMANDS)
def test_command_prints_its_version(command: str, called) -> None:
    assert called(f"/project/{command}.py", command, "--version") == f"{command}.py (dien-fuxictr) {__version__}\n"
    assert called(f"/usr/bin/{command}", command, "--version") == f"{command} (dien-fuxictr) {__version__}\n"


@pytest.mark.parametrize("module", MODULES)
def test_module_prints_its_version(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--version"])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit):
        runpy.run_module(module, run_name="__main__")
    assert capsys.readouterr().out == f"python -m {module} (dien-fuxictr) {__version__}\n"


def test_the_commands_are_those_of_the_project() -> None:
    scripts = re.findall(r'^(\w+) = "dien_fuxictr\.commands:\w+"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert sorted(scripts) == sorted(command_parser._NAMES) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_an_installed_command_names_no_file_of_a_checkout(command: str, called) -> None:
    arguments = ["log", "--help"] if command == "build_dataset" else ["--help"]
    in_checkout, installed = (called(program, command, *arguments) for program in (f"{command}.py", f"bin/{command}"))
    assert in_checkout.startswith(f"usage: {command}.py ") and installed.startswith(f"usage: {command} ")
    assert f"{command}.py" not in installed


def test_a_message_names_commands_as_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for program, expected in (("run_serve.py", "python run_expid.py"), ("bin/run_serve", "run_expid")):
        monkeypatch.setattr(sys, "argv", [program])
        assert fail("no checkpoint: python run_expid.py trains it", 2) == 2
        assert capsys.readouterr().err == f"error: no checkpoint: {expected} trains it\n"
