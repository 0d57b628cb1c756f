"""Suite files: comparisons with a name, `config/suites/NAME.yaml`, that `run_comparison.py --suite NAME` runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dien_fuxictr.common.contract import Contract, described, must, shown, whole
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.names import nearest
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
    "vary": _MAPPING,
    "settings": _MAPPING,
    "x": str,
    "results": described(str, "the path of a .csv file", must(lambda path: path.endswith(".csv"))),
}
_CONTRACT = Contract({key: [kind] for key, kind in _KEYS.items()}, ["title", "experiments"])
_TAKEN = ("model_id", "seed", "build.fold", "build.folds")
"""What a run's name and its seeds or folds decide."""


@dataclass(frozen=True)
class Suite:
    """What a suite file says.

    Attributes:
        name: of the file.
        title: heading of the report.
        experiments: ids of the configuration.
        base, against: what others stand against, the second in a column of its own.
        folds: cuts of the users into test and training sets; None: runs differ in their seed only.
        seeds: runs of each experiment where there are no folds.
        grids: experiment id -> key -> values; it is run for each combination.
        settings: in the place of the configuration's values.
        x: a key of the grids, for the picture.
        results: file to which each finished run adds a row.
    """

    name: str
    title: str
    experiments: list[str]
    base: str | None
    against: str | None
    folds: int | None
    seeds: int
    grids: dict[str, dict[str, list[Any]]]
    settings: dict[str, Any]
    x: str | None
    results: Path | None


def suite_files(config: Path) -> dict[str, Path]:
    """Name -> file of the suites of a configuration folder."""
    return {file.stem: file for file in sorted((config / "suites").glob("*.yaml"))}


def listed(config: Path) -> str:
    """The suites of a configuration folder with their titles, a line each."""
    titles = {name: read_yaml(file).get("title", "") for name, file in suite_files(config).items()}
    if not titles:
        return f"no suites in {config / 'suites'}"
    width = max(map(len, titles))
    return "\n".join(f"{name:{width}}  {title}" for name, title in titles.items())


def read_suite(config: Path, name: str) -> Suite:
    """Read a suite of a configuration folder.

    Raises:
        UserError: no such suite (those that there are are named), a key that is unknown or missing, or a value that is
            not allowed.
    """
    files = suite_files(config)
    if name not in files:
        known = f"there are: {', '.join(files)}" if files else f"{config / 'suites'} has none"
        raise UserError(f"--suite {name}: no such suite; {known}")
    file = files[name]
    content = {key: value for key, value in read_yaml(file).items() if value is not None}
    if unknown := _CONTRACT.check(content, lambda _: str(file)):
        raise UserError(f"unknown key {unknown[0]!r} in {file}; there are {', '.join(_KEYS)}")
    experiments: list[str] = content["experiments"]
    if doubled := [expid for expid in experiments if experiments.count(expid) > 1]:
        raise UserError(f"{file}: experiments has {doubled[0]} twice")
    for key in ("base", "against"):
        if content.get(key) not in (None, *experiments):
            raise UserError(f"{file}: {key} {content[key]} is none of the experiments: {', '.join(experiments)}")
    if "folds" in content and "seeds" in content:
        raise UserError(f"{file}: folds and seeds; a suite has one of them, and each fold a seed of its own")
    settings, grids = content.get("settings", {}), _grids(content.get("vary", {}), experiments, file)
    for what, keys in (("settings", settings), *(("vary", grid) for grid in grids.values())):
        if taken := [key for key in keys if key in _TAKEN]:
            raise UserError(f"{file}: {taken[0]} cannot be in {what}; seeds and folds are keys of the suite")
        if what == "vary" and (both := [key for key in keys if key in settings]):
            raise UserError(f"{file}: {both[0]} is in settings and in vary")
    if "x" in content and not any(content["x"] in grid for grid in grids.values()):
        raise UserError(f"{file}: x {content['x']} is no key of vary")
    results = Path(content["results"]) if "results" in content else None
    return Suite(
        name,
        content["title"],
        experiments,
        content.get("base"),
        content.get("against"),
        content.get("folds"),
        content.get("seeds", 1),
        grids,
        settings,
        content.get("x"),
        results,
    )


def chosen_of(suite: Suite, expids: Sequence[str]) -> list[str]:
    """The experiments of a suite to train: those named, or else all.

    Raises:
        UserError: one is not in the suite.
    """
    for expid in expids:
        if expid not in suite.experiments:
            close = nearest(expid, suite.experiments)
            hint = f"nearest: {', '.join(close)}" if close else f"it has {', '.join(suite.experiments)}"
            raise UserError(f"--expids {expid}: not in suite {suite.name}; {hint}")
    return list(expids) or suite.experiments


def _grids(vary: dict[str, Any], experiments: list[str], file: Path) -> dict[str, dict[str, list[Any]]]:
    """The grid of each experiment: `vary` is one for all, or a mapping of experiments to grids."""
    named = [key for key in vary if key in experiments]
    if named and len(named) < len(vary):
        (other, *_) = [key for key in vary if key not in named]
        raise UserError(f"{file}: vary has keys and experiments: {other}, {named[0]}; it is a grid, or one for each")
    grids = {expid: vary.get(expid, {}) if named else vary for expid in experiments}
    for grid in grids.values():
        if not isinstance(grid, dict):
            raise UserError(f"{file}: vary must map keys to lists of values, but has {shown(grid)}")
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                raise UserError(f"{file}: {key} in vary must be a list of values, but is {shown(values)}")
    return grids
