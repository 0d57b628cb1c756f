"""Read tuner files, and write every combination of their `tuner_space`.

The combinations and their numbers are those of `fuxictr.autotuner.enumerate_params`. Its names are not: it hashes
sorted characters, so that a data set cut at 12 and one at 21 share a name and only one of them is run.
"""

import hashlib
import json
import logging
import math
import re
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import Contract
from dien_fuxictr.common.package_data import find_config, is_installed
from dien_fuxictr.common.suggestions import nearest
from dien_fuxictr.experiment.configuration.config import Config, merge, merge_model, read_files, section
from dien_fuxictr.experiment.configuration.yaml_files import read_yaml, write_config
from dien_fuxictr.experiment.contract import check_configuration, known_keys
from dien_fuxictr.experiment.models import find_model

from .space import Range, Space, read_space

_NUMBERED = re.compile(r"_\d{3,}_[0-9a-f]{8}$")


_MAPPING = dict[str, Any]
_TYPES: dict[str, Any] = {"base_config": str, "base_expid": str | _MAPPING, "dataset_id": str, "tuner_space": _MAPPING}
_TYPES |= {"model_config": _MAPPING, "dataset_config": _MAPPING}
_KEYS = Contract({key: [kind] for key, kind in _TYPES.items()}, ["base_expid", "tuner_space"])


@dataclass(frozen=True)
class Tuner:
    """A tuner file, over one base experiment.

    Attributes:
        file: where it says so.
        base: the merged base experiment.
        entry: its data set's entry.
        name: what the runs' ids start with.
        space: what varies.
        subfolder: subfolder of the sweep's folder; empty where the file has one base experiment.
    """

    file: Path
    base: Config
    entry: dict[str, Any]
    name: str
    space: Space
    subfolder: str = ""

    @property
    def folder(self) -> Path:
        """Return the folder of its runs, named like the file without its suffix."""
        return self.file.with_suffix("") / self.subfolder

    def where(self, key: str) -> str:
        """Return where a run's key comes from."""
        return f"tuner_space of {self.file}" if key in self.space else self.base.where(key)


def read_tuner(file: Path, settings: dict[str, Any] | None = None) -> Tuner:
    """Read a tuner file with one base experiment; see `read_tuners`."""
    (tuner,) = read_tuners(file, settings)
    return tuner


def read_tuners(file: Path, settings: dict[str, Any] | None = None) -> list[Tuner]:
    """Read a tuner file.

    Args:
        file: the zoo's YAML: `base_expid`, `tuner_space`, and where they come from: `base_config` (a folder) or
            `model_config` and `dataset_config` (sections of the file itself); `dataset_id` replaces the experiment's.
            Where `base_expid` maps experiments to what varies for each besides `tuner_space`, each is a sweep of its
            own, as that of a file FOLDER/ID.yaml with `base_expid: ID` and both spaces in one.
        settings: replace values of the base experiment.

    Raises:
        UserError: the file, a key or what it refers to is missing or unknown.
    """
    if not file.is_file():
        raise UserError(f"--config {file} does not exist")
    if is_installed(file):
        raise UserError(f"--config {file}: a sweep writes beside its tuner file; copy it out of the installed package")
    if file.suffix not in (".yaml", ".yml"):
        raise UserError(f"--config {file} must end in .yaml; the folder of its experiments has its name without .yaml")
    tuner = read_yaml(file)
    if unknown := _KEYS.check(tuner, lambda _: str(file)):
        logging.warning(f"{file}: unknown keys, without effect: {', '.join(unknown)}")
    common, settings = section(tuner, "tuner_space", file), settings or {}
    if isinstance(tuner["base_expid"], str):
        return [_read_one(tuner, common, file, settings)]
    if not tuner["base_expid"]:
        raise UserError(f"base_expid in {file} must name an experiment")
    return [
        replace(_read_one({**tuner, "base_expid": expid}, common | own, file, settings), subfolder=expid)
        for expid in section(tuner, "base_expid", file)
        for own in [section(tuner["base_expid"], expid, file)]
    ]


def _read_one(tuner: dict[str, Any], keys: dict[str, Any], file: Path, settings: dict[str, Any]) -> Tuner:
    """Read one base experiment of a tuner file, over these keys of a space."""
    space = read_space(keys, file)
    if both := [key for key in settings if key in space]:
        raise UserError(f"--set {both[0]} cannot be combined with tuner_space of {file}, which has {both[0]}")
    base, entry, name = _base(tuner, file, settings)
    _check_space(space, base, file)
    return Tuner(file=file, base=base, entry=entry, name=name, space=space)


def require_own_folder(tuner: Tuner) -> None:
    """Check that a sweep's folder holds no configuration that is not a sweep's.

    Raises:
        UserError: an experiment in it has an id that no sweep gives.
    """
    file = tuner.folder / "model_config.yaml"
    if file.is_file() and (foreign := [name for name in read_yaml(file) if not _NUMBERED.search(str(name))]):
        raise UserError(
            f"{tuner.file}: the sweep would overwrite {file}, which no sweep wrote: it has {foreign[0]}; rename the "
            "tuner file, after which the sweep's folder is named"
        )


def write_grid(tuner: Tuner, at_most: float = math.inf) -> None:
    """Write every combination to the two YAML files of the sweep's folder.

    Args:
        tuner: what varies.
        at_most: combinations.

    Raises:
        UserError: a range, which has no combinations; more of them; one with a value that is not allowed.
    """
    for key, allowed in tuner.space.items():
        if isinstance(allowed, Range):
            raise UserError(
                f"{tuner.file}: {key} in tuner_space is a range; a grid needs lists, ranges need --search tpe"
            )
    count = math.prod(len(allowed.examples) for allowed in tuner.space.values())
    if count > at_most:
        raise UserError(
            f"{tuner.file}: tuner_space has {count:,} combinations, more than {at_most:,}; --yes trains them all, "
            "--search tpe trains as many as --trials says"
        )
    datasets, experiments = enumerate_space(tuner, {key: allowed.examples for key, allowed in tuner.space.items()})
    for expid in experiments:
        config = merge({tuner.file: experiments}, {tuner.file: datasets}, tuner.folder, expid)
        check_configuration(deepcopy(config.params), tuner.where)
    write_config(tuner.folder / "dataset_config.yaml", datasets)
    write_config(tuner.folder / "model_config.yaml", experiments)


def _base(tuner: dict[str, Any], file: Path, settings: dict[str, Any]) -> tuple[Config, dict[str, Any], str]:
    """Return base experiment, its data set's entry, and the prefix of the runs' ids."""
    folder = _base_folder(tuner, file)

    def files(kind: str) -> dict[Path, dict[str, Any]]:
        return {file: section(tuner, kind, file)} if kind in tuner else read_files(folder, kind)

    name, models, datasets = str(tuner["base_expid"]), files("model_config"), files("dataset_config")
    place = file if "model_config" in tuner else folder
    own = {"dataset_id": tuner["dataset_id"]} if "dataset_id" in tuner else {}
    base = merge(models, datasets, place, name, own | settings)
    is_template = merge_model(models, place, name).params.get("dataset_id") == "TBD"
    dataset_id = base.params["dataset_id"]
    plain = {key: value for key, value in settings.items() if key == "dataset_id"}
    source = merge(models, datasets, place, name, own | plain).params[
        "dataset_id"
    ]  # the data set that a derived one is derived from
    keys = next(entries[source] for entries in datasets.values() if source in entries)
    entry = {key: base.params[key] for key in keys}
    if "data_format" not in base.params:
        base.params["data_format"] = entry["data_format"] = "csv"  # FuxiCTR's default
    return base, entry, f"{base.params.get('model')}_{dataset_id}" if is_template else name


def _base_folder(tuner: dict[str, Any], file: Path) -> Path:
    """Find `base_config` here, in the tuner file's folder, or in folders above it."""
    if "base_config" not in tuner:
        return file.parent
    path = str(tuner["base_config"])
    for place in (Path(), *file.absolute().parents):
        if (place / path).is_dir():
            return place / path
    if (folder := find_config(path)).is_dir():
        return folder
    raise UserError(
        f"{file}: base_config = {path} does not exist in the working directory, the tuner "
        "file's folder or a folder above it"
    )


def _check_space(space: Space, base: Config, file: Path) -> None:
    for key in ("dataset_id", "model_id"):
        if key in space:
            raise UserError(f"{file}: {key} cannot be in tuner_space; a sweep has one experiment and one data set")
    unset = [key for key in space if key not in base.params]
    model, zoo = str(base.params.get("model")), base.params.get("zoo")
    known = base.params.keys() | (known_keys(find_model(model, zoo)) if unset else set())
    for key in unset:
        if key not in known:
            close = nearest(key, known)
            hint = f"did you mean {close[0]!r}?" if close else f"{base.params['model_id']} has no such key"
            raise UserError(f"unknown key {key!r} in tuner_space of {file}; {hint}")


def enumerate_space(
    tuner: Tuner, space: dict[str, list[Any]], first_number: int = 1
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return data set entries and experiments of all combinations, each by its id.

    Args:
        tuner: what they vary.
        space: key -> values.
        first_number: number of the first experiment.

    A data set is only renamed where the sweep changes its entry: all other runs share one build, also with
    `run_expid.py`. What is encoded already cannot move; then the keys of the entry become the experiment's.
    """
    base, entry = tuner.base, tuner.entry
    tuned = set(space) & set(entry)
    first = {**base.params, **{key: values[0] for key, values in space.items()}}
    if first["data_format"] == "npz" or (first["data_format"] == "parquet" and first.get("rebuild_dataset") is False):
        entry = {key: value for key, value in entry.items() if key not in tuned}
        tuned = set()
    dataset_id = base.params["dataset_id"]
    datasets = {}
    for combination in _combinations(entry, {key: space[key] for key in tuned}):
        changed = combination != entry
        datasets[f"{dataset_id}_{digest(combination)}" if changed else dataset_id] = combination
    model = {
        key: value
        for key, value in base.params.items()
        if base.origin.get(key) != "default" and key != "model_id" and key not in entry
    }
    combinations = _combinations(model, {key: values for key, values in space.items() if key not in tuned})
    experiments = {}
    for number, (combination, dataset) in enumerate(product(combinations, datasets), first_number):
        params = {**combination, "dataset_id": dataset}
        experiments[f"{tuner.name}_{number:03d}_{digest([params, datasets[dataset]])}"] = params
    return datasets, experiments


def _combinations(base: dict[str, Any], space: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Return every combination, in the order of `base`; the last key changes first."""
    values = {key: [value] for key, value in base.items()} | space
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


def digest(content: Any) -> str:
    """Return eight characters that change with the content."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
