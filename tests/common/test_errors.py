"""How a command ends: one line and an exit code, whatever comes."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from dien_fuxictr.common.errors import run_command


@pytest.fixture(autouse=True)
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["somewhere/a_command.py", "--option"])


def fails_with(error: BaseException):
    def run() -> int:
        raise error

    return run


def test_unexpected_error_is_one_line_with_logged_traceback(capsys):
    log = Path("new folder", "a.log")
    for count in (1, 2):
        assert run_command(fails_with(KeyError("x")), "", lambda: log) == 1
        assert capsys.readouterr().err == f"error: unexpected KeyError in run_command: 'x'; the traceback is in {log}\n"
        text = log.read_text()
        assert text.count("ERROR somewhere/a_command.py --option\nTraceback (most recent call last):\n") == count
        assert text.count("\nKeyError: 'x'\n") == count
    assert list(Path().iterdir()) == [log.parent]


def test_without_a_log_it_is_in_a_file_of_the_command(capsys):
    assert run_command(fails_with(ValueError("two\nlines")), "") == 1
    assert capsys.readouterr().err.endswith(
        "ValueError in run_command: two lines; the traceback is in a_command.error.log\n"
    )
    assert "ValueError: two\nlines" in Path("a_command.error.log").read_text()


@pytest.mark.parametrize("writable", ["temporary folder", "nothing"])
def test_traceback_without_a_writable_file(capsys, monkeypatch, tmp_path, writable):
    Path("file").touch()
    Path("a_command.error.log").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path if writable == "temporary folder" else tmp_path / "none"))
    assert run_command(fails_with(KeyError("x")), "", lambda: Path("file", "a.log")) == 1
    lines = capsys.readouterr().err.splitlines()
    if writable == "temporary folder":
        (line,) = lines
        file = Path(line.rpartition(" ")[2])
        assert file.parent == tmp_path and file.name.startswith("a_command.error.") and "KeyError" in file.read_text()
    else:
        assert "Traceback (most recent call last):" in lines and "KeyError: 'x'" in lines
        assert lines[-1].endswith("the traceback is in the lines above, as no file can be written")


def takes_memory() -> int:
    return len(bytearray(10**18))


def never_ends() -> int:
    return never_ends() + 1


class OutOfMemoryError(RuntimeError):
    """Error like torch's for GPUs."""


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (takes_memory, "out of memory while run_command ran"),
        (
            fails_with(OutOfMemoryError("CUDA out of memory")),
            "out of memory while run_command ran (CUDA out of memory)",
        ),
        (
            fails_with(RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 bytes")),
            "out of memory while run_command ran (DefaultCPUAllocator: can't allocate memory: 4 bytes)",
        ),
        (never_ends, "unexpected RecursionError in run_command: maximum recursion depth exceeded"),
    ],
    ids=["Python", "GPU", "torch", "recursion"],
)
def test_memory_and_recursion(capsys, run, line):
    assert run_command(run, "") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {line}") and error.count("\n") == 1
    assert error.endswith("; the traceback is in a_command.error.log\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (KeyboardInterrupt("all is saved"), 130, "all is saved"),
        (OSError(28, "No space left on device", "a file"), 2, "cannot write a file: No space left on device"),
        (PermissionError(13, "Permission denied", "a file"), 2, "a file: Permission denied"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            2,
            f"torch is not installed for {sys.executable}: activate the environment that has the packages of "
            "requirements.txt, or install them",
        ),
    ],
)
def test_expected_errors_leave_no_traceback_file(capsys, error, code, line):
    assert run_command(fails_with(error), "stopped") == code
    assert capsys.readouterr().err == f"error: {line}\n" and not list(Path().iterdir())


def test_sigterm_ends_a_command_once(capsys):
    """Ignore a second SIGTERM, so that it does not break the first one's work.

    Slurm sends it to all processes of a job, and a sweep sends it to its runs.
    """
    cleaned = []

    def run() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(True)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    assert run_command(run, "stopped") == 143
    assert capsys.readouterr().err == "error: stopped\n" and cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) == before
