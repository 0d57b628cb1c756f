"""Find a configuration, and resolve its relative paths.

The working directory is tried first, then the configuration's folder and its parents.
"""

import glob
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.package_data import SAMPLE, TOP, is_installed
from dien_fuxictr.dataset.samples.build_options import RAW_FILES

SPLITS = ("train_data", "valid_data", "test_data")


def resolve_paths(params: dict[str, Any], config_folder: Path, must_exist: bool = True) -> list[str]:
    """Resolve the relative paths of a configuration in place.

    The working directory never changes.

    A path is taken from the first place where it exists: the working directory (it then stays as written), the config
    folder, the config folder's parents, nearest first. `data_root` may not exist yet; it is then below the working
    directory, as in the zoo. `model_root` is always relative to the working directory, as in the zoo. With a `build`
    section the splits come out of the build, and only the raw files are looked for; once the data set is built, raw
    files may be gone. Files of the embedded sample are found wherever it is named; of an installed configuration's
    folders none is looked in, as nothing may be built there.

    Args:
        params: the merged configuration, changed in place.
        config_folder: folder of the configuration.
        must_exist: whether a missing input file is an error; else its path stays as written.

    Returns:
        Warnings for the user.

    Raises:
        UserError: an input file does not exist; lists what was tried.
    """
    folder = config_folder.absolute()
    bases = [Path()] if is_installed(folder) else [Path(), folder, *folder.parents]

    def resolve(path: str) -> str | None:
        for base in bases:
            if _exists(base / path, params.get("data_format", "")):
                return path if base == Path() or Path(path).is_absolute() else str(base / path)
        return None

    build = params.get("build")
    if build and not isinstance(build, dict):
        raise UserError(f"build of data set {params['dataset_id']} must map options to values, but is {build!r}")
    source = (build or params).get("raw_from")

    def require(path: str, name: str, hint: str = f"; to get it: {source}" if source else "") -> str:
        found = resolve(path) or _in_sample(path)
        if found is None and must_exist and not built:
            tried = [path] if Path(path).is_absolute() else [str((base / path).absolute()) for base in bases]
            raise UserError(f"{name}: {path} does not exist; tried {_shortened([*dict.fromkeys(tried)])}{hint}")
        return found or path

    if isinstance(params.get("data_root"), str):
        params["data_root"] = resolve(params["data_root"]) or params["data_root"]
    is_raw = params.get("data_format") != "npz" and params.get("rebuild_dataset") is not False
    data_dir = Path(str(params.get("data_root", "")), str(params["dataset_id"]))
    built = is_raw and (data_dir / "feature_map.json").is_file()

    for column in params.get("feature_cols") or []:
        if isinstance(column, dict) and isinstance(column.get("pretrained_emb"), str):
            column["pretrained_emb"] = require(column["pretrained_emb"], f"pretrained_emb of {column.get('name')}", "")

    if build:
        for name in RAW_FILES:
            if isinstance(build.get(name), str):
                build[name] = require(build[name], f"build.{name}")
        return []

    for name in SPLITS:
        if params.get(name):
            params[name] = require(str(params[name]), name)
    valid, test = params.get("valid_data"), params.get("test_data")
    if valid and test and Path(valid).resolve() == Path(test).resolve():
        return [f"valid_data and test_data are the same file ({valid}): the test figures have chosen the epoch"]
    return []


def _shortened(tried: list[str]) -> str:
    """Return the first paths of a list, and how many more there are; the last ones are in folders far above."""
    shown, more = ", ".join(tried[:4]), len(tried) - 4
    return f"{shown} and {more} folder{'s' * (more > 1)} above" if more > 0 else shown


def _in_sample(path: str) -> str | None:
    file = (TOP / path).resolve()
    return str(file) if file.is_relative_to(SAMPLE) and file.exists() else None


def _exists(path: Path, data_format: str) -> bool:
    """Return whether a path exists: a file, a folder or a glob pattern.

    The suffix that the zoo's loaders add may be missing.
    """
    return path.exists() or bool(glob.glob(str(path))) or path.with_name(f"{path.name}.{data_format}").exists()
