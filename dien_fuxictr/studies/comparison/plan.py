"""Runs of a comparison, and the configuration folder they are read from."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.suggestions import nearest
from dien_fuxictr.dataset.loading.entry import ENTRY
from dien_fuxictr.experiment.checkout import Checkout
from dien_fuxictr.experiment.configuration.config import BASE, SET, Config, merge, merge_model, read_files
from dien_fuxictr.experiment.configuration.derived import as_name
from dien_fuxictr.experiment.configuration.overrides import PREFIX
from dien_fuxictr.experiment.configuration.paths import resolve_paths
from dien_fuxictr.experiment.configuration.yaml_files import write_config
from dien_fuxictr.experiment.contract import check_configuration, known_keys
from dien_fuxictr.experiment.models import find_model, own_models

from ..runs.run import Run
from .suite import Suite

BASE_MODEL = "EmbeddingMLP"
"""Paper's BaseModel, from which it takes its relative improvements."""


def experiment_ids(config: Path, dataset: str | None, tag: str | None) -> list[str]:
    """Return ids of a folder's experiments on a data set, with a tag, or both.

    Of equal experiments only the first is returned; the others would repeat its training.

    Raises:
        UserError: no such folder or file, or a section that is not a mapping.
    """
    models = read_files(config, "model_config")
    chosen: dict[str, dict[str, Any]] = {}
    for expid in dict.fromkeys(name for sections in models.values() for name in sections if name != BASE):
        params = {key: value for key, value in merge_model(models, config, expid).params.items() if key != "model_id"}
        if (
            (dataset is None or str(params.get("dataset_id")) == dataset)
            and (tag is None or tag in expid)
            and params not in chosen.values()
        ):
            chosen[expid] = params
    return list(chosen)


def read_experiments(
    config: Path, expids: Iterable[str], checkout: Checkout | None, settings: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the merged configuration of each experiment, by its id.

    Args:
        config: configuration folder.
        expids: expids of it.
        checkout: has the models that are not in `model_zoo/`.
        settings: replace values of the folder.

    Raises:
        UserError: an unknown experiment, a key or value that is not allowed, experiments on different data sets, one
            without AUC among its metrics, a data set without test data, or a model that its checkout does not have, or
            that cannot be imported from it.
    """
    models, datasets = read_files(config, "model_config"), read_files(config, "dataset_config")
    configs = []
    for expid in dict.fromkeys(expids):
        merged = merge(models, datasets, config, expid, settings)
        if checkout and not merged.params.get("zoo") and merged.params.get("model") not in own_models():
            merged.params["zoo"] = str(checkout.path)
        configs.append(merged)
    leave_out_unread(configs)
    experiments = {merged.params["model_id"]: _comparable(merged) for merged in configs}
    if not experiments:
        raise UserError("no experiment to compare: name some with --expids, or all on a data set with --dataset")
    first = next(iter(experiments))
    for expid, params in experiments.items():
        if params["dataset_id"] != experiments[first]["dataset_id"]:
            raise UserError(
                f"{first} is on data set {experiments[first]['dataset_id']}, {expid} on "
                f"{params['dataset_id']}; a comparison must have one data set"
            )
    return experiments


def leave_out_unread(configs: Sequence[Config]) -> None:
    """Drop a key of `--set` where it is not read, if another experiment reads it.

    A key that no experiment reads stays, and is refused by the check of the first one.

    Raises:
        UserError: there is no such model.
    """
    read = [known_keys(find_model(str(config.params.get("model")), config.params.get("zoo"))) for config in configs]
    for config, own in zip(configs, read, strict=True):
        for key in [key for key, place in config.origin.items() if place == SET and key not in own]:
            if any(key in others for others in read):
                del config.params[key], config.origin[key]


def _comparable(merged: Config) -> dict[str, Any]:
    """Check that an experiment can be compared; return its parameters.

    The runs have a folder of their own, from where a relative path would lead elsewhere.
    """
    params, expid = merged.params, merged.params["model_id"]
    check_configuration(params, merged.where)
    if "AUC" not in (params.get("metrics") or []):
        raise UserError(f"AUC is missing in metrics of {expid}; a comparison ranks by AUC")
    if not params.get("test_data"):
        raise UserError(
            f"{expid}: test_data is missing in data set {params['dataset_id']}; a comparison needs a test set, "
            "run_param_tuner.py ranks by validation"
        )
    resolve_paths(params, merged.folder, must_exist=False)
    return params


@dataclass(frozen=True)
class ComparedModel:
    """One row of the table: an experiment, or a variation of one.

    Attributes:
        name: name of the row.
        experiment: id of the configuration.
        runs: one per seed, or per fold.
        variation: settings that differ from the experiment's.
    """

    name: str
    experiment: str
    runs: list[Run]
    variation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison, and the form of its table.

    Attributes:
        title: heading of the report.
        models: models in the order of the configuration.
        base, against: experiments that the others are compared with; `against` is optional.
        is_suite: whether a suite file describes it; then its base need not have finished.
        x: the key on the x axis of the suite's picture. x_label: its name there. x_names: names of some of its values.
    """

    title: str
    models: list[ComparedModel]
    base: str
    against: str | None = None
    is_suite: bool = False
    x: str | None = None
    x_label: str | None = None
    x_names: Mapping[Any, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Return the folder of its files."""
        return self.models[0].runs[0].folder

    def runs(self, experiments: Container[str] | None = None) -> list[Run]:
        """Return the runs of some experiments, or of all, seed by seed or fold by fold."""
        chosen = [model for model in self.models if experiments is None or model.experiment in experiments]
        return [run for turn in zip(*(model.runs for model in chosen), strict=True) for run in turn]


def plan_comparison(
    experiments: dict[str, dict[str, Any]],
    seeds: int,
    out: Path | None,
    settings: dict[str, Any] | None = None,
    base: str | None = None,
) -> Comparison:
    """Plan a comparison of experiments over seeds.

    The seeds are the experiment's own, the next, and so on: the first run is what `run_expid.py` gives. Without `out`
    the comparison's folder is comparisons/<data set>. Checkpoints are below it, unless `settings` have a `model_root`.
    """
    dataset_id = next(iter(experiments.values()))["dataset_id"]
    out, settings = out or Path("comparisons", dataset_id), settings or {}
    compared = [
        ComparedModel(
            name=name,
            experiment=name,
            runs=[
                _run(f"{name}_seed{seed}", params, seed, out, dataset_id, settings)
                for seed in range(params["seed"], params["seed"] + seeds)
            ],
        )
        for name, params in experiments.items()
    ]
    return Comparison(title=f"Comparison on {dataset_id}", models=compared, base=base or next(iter(experiments)))


def plan_suite(suite: Suite, config: Path, out: Path | None, settings: dict[str, Any]) -> Comparison:
    """Plan a suite: each variation of each experiment, over seeds or folds.

    Fold k has the experiment's seed + k, so that the noise of the seed is part of the noise of the folds. `settings`
    win over the suite's.

    Raises:
        UserError: as of `read_experiments`; a key to vary that an experiment does not have.
    """
    models, datasets = read_files(config, "model_config"), read_files(config, "dataset_config")
    out, settings = out or Path("comparisons", suite.name), suite.settings | settings
    compared: list[ComparedModel] = []
    entries = {expid: merge(models, datasets, config, expid, settings) for expid in suite.variations}
    leave_out_unread([*entries.values()])
    for expid, variations in suite.variations.items():
        known = entries[expid].params
        own = {key: value for key, value in settings.items() if key.startswith(PREFIX) or key in known}
        varied = dict.fromkeys(key for variation in variations for key in variation)
        _check_varied(varied, entries[expid], suite, own)
        for variation in variations:
            name = "_".join(
                [expid, *(f"{key.removeprefix(PREFIX)}_{as_name(value)}" for key, value in variation.items())]
            )
            if any(model.name == name for model in compared):
                raise UserError(f"suite {suite.name}: two experiments or variations have the name {name}")
            runs = []
            for number in range(suite.folds or suite.seeds):
                fold = {f"{PREFIX}folds": suite.folds, f"{PREFIX}fold": number} if suite.folds else {}
                params = _comparable(merge(models, datasets, config, expid, own | variation | fold))
                seed = params["seed"] + number
                unit = f"fold{number}" if suite.folds else f"seed{seed}"
                runs.append(_run(f"{name}_{unit}", params, seed, out, suite.name, own | variation))
            compared.append(ComparedModel(name=name, experiment=expid, runs=runs, variation=variation))
    base = suite.base or next((s.experiment for s in compared if s.runs[0].params["model"] == BASE_MODEL), None)
    return Comparison(
        title=suite.title,
        models=compared,
        base=base or suite.experiments[0],
        against=suite.against,
        is_suite=True,
        x=suite.x,
        x_label=suite.x_label,
        x_names=suite.x_names,
    )


def _check_varied(keys: Iterable[str], entry: Config, suite: Suite, settings: dict[str, Any]) -> None:
    model_class = find_model(entry.params["model"], entry.params.get("zoo"))
    for key in keys:
        if key in settings:
            raise UserError(f"--set {key} cannot be combined with suite {suite.name}: {key} is in its vary")
        if not key.startswith(PREFIX) and key not in entry.params and key not in known_keys(model_class):
            close = nearest(key, entry.params.keys() | known_keys(model_class))
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UserError(
                f"suite {suite.name}: {entry.params['model_id']} has no key {key!r} to vary; {hint}"
                "vary may also be a mapping of experiments to the keys of each"
            )


def _run(expid: str, params: dict[str, Any], seed: int, out: Path, name: str, settings: dict[str, Any]) -> Run:
    """Return a run whose configuration folder is OUT/comparison_NAME."""
    model_root = settings.get("model_root", str(out / "checkpoints"))
    changes = {"seed": seed, "verbose": 0, "model_root": model_root, "model_id": expid}
    own = {key: value for key, value in settings.items() if key in params and key not in changes}
    own.pop("dataset_id", None)
    return Run(expid=expid, params=params | changes, config=out / f"comparison_{name}", folder=out, settings=own)


def write_runs(runs: Sequence[Run]) -> None:
    """Write the configuration folder of the runs, one experiment per run.

    It includes their data sets, and names the CSV in the working directory to which the runs append the zoo's lines of
    results.
    """
    folder = runs[0].config
    entries = {run.expid: {key: value for key, value in run.params.items() if key != "model_id"} for run in runs}
    write_config(folder / "model_config.yaml", {BASE: {}} | entries)
    sets = {
        run.params["dataset_id"]: {key: run.params[key] for key in ENTRY if key in run.params and key != "dataset_id"}
        for run in runs
    }
    write_config(folder / "dataset_config.yaml", sets)
