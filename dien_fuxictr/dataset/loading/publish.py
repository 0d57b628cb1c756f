"""A folder is built once: under a lock, in a temporary folder beside it, and published when whole."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl

from dien_fuxictr.common.errors import UserError

from .fingerprint import FILE_NAME as FINGERPRINT
from .fingerprint import Fingerprint

FEATURE_MAP = "feature_map.json"


def build_and_publish(
    data_dir: Path, build: Callable[[Path], None], fingerprint: Fingerprint, old: Fingerprint | None
) -> None:
    """Build in a temporary folder and publish it as `data_dir`. The caller holds the lock of `data_dir`.

    What counts as built is a folder with feature_map.json, which comes last and goes first. Files that an earlier build
    wrote are replaced; anything else in the folder stays.

    Args:
        data_dir: the data set's folder, which may exist.
        build: writes all files into the folder that it is given, whose name is that of `data_dir`.
        fingerprint: stored with the set; its `files` are filled in here.
        old: fingerprint of what is there now.

    Raises:
        UserError: the build fails on input, or the disk is full; nothing of it remains.
    """
    prefix = f".{data_dir.name}.building-"
    for stale in data_dir.parent.iterdir():
        if stale.name.startswith(prefix):  # the lock is ours: its builder is dead
            shutil.rmtree(stale, ignore_errors=True)
    try:
        parent = Path(tempfile.mkdtemp(prefix=prefix, dir=data_dir.parent))
        try:
            folder = parent / data_dir.name
            folder.mkdir()
            build(folder)
            fingerprint.files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            fingerprint.save(folder)
            _publish(folder, data_dir, fingerprint, old)
        finally:
            shutil.rmtree(parent, ignore_errors=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise UserError(f"the disk is full: cannot build {data_dir}; what was written is removed") from error
        if isinstance(error, OSError):
            is_ours = prefix in str(error.filename)  # the temporary folder means nothing to a user
            raise UserError(f"cannot build {data_dir}: {error.strerror if is_ours else error}") from error
        raise


def _publish(folder: Path, data_dir: Path, fingerprint: Fingerprint, old: Fingerprint | None) -> None:
    if not data_dir.exists():
        os.rename(folder, data_dir)
        return
    replaceable = {*old.files, FINGERPRINT} if old else set()
    for name in fingerprint.files:
        if (data_dir / name).exists() and name not in replaceable:
            raise UserError(f"{data_dir / name} is in the way of the data set's own file; move it away")
    if old:
        for name in sorted(old.files, key=lambda name: name != FEATURE_MAP):
            (data_dir / name).unlink(missing_ok=True)
    # The list of files comes before the files: a build killed here leaves only what the next one may replace.
    ordered = [FINGERPRINT, *(name for name in fingerprint.files if name != FEATURE_MAP), FEATURE_MAP]
    for name in ordered:
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / name, data_dir / name)
