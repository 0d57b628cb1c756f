"""Checks of a file before the work for it."""

import errno
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import folder_beside, replace_folder, require_writable, write_atomic

FRAME = pl.DataFrame({"score": np.arange(50_000)})


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
    ("path", "reason"),
    [("file/new", "Not a directory"), ("folder", "it already exists and is not a file"), ("pipe", "not a file")],
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
    require_writable(tmp_path / "old", append=True)  # an appendable file in a folder that allows no new file


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 4 KiB, which ends a write as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    "write",
    [
        FRAME.write_csv,
        FRAME.write_parquet,
        lambda file: np.savez(file, scores=FRAME["score"].to_numpy()),
        lambda file: file.write(b"x" * 100_000),
    ],
    ids=["polars csv", "polars parquet", "numpy", "bytes"],
)
@pytest.mark.usefixtures("small_files")
def test_full_disk_is_reported_for_every_writer(tmp_path: Path, write: Callable[[IO[bytes]], object]) -> None:
    file = tmp_path / "scores.csv"
    with pytest.raises(UserError) as error:
        write_atomic(file, write)
    assert str(error.value) == f"cannot write {file}: File too large"
    assert not list(tmp_path.iterdir())


def test_a_link_to_nothing_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("none")
    for append in (False, True):
        with pytest.raises(UserError, match=r"link: it is a link to none, which does not exist"):
            require_writable(tmp_path / "link", append)


def test_errors_of_a_writer_are_not_those_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_atomic(tmp_path / "file", lambda _: {}["absent"])


def put(path: Path, content: str) -> None:
    with folder_beside(path) as new:
        assert new.name == path.name and not list(new.iterdir())
        (new / "file").write_text(content)
        replace_folder(new, path)


def test_folder_is_replaced_by_a_complete_one(tmp_path):
    path = tmp_path / "no" / "folder"
    for content in ("one", "two"):
        put(path, content)
        assert (path / "file").read_text() == content and [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_incomplete_folder_keeps_the_old_one(tmp_path, error):
    path = tmp_path / "folder"
    put(path, "old")
    before = state(tmp_path)
    with pytest.raises(type(error)), folder_beside(path) as new:
        (new / "file").write_text("half")
        raise error
    assert state(tmp_path) == before


def test_an_old_folder_comes_back_if_the_new_one_is_refused(tmp_path, monkeypatch):
    path, rename = tmp_path / "folder", os.rename
    put(path, "old")

    def refused(source: Path, target: Path) -> None:
        if (source / "file").read_text() == "new":
            raise PermissionError(13, "Permission denied", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(PermissionError) as refusal:
        put(path, "new")
    assert refusal.value.filename == str(path), "the hidden folder means nothing to a user"
    assert (path / "file").read_text() == "old" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("is_locked", [True, False])
def test_what_a_killed_process_has_left_goes_under_a_lock(tmp_path, is_locked):
    left = tmp_path / ".folder.building-x"
    left.mkdir()
    with folder_beside(tmp_path / "folder", is_locked=is_locked):
        assert left.exists() != is_locked
