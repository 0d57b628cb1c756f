"""Build a folder once: locked, in a temporary folder, published when complete."""

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
    """Build in a temporary folder and publish it as `data_dir`.

    The caller holds the lock of `data_dir`. A folder counts as built if it has feature_map.json, which is added last
    and removed first. Files of an earlier build are replaced; all other files in the folder stay.

    Args:
        data_dir: the data set's folder, which may exist.
        build: writes all files into the folder that it is given, which has the name of `data_dir`.
        fingerprint: stored with the set; its `files` are filled in here.
        old: fingerprint of the existing set.

    Raises:
        UserError: the build fails on its input, or the disk is full; no file of it remains.
    """
    try:
        with folder_beside(data_dir, is_locked=True) as folder:
            build(folder)
            fingerprint.files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            fingerprint.save(folder)
            _publish(folder, data_dir, fingerprint, old)
    except (OSError, pl.exceptions.PolarsError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise UserError(
                f"cannot build {data_dir}: the disk is full; the files written so far were removed"
            ) from error
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
            raise UserError(
                f"cannot build: {data_dir / name} already exists and was not written by a build; move it away"
            )
    if old:
        for name in sorted(old.files, key=lambda name: name != FEATURE_MAP):
            (data_dir / name).unlink(missing_ok=True)
    # The list of files is published before the files: after a killed build, the next one may replace all of them.
    ordered = [FINGERPRINT, *(name for name in fingerprint.files if name != FEATURE_MAP), FEATURE_MAP]
    for name in ordered:
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / name, data_dir / name)
