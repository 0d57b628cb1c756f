"""Commit of a folder, and when there is none to name."""

import subprocess
from pathlib import Path

import pytest

from dien_fuxictr.common.revision import revision


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    for folder in ("code", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_commit_and_changes_of_tracked_files_of_the_folder(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    (repository / "code" / "untracked").write_text("1")
    (repository / "other" / "file").write_text("2")
    assert revision(repository / "code") == head and len(head) == 40
    assert revision(repository) == f"{head}+changes"


def test_no_revision_of_an_untracked_folder(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "unpacked").mkdir()
    (repository / "unpacked" / "file").write_text("1")
    assert revision(repository / "unpacked") is None
    assert revision(repository / "missing") is None
    monkeypatch.setenv("PATH", "")
    assert revision(repository) is None


def test_no_revision_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert revision(tmp_path) is None
