"""Digests of a bundle's files: it is read as it was written, or not at all."""

import hashlib
import json
import re
import time
from pathlib import Path
from typing import NamedTuple

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import digest

MANIFEST = "manifest.json"
_FORMAT = 1


class Manifest(NamedTuple):
    """Files of a bundle.

    Attributes:
        digest: digest of all files together.
        files: name, relative to the bundle -> digest.
        written: time of writing, in seconds since 1970.
    """

    digest: str
    files: dict[str, str]
    written: float


def write_manifest(folder: Path) -> str:
    """Write the digests of a bundle's files; return the digest of all together."""
    files = [file for file in folder.rglob("*") if file.is_file() and file != folder / MANIFEST]
    digests = {file.relative_to(folder).as_posix(): digest(file) for file in sorted(files)}
    content = {"format": _FORMAT, "digest": _together(digests), "written": int(time.time()), "files": digests}
    (folder / MANIFEST).write_text(json.dumps(content, indent=2), encoding="utf-8")
    return content["digest"]


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a bundle, after comparing all files with it.

    Raises:
        UserError: the folder is not a bundle or has another version, a file is missing or changed, or there are further
            files.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise UserError(
            f"{folder} is not a bundle: {MANIFEST} is missing; run_serve.py --expid ID --publish writes a bundle"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        form, together, digests = content["format"], content["digest"], dict(content["files"])
        # An older bundle does not store it: use the file's time, which a copy may change.
        written = float(content["written"] if "written" in content else file.stat().st_mtime)
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise UserError(f"bundle {folder}: {MANIFEST} is damaged") from error
    if form != _FORMAT:
        raise UserError(f"bundle {folder}: format = {form} in {MANIFEST} must be {_FORMAT}; write the bundle again")
    if _together(digests) != together:
        raise UserError(f"bundle {folder}: {MANIFEST} is damaged: its digest does not match its files")
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    found = {path.relative_to(folder).as_posix() for path in paths}
    if further := sorted(found - digests.keys() - {MANIFEST}):
        raise UserError(f"bundle {folder} holds {further[0]}, which its {MANIFEST} does not name; remove the file")
    for name, expected in digests.items():
        if name not in found or not (folder / name).is_file():
            raise UserError(f"bundle {folder}: {name} is missing")
        if digest(folder / name) != expected:
            raise UserError(f"bundle {folder}: {name} does not match its digest in {MANIFEST}")
    return Manifest(together, digests, written)


def stated_digest(folder: Path) -> str:
    """Return the digest in a bundle's manifest; empty if it cannot be read.

    The files of the bundle are not compared with it.
    """
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        digest = content["digest"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{32}", digest) else ""


def _together(digests: dict[str, str]) -> str:
    return hashlib.blake2b(json.dumps(digests, sort_keys=True).encode(), digest_size=16).hexdigest()
