"""Files and folders that a user names for a command to write: what commands work with is never overwritten."""

import os
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError

_MARKS = {
    "weights.safetensors": "a bundle",
    "feature_map.json": "a built data set",
    "samples.json": "built samples",
}
_CONFIGURATIONS = ("model_config", "dataset_config", "model_config.yaml", "dataset_config.yaml")
_KINDS = {".model": "a checkpoint", ".resume": "the state of a training", ".yaml": "a configuration"}


def require_output(
    option: str,
    path: Path,
    inputs: Mapping[str, Path | str] | None = None,
    kept: Mapping[str, Path | str] | None = None,
    holds_own: bool = False,
) -> None:
    """Check that a user may have a file or folder written, or overwritten, that they name.

    Args:
        option: that names it, for the message.
        path: the file or folder; need not exist.
        inputs: what the command reads, by what names it.
        kept: folders that hold nothing that a user names, by what names them.
        holds_own: an earlier folder of this name holds what this command writes, and is checked by who writes it.

    Raises:
        UserError: it is an input; it is or lies in a folder of `kept`, a built data set or a bundle, or beside
            configurations; it is a checkpoint; it is a link to nothing.
    """
    if path.is_symlink() and not path.exists():
        raise UserError(f"{option} {path} is a link to {os.readlink(path)}, which does not exist; name another path")
    real, here = path.resolve(), Path.cwd()
    for name, source in (inputs or {}).items():
        if Path(source).exists() and (Path(source).resolve() in (real, *real.parents) or _same(path, source)):
            raise UserError(f"{option} {path} is what the command reads: {name} = {source}; name another path")
    for name, folder in (kept or {}).items():
        if (outer := Path(folder).resolve()) in (real, *real.parents) and not here.is_relative_to(outer):
            raise UserError(f"{option} {path} lies in {name} = {folder}; name a path elsewhere")
    if path.is_file() and real.suffix in _KINDS:
        raise UserError(f"{option} {path} is {_KINDS[real.suffix]}; name another file")
    marks = [(folder, mark, what) for folder in (real, *real.parents) for mark, what in _MARKS.items()]
    beside = [folder for folder in (real, real.parent) if not here.is_relative_to(folder)]
    marks += [(folder, mark, "configurations") for folder in beside for mark in _CONFIGURATIONS]
    for folder, mark, what in marks:
        if (folder / mark).exists() and not (holds_own and folder == real):
            raise UserError(f"{option} {path} lies in {folder}, which holds {what}; name a path elsewhere")


def _same(path: Path, source: Path | str) -> bool:
    return path.exists() and path.samefile(source)
