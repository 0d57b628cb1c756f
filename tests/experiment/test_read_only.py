"""A read-only checkout: other folders for outputs, and commands that only read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion

from dien_fuxictr.experiment.cli import main

ROOT = Path(__file__).parents[2]


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_a_run_with_folders_of_its_own(workspace, tmp_path, monkeypatch):
    """Use relative folders below the working directory.

    The configuration's folder has folders of these names, too.
    """
    workspace.use_csv()
    before = files(workspace.folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    command = ["--config", "../config", "--expid", "Tiny_test"]
    assert main([*command, "--data-root", "built", "--model-root", "models"]) == 0
    assert {path.name for path in elsewhere.iterdir()} == {"built", "models", "config.csv"}
    assert (elsewhere / "models" / "tiny" / "Tiny_test.model").is_file() and (elsewhere / "built" / "tiny").is_dir()
    assert {path: content for path, content in files(workspace.folder).items() if path in before} == before
    assert not list((workspace.folder / "built").iterdir())


@pytest.fixture
def refuse_writes(monkeypatch):
    """Refuse to create or open files below a folder, as if mounted read-only.

    This also works for root.
    """

    def start(*folders: Path) -> None:
        def is_below(path: object) -> bool:
            return isinstance(path, (str, os.PathLike)) and any(
                Path(os.path.abspath(path)).is_relative_to(folder) for folder in folders
            )

        def hook(event: str, arguments: tuple) -> None:
            writes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink")
            if event == "open":
                _, mode, flags = arguments
                writes = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))
            if active and writes and is_below(arguments[0]):
                raise OSError(30, "Read-only file system", str(arguments[0]))

        sys.addaudithook(hook)

    active = [True]
    yield start
    active.clear()


@pytest.mark.parametrize("mode", ["--eval-only", "--predict"])
def test_commands_that_read_write_nothing_but_their_output(workspace, capsys, refuse_writes, tmp_path_factory, mode):
    workspace.use_csv()
    assert workspace.run() == 0
    before = files(workspace.folder)
    out = tmp_path_factory.mktemp("out") / "scores.csv"
    refuse_writes(workspace.folder)
    capsys.readouterr()
    arguments = ["--eval-only"] if mode == "--eval-only" else ["--predict", "test.csv", "--out", str(out)]
    assert workspace.run(*arguments) == 0
    error = capsys.readouterr().err
    assert error.count("warning: ") == 1
    assert "warning: no log is kept: cannot write checkpoints/tiny/Tiny_test.log: Read-only file system" in error
    assert files(workspace.folder) == before
    assert out.is_file() == (mode == "--predict")
    assert workspace.run() == 2
    assert "cannot write config.csv: Read-only file system" in capsys.readouterr().err


# A user without a name and a home, who may read all files (Python may be in root's home) and write their own.
NOBODY = "12345"
AS_NOBODY = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
AS_NOBODY += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]


def can_be_nobody() -> bool:
    return os.getuid() == 0 and bool(shutil.which("setpriv")) and not subprocess.call([*AS_NOBODY, "true"])


@pytest.mark.skipif(not can_be_nobody(), reason="only root, with setpriv, can become another user")
def test_a_user_without_a_name_or_a_home(tmp_path):
    """Run as `docker run --user 12345` in a checkout of root's.

    A first command is followed by one that only reads.
    """
    if TorchVersion(torch.__version__) < (2, 13):
        pytest.skip("torch before 2.13 makes no optimizer for a user without a name")
    folder = tmp_path / "work"
    folder.mkdir()
    os.chown(folder, int(NOBODY), int(NOBODY))
    command = [*AS_NOBODY, sys.executable, str(ROOT / "run_expid.py"), "--config", str(ROOT / "config")]
    command += ["--data-root", "data", "--model-root", "models", "--set", "epochs=1", "verbose=0"]
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    error = run()
    assert error.count("warning: ") == 1 and error.count("recurrence_backend auto is torch here") == 1
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 0, 0)
    before = files(folder)
    error = run("--eval-only")
    assert error.count("warning: ") == 2 and error.count("no log is kept: cannot write") == 1
    assert files(folder) == before
