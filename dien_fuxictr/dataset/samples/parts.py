"""Files of a table: one file, a folder of Parquet parts, or matches of a pattern."""

from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from urllib.parse import unquote

NULL = "__HIVE_DEFAULT_PARTITION__"
"""Value that the name of a folder has where its rows have none."""


@dataclass(frozen=True)
class Part:
    """One file of a table.

    Attributes:
        path: path of the file.
        name: its path below the folder of all parts; empty where the table is one file.
        keys: columns that the names of its folders have, as in `day=2024-01-31/part-0.parquet`.
    """

    path: Path
    name: str
    keys: dict[str, str | None]


def parts_of(path: Path) -> list[Part]:
    """Return the files of a path, sorted by path; empty if there is none.

    Args:
        path: a file; a folder, whose files *.parquet are found at any depth, except names that begin with "_" or ".";
            or a pattern, in which ** matches folders at any depth.
    """
    if path.is_file():
        return [Part(path, "", {})]
    if path.is_dir():
        folder, found = path, path.rglob("*.parquet")
    else:
        folder = next((parent for parent in path.parents if not has_magic(str(parent))), path)
        found = map(Path, glob(str(path), recursive=True))
    below = sorted(file.relative_to(folder) for file in found if file.is_file())
    seen = [file for file in below if not path.is_dir() or not any(name[0] in "_." for name in file.parts)]
    return [Part(folder / file, str(file), _keys(file.parent)) for file in seen]


def missing(path: Path) -> str:
    """Return why `parts_of` found nothing."""
    if path.is_dir():
        return f"folder {path} has no .parquet file"
    return f"no file matches {path}" if has_magic(str(path)) else f"raw file {path} does not exist"


def _keys(folder: Path) -> dict[str, str | None]:
    pairs = (name.split("=", 1) for name in folder.parts if "=" in name)
    return {unquote(key): None if value == NULL else unquote(value) for key, value in pairs}
