"""The zoo's experiment configuration, with the file that each key comes from.

Files are read in this order, and later ones win: `Base` of the file that has the experiment id < the experiment id <
its data set. A folder contains `model_config.yaml` and `dataset_config.yaml`, or folders `model_config/` and
`dataset_config/` with such files. A file without its own `Base` gets the first other file's, with a warning: as in the
zoo, but never a `Base` that names another data set than the experiment.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.suggestions import nearest, require_name, shown

from .derived import build_options, derived
from .overrides import PREFIX
from .yaml_files import ConfigDumper, read_yaml

DEFAULTS: dict[str, Any] = {"model_root": "./checkpoints/", "verbose": 1, "seed": 1029}
"""Defaults of keys that are read before torch is imported, or that the zoo always takes from `params`."""
BASE = "Base"
SET = "--set"
"""Origin of a key that the command line, or a caller in Python, has set."""


@dataclass
class Config:
    """Merged parameters of one experiment, or of one data set.

    Attributes:
        params: what the zoo would pass around as `params`.
        origin: key -> "file [section]" that it comes from.
        folder: the configuration folder.
        warnings: what the user should know about the merge.
    """

    params: dict[str, Any]
    origin: dict[str, str]
    folder: Path
    warnings: list[str] = field(default_factory=list)

    def where(self, key: str) -> str:
        """Return where a key comes from, or would have to come from."""
        return self.origin.get(key, f"{self.params.get('model_id', self.params['dataset_id'])} of {self.folder}")

    def merge(self, settings: dict[str, Any], file: Path, name: str) -> None:
        """Add the settings of a section; they win over what is there."""
        for key, value in settings.items():
            self.params[key] = _coerce(key, value)
            self.origin[key] = f"{file} [{name}]"

    def override(self, settings: dict[str, Any]) -> None:
        """Replace values."""
        for key, value in settings.items():
            self.params[key] = _coerce(key, value)
            self.origin[key] = SET

    def render(self) -> str:
        """Return the merged configuration as YAML, each key with its file and section."""
        lines = []
        for key, value in sorted(self.params.items()):
            flow = None if isinstance(value, (dict, list, tuple)) else False
            text = yaml.dump({key: value}, Dumper=ConfigDumper, default_flow_style=flow, width=10_000).rstrip("\n")
            comment = f"# {self.origin[key]}"
            lines.append(f"{comment}\n{text}" if "\n" in text else f"{text}  {comment}")
        return "\n".join(lines)


def load_config(folder: Path, expid: str, settings: dict[str, Any] | None = None) -> Config:
    """Read an experiment of a configuration folder.

    Args:
        folder: holds model_config(.yaml) and dataset_config(.yaml).
        expid: experiment id.
        settings: values that replace the folder's, as of `--set`; `build.OPTION` builds a derived data set.

    Raises:
        UserError: no such folder, file, experiment id or data set (the nearest are named); broken YAML; a template
            (`dataset_id: TBD`); a setting of model_id, or of an option that the data set's build does not have.
    """
    return merge(read_files(folder, "model_config"), read_files(folder, "dataset_config"), folder, expid, settings)


def merge(
    models: dict[Path, dict[str, Any]],
    datasets: dict[Path, dict[str, Any]],
    folder: Path,
    expid: str,
    settings: dict[str, Any] | None = None,
) -> Config:
    """Merge the configuration of files that are already read, like `load_config`.

    Args:
        models: model files of `read_files`.
        datasets: data set files of `read_files`.
        folder: folder of the files, for messages.
        expid: experiment id.
        settings: values of `--set`.
    """
    settings = settings or {}
    if "model_id" in settings:
        raise UserError(
            f"--set model_id={settings['model_id']} is not allowed: the files of a run have the experiment id, {expid}"
        )
    config = merge_model(models, folder, expid)
    config.override({key: value for key, value in settings.items() if key == "dataset_id"})
    _merge_dataset(config, datasets)
    others = {key: value for key, value in settings.items() if key != "dataset_id" and not key.startswith(PREFIX)}
    config.override(others)
    if options := build_options(settings):
        config.override(derived(config.params, options))
    return config


def load_dataset(folder: Path, dataset_id: str) -> Config:
    """Return a data set's configuration without an experiment.

    Raises:
        UserError: there is no such folder, file or data set (the message has the nearest), or YAML is broken.
    """
    config = Config({"dataset_id": require_name("dataset_id", dataset_id)}, {"dataset_id": "--dataset"}, folder)
    datasets = read_files(folder, "dataset_config")
    file = _find(datasets, dataset_id, "dataset_id", folder, config.warnings)
    config.merge(section(datasets[file], dataset_id, file), file, dataset_id)
    return config


def merge_model(models: dict[Path, dict[str, Any]], folder: Path, expid: str) -> Config:
    """Merge `Base` and the experiment of files that are already read.

    The data set is left out.

    Args:
        models: file -> section -> content.
        folder: folder of the files, for messages.
        expid: experiment id.

    Raises:
        UserError: there is no such experiment, or a section is not a mapping.
    """
    require_name("expid", expid)
    config = Config(dict(DEFAULTS), dict.fromkeys(DEFAULTS, "default"), folder)
    file = _find(models, expid, "expid", folder, config.warnings)
    experiment = section(models[file], expid, file)
    base_file = _find_base(models, file, experiment.get("dataset_id"), config.warnings)
    if base_file is not None:
        config.merge(section(models[base_file], BASE, base_file), base_file, BASE)
    config.merge(experiment, file, expid)
    config.params["model_id"] = expid
    config.origin["model_id"] = "the experiment id"
    return config


def _merge_dataset(config: Config, datasets: dict[Path, dict[str, Any]]) -> None:
    """Add the entry of the experiment's data set.

    Args:
        config: result of `merge_model`, changed in place.
        datasets: file -> data set -> entry.

    Raises:
        UserError: no data set named, a template (`dataset_id: TBD`), or no such data set.
    """
    params, expid = config.params, config.params["model_id"]
    if params.get("dataset_id") is None:
        raise UserError(
            f"dataset_id of expid {expid} in {config.folder} is missing; it names a data set of dataset_config"
        )
    dataset_id = params["dataset_id"] = require_name("dataset_id", str(params["dataset_id"]))
    if dataset_id == "TBD":
        known = ", ".join(key for entries in datasets.values() for key in entries)
        raise UserError(
            f"expid {expid} in {config.folder} is a template (dataset_id: TBD): give it a data set, one of {known}"
        )
    file = _find(datasets, dataset_id, "dataset_id", config.folder, config.warnings)
    config.merge(section(datasets[file], dataset_id, file), file, dataset_id)


def read_files(folder: Path, kind: str) -> dict[Path, dict[str, Any]]:
    """Return the files of a kind, each as section -> content.

    They are `kind`.yaml, or the sorted files of the folder `kind`.

    Raises:
        UserError: there is no such folder or file, or YAML is broken.
    """
    if not folder.is_dir():
        fault = "is a file" if folder.is_file() else "does not exist"
        raise UserError(f"--config {folder} {fault}; it must be a folder with model_config and dataset_config")
    single = folder / f"{kind}.yaml"
    files = [single] if single.is_file() else sorted((folder / kind).glob("*.yaml"))
    if not files:
        raise UserError(f"{kind} is missing in --config {folder}: it must have {kind}.yaml or {kind}/*.yaml")
    return {file: read_yaml(file) for file in files}


def section(content: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    """Return the mapping `name` of a file's content.

    Raises:
        UserError: it is not a mapping.
    """
    settings = content[name]
    if not isinstance(settings, dict):
        raise UserError(f"{name} in {file} must map keys to values, but is {shown(settings)}")
    if wrong := [key for key in settings if not isinstance(key, str)]:
        raise UserError(f"the key {wrong[0]!r} of {name} in {file} must be text")
    return settings


def _find(files: dict[Path, dict[str, Any]], name: str, what: str, folder: Path, warnings: list[str]) -> Path:
    found = [file for file, content in files.items() if name in content and name != BASE]
    if not found:
        known = sorted({key for content in files.values() for key in content} - {BASE})
        hint = nearest(name, known)
        listed = f"nearest: {', '.join(hint)}" if hint else f"known: {', '.join(known) or 'none'}"
        raise UserError(f"{what} {name!r} is not in {folder}; {listed}")
    if len(found) > 1:
        warnings.append(f"{what} {name} is in {', '.join(map(str, found))}; the first is used")
    return found[0]


def _find_base(models: dict[Path, dict[str, Any]], file: Path, dataset_id: Any, warnings: list[str]) -> Path | None:
    """Return the file whose `Base` an experiment of `file` gets; None without one."""
    if BASE in models[file]:
        return file
    named = {
        other: section(content, BASE, other).get("dataset_id") for other, content in models.items() if BASE in content
    }
    fitting = [other for other, name in named.items() if name == dataset_id or None in (name, dataset_id)]
    if named:
        other_bases = "no Base is used, as the Bases of other files are for other data sets"
        warnings.append(f"{file} has no Base; {f'the Base of {fitting[0]} is used' if fitting else other_bases}")
    return fitting[0] if fitting else None


def _coerce(key: str, value: Any) -> Any:
    """Return a regularizer as float, since the zoo ignores an int."""
    if str(key).endswith("regularizer") and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
