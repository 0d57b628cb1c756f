"""Accepted bundle is there to be read whatever becomes of its folder."""

import os
import shutil
from pathlib import Path

import pytest
from made_bundles import other_bundle

from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.golden import check
from dien_fuxictr.serving.kept import Kept
from dien_fuxictr.serving.manifest import read_manifest, stated_digest


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "served")


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    (tmp_path / "kept").mkdir()
    return Kept(tmp_path / "kept")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nothing_is_kept_at_first(kept: Kept) -> None:
    assert stated_digest(kept.link) == ""


def test_it_outlives_its_folder(kept: Kept, folder: Path, tmp_path: Path) -> None:
    digest = read_manifest(folder).digest
    for file in folder.rglob("*"):
        file.chmod(0o555 if file.is_dir() else 0o444)
    folder.chmod(0o555)
    (tmp_path / "link").symlink_to(folder)
    kept.keep(tmp_path / "link", digest)
    folder.chmod(0o755)
    (folder / "encoded").chmod(0o755)
    shutil.rmtree(folder)
    opened = open_bundle(kept.link)
    assert opened.digest == stated_digest(kept.link) == digest and check(opened) == 0


def test_next_bundle_replaces_the_kept_one(kept: Kept, folder: Path, bundle_folder: Path) -> None:
    first = read_manifest(folder).digest
    kept.keep(folder, first)
    files, links = open_files(), os.listdir(kept.link.parent)
    kept.keep(folder, first)
    assert os.listdir(kept.link.parent) == links
    shutil.rmtree(folder)
    second = other_bundle(bundle_folder, folder, 1)
    kept.keep(folder, second)
    shutil.rmtree(folder)
    assert open_bundle(kept.link).digest == second != first
    assert open_files() == files and len(os.listdir(kept.link.parent)) == len(links) == 2


@pytest.mark.parametrize("there", ["another bundle", "no manifest", "nothing", "a file"])
def test_what_was_not_accepted_is_not_kept(there: str, kept: Kept, folder: Path, bundle_folder: Path) -> None:
    digest = read_manifest(folder).digest
    kept.keep(folder, digest)
    files = open_files()
    shutil.rmtree(folder)
    if there == "another bundle":
        other_bundle(bundle_folder, folder, 1)
    elif there == "no manifest":
        folder.mkdir()
    elif there == "a file":
        folder.touch()
    kept.keep(folder, "0" * 32)
    assert open_bundle(kept.link).digest == digest
    assert open_files() == files and len(os.listdir(kept.link.parent)) == 2


def test_what_cannot_be_opened_is_a_warning(kept: Kept, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "gone").symlink_to("nowhere")
    kept.keep(folder, stated_digest(folder))
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(f"bundle {folder} cannot be kept for a worker that starts again: ")
    assert stated_digest(kept.link) == "" and os.listdir(kept.link.parent) == []
