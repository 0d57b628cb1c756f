"""Checks that commands do not overwrite their own inputs and data.

They apply to files and folders that a user names as output.
"""

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
    """Check that a command may write, or overwrite, a path that a user names.

    Args:
        option: option that names it, for the message.
        path: the file or folder; need not exist.
        inputs: name -> file or folder that the command reads.
        kept: name -> folder in which users may not name outputs.
        holds_own: whether an existing folder of this name contains earlier output of the command, which the writer
            checks.

    Raises:
        UserError: the path is an input; is or lies in a folder of `kept`, a built data set or a bundle, or next to
            configurations; is a checkpoint; or is a link to nothing.
    """
    if path.is_symlink() and not path.exists():
        raise UserError(f"{option} {path} is a link to {os.readlink(path)}, which does not exist; name another path")
    real, here = path.resolve(), Path.cwd()
    for name, source in (inputs or {}).items():
        if Path(source).exists() and (Path(source).resolve() in (real, *real.parents) or _same(path, source)):
            raise UserError(f"{option} {path} is an input of the command: {name} = {source}; name another path")
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
