"""A folder is built once: under a lock, in a temporary folder beside it, and published when whole."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import folder_beside, replace_folder

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
    try:
        with folder_beside(data_dir, is_locked=True) as folder:
            build(folder)
            fingerprint.files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            fingerprint.save(folder)
            _publish(folder, data_dir, fingerprint, old)
    except (OSError, pl.exceptions.PolarsError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise UserError(f"the disk is full: cannot build {data_dir}; what was written is removed") from error
        if isinstance(error, OSError):
            reason = error.strerror if error.filename == str(data_dir) else error
            raise UserError(f"cannot build {data_dir}: {reason}") from error
        raise


def _publish(folder: Path, data_dir: Path, fingerprint: Fingerprint, old: Fingerprint | None) -> None:
    if not data_dir.exists():
        replace_folder(folder, data_dir)
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
