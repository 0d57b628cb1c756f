"""What is checked before the work that a file is for."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import require_writable


def state(folder: Path) -> dict[Path, tuple[int, bytes | None]]:
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in folder.rglob("*")
    }


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("path", ["old", "new", "no/such/folder/new"])
def test_nothing_is_left_or_changed(tmp_path, path, append):
    (tmp_path / "old").write_text("content")
    before = state(tmp_path)
    require_writable(tmp_path / path, append)
    assert state(tmp_path) == before


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize(
    ("path", "reason"), [("file/new", "Not a directory"), ("folder", "it exists and is no file"), ("pipe", "no file")]
)
def test_what_cannot_be_a_file(tmp_path, path, reason, append):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = state(tmp_path / "folder")
    with pytest.raises(UserError, match=rf"cannot write {tmp_path / path}: .*{reason}"):
        require_writable(tmp_path / path, append)
    assert state(tmp_path / "folder") == before


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    """For root there is none: the file system refuses here."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "old").touch()
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    for name in ("old", "new"):
        with pytest.raises(UserError, match="Read-only file system"):
            require_writable(tmp_path / name)
    require_writable(tmp_path / "old", append=True)  # a file that may be added to, in a folder that takes no new one
