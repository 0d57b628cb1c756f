"""Suite files, `config/suites/NAME.yaml` or elsewhere: comparisons with a name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import Contract, described, must, whole
from dien_fuxictr.common.suggestions import nearest, shown
from dien_fuxictr.experiment.configuration.yaml_files import read_yaml

_MAPPING = dict[str, Any]
_NAMES = described(list[str], "a list of experiment ids, at least one", must(len))
_KEYS: dict[str, Any] = {
    "title": str,
    "experiments": _NAMES,
    "base": str,
    "against": str,
    "folds": whole(2),
    "seeds": whole(1),
    "vary": described(_MAPPING | list[_MAPPING], "a mapping, or a list of mappings"),
    "settings": _MAPPING,
    "x": str,
    "x_label": str,
    "x_names": described(dict[Any, str], "a mapping of values of x to their names"),
    "results": described(str, "the path of a .csv file", must(lambda path: path.endswith(".csv"))),
}
_CONTRACT = Contract({key: [kind] for key, kind in _KEYS.items()}, ["title", "experiments"])
_TAKEN = ("model_id", "seed", "build.fold", "build.folds")
"""Keys that a run's name and its seeds or folds decide."""


@dataclass(frozen=True)
class Suite:
    """The content of a suite file.

    Attributes:
        name: name of the file.
        title: heading of the report.
        experiments: ids of the configuration.
        base, against: experiments that the others are compared with; the second has a separate column.
        folds: cuts of the users into test and training sets; None: runs differ in their seed only.
        seeds: runs of each experiment without folds.
        variations: experiment id -> the settings of each of its rows.
        settings: replace values of the configuration.
        x: a key of the variations, for the picture. x_label: its name on the axis. x_names: names of its values.
        results: file to which each finished run adds a row.
    """

    name: str
    title: str
    experiments: list[str]
    base: str | None
    against: str | None
    folds: int | None
    seeds: int
    variations: dict[str, list[dict[str, Any]]]
    settings: dict[str, Any]
    x: str | None
    x_label: str | None
    x_names: Mapping[Any, str]
    results: Path | None


def suite_files(config: Path) -> dict[str, Path]:
    """Return the files of the suites of a configuration folder, by name."""
    return {file.stem: file for file in sorted((config / "suites").glob("*.yaml"))}


def list_suites(config: Path) -> str:
    """List the suites of a configuration folder, one line with name and title each."""
    titles = {name: read_yaml(file).get("title", "") for name, file in suite_files(config).items()}
    if not titles:
        return f"no suites in {config / 'suites'}"
    width = max(map(len, titles))
    return "\n".join(f"{name:{width}}  {title}" for name, title in titles.items())


def read_suite(config: Path, name: str) -> Suite:
    """Read a suite.

    Args:
        config: the configuration folder.
        name: name of a suite of that folder, or the path of any suite's file, which ends in `.yaml`.

    Raises:
        UserError: no such suite (those that there are are named), a key that is unknown or missing, or a value that is
            not allowed.
    """
    files = suite_files(config)
    if name.endswith(".yaml"):
        files, name = {Path(name).stem: Path(name)}, Path(name).stem
    if name not in files:
        known = f"there are: {', '.join(files)}" if files else f"{config / 'suites'} has none"
        raise UserError(f"--suite {name} is unknown; {known}")
    file = files[name]
    content = {key: value for key, value in read_yaml(file).items() if value is not None}
    if unknown := _CONTRACT.check(content, lambda _: str(file)):
        raise UserError(f"unknown key {unknown[0]!r} in {file}; there are {', '.join(_KEYS)}")
    experiments: list[str] = content["experiments"]
    if doubled := [expid for expid in experiments if experiments.count(expid) > 1]:
        raise UserError(f"{file}: experiments has {doubled[0]} twice")
    for key in ("base", "against"):
        if content.get(key) not in (None, *experiments):
            raise UserError(f"{file}: {key} = {content[key]} must be one of the experiments: {', '.join(experiments)}")
    if "folds" in content and "seeds" in content:
        raise UserError(f"{file}: folds and seeds cannot be combined; each fold has its own seed")
    settings, variations = content.get("settings", {}), _variations(content.get("vary", {}), experiments, file)
    varied = dict.fromkeys(key for of_one in variations.values() for variation in of_one for key in variation)
    for what, keys in (("settings", settings), ("vary", varied)):
        if taken := [key for key in keys if key in _TAKEN]:
            raise UserError(f"{file}: {taken[0]} cannot be in {what}; seeds and folds are keys of the suite")
        if what == "vary" and (both := [key for key in keys if key in settings]):
            raise UserError(f"{file}: {both[0]} cannot be in both settings and vary")
    if "x" in content and content["x"] not in varied:
        raise UserError(f"{file}: x = {content['x']} must be a key of vary")
    _check_names(content, variations, file)
    results = Path(content["results"]) if "results" in content else None
    return Suite(
        name=name,
        title=content["title"],
        experiments=experiments,
        base=content.get("base"),
        against=content.get("against"),
        folds=content.get("folds"),
        seeds=content.get("seeds", 1),
        variations=variations,
        settings=settings,
        x=content.get("x"),
        x_label=content.get("x_label"),
        x_names=content.get("x_names", {}),
        results=results,
    )


def choose_experiments(suite: Suite, expids: Sequence[str]) -> list[str]:
    """Return the experiments of a suite to train: those named, or all.

    Raises:
        UserError: one is not in the suite.
    """
    for expid in expids:
        if expid not in suite.experiments:
            close = nearest(expid, suite.experiments)
            hint = f"nearest: {', '.join(close)}" if close else f"it has {', '.join(suite.experiments)}"
            raise UserError(f"--expids {expid} is not in suite {suite.name}; {hint}")
    return list(expids) or suite.experiments


def _check_names(content: Mapping[str, Any], variations: Mapping[str, Sequence[Mapping[str, Any]]], file: Path) -> None:
    """Check that `x_label` and `x_names` name something of `x`."""
    for key in ("x_label", "x_names"):
        if key in content and "x" not in content:
            raise UserError(f"{file}: {key} needs x, the key of vary that it names")
    varied = [
        variation[content["x"]]
        for of_one in variations.values()
        for variation in of_one
        if content.get("x") in variation
    ]
    for value in content.get("x_names", {}):
        if repr(value) not in map(repr, varied):
            values = ", ".join(dict.fromkeys(map(shown, varied)))
            raise UserError(f"{file}: x_names: {shown(value)} must be a value of {content['x']}: {values}")


def _variations(vary: Any, experiments: list[str], file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the variations of each experiment; `vary` is for all or by experiment."""
    named = [key for key in vary if key in experiments] if isinstance(vary, dict) else []
    if named and len(named) < len(vary):
        (other, *_) = [key for key in vary if key not in named]
        raise UserError(f"{file}: vary cannot have both keys and experiments: {other}, {named[0]}; use one kind")
    return {expid: _combinations(vary.get(expid, {}) if named else vary, file) for expid in experiments}


def _combinations(varied: Any, file: Path) -> list[dict[str, Any]]:
    """Return the combinations of a grid; a list of combinations is returned unchanged."""
    if isinstance(varied, list) and varied and all(isinstance(one, dict) for one in varied):
        return varied
    if not isinstance(varied, dict):
        raise UserError(
            f"{file}: vary must map keys to lists of values, or list such settings, but has {shown(varied)}"
        )
    for key, values in varied.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{file}: {key} in vary must be a list of values, but is {shown(values)}")
    return [dict(zip(varied, values, strict=True)) for values in product(*varied.values())]
