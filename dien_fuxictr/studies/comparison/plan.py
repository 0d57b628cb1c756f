"""Which runs a comparison has, and the configuration folder that `run_expid.py` reads them from."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.checkout import Checkout
from dien_fuxictr.experiment.configuration.config import BASE, merge, merge_model, read_files
from dien_fuxictr.experiment.configuration.yaml_files import write_config
from dien_fuxictr.experiment.contract import check_configuration
from dien_fuxictr.experiment.models import own_models

from ..runs.run import Run


def experiment_ids(config: Path, dataset: str | None, tag: str | None) -> list[str]:
    """Ids of a configuration folder: those on a data set, those whose id contains a tag, or both.

    Of equal experiments the first is taken, as the others would train the same again.

    Raises:
        UserError: no such folder or file, or a section that is no mapping.
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
    """expid -> merged configuration.

    Args:
        config: configuration folder.
        expids: of it.
        checkout: has the models that are not in `model_zoo/`.
        settings: what takes the place of the folder's values.

    Raises:
        UserError: an unknown experiment, a key or value that is not allowed, experiments on different data sets, one
            without AUC among its metrics, a data set without test data, or a model that its checkout does not have, or
            that cannot be imported from it.
    """
    models, datasets = read_files(config, "model_config"), read_files(config, "dataset_config")
    experiments = {}
    for expid in dict.fromkeys(expids):
        merged = merge(models, datasets, config, expid, settings)
        if checkout and not merged.params.get("zoo") and merged.params.get("model") not in own_models():
            merged.params["zoo"] = str(checkout.path)
        check_configuration(merged.params, merged.where)
        experiments[expid] = merged.params
    if not experiments:
        raise UserError("no experiment to compare: name some with --expids, or all on a data set with --dataset")
    first = next(iter(experiments))
    for expid, params in experiments.items():
        if params["dataset_id"] != experiments[first]["dataset_id"]:
            raise UserError(
                f"{first} is on data set {experiments[first]['dataset_id']}, {expid} on "
                f"{params['dataset_id']}: a comparison is on one"
            )
        if "AUC" not in (params.get("metrics") or []):
            raise UserError(f"{expid}: metrics has no AUC, which a comparison ranks by")
        if not params.get("test_data"):
            raise UserError(
                f"{expid}: data set {params['dataset_id']} has no test_data, and a comparison is on the test set; "
                "run_param_tuner.py ranks by validation"
            )
    return experiments


def plan(
    experiments: dict[str, dict[str, Any]], seeds: int, out: Path | None, settings: dict[str, Any] | None = None
) -> dict[str, list[Run]]:
    """The runs of each experiment, a seed each.

    The seeds are the entry's own, the next, and so on: the first run is what `run_expid.py` gives. Without `out` the
    comparison's folder is comparisons/<data set>. Checkpoints are below it, unless `settings` have a `model_root`.
    """
    dataset_id = next(iter(experiments.values()))["dataset_id"]
    settings = settings or {}
    out = out or Path("comparisons", dataset_id)
    model_root = settings.get("model_root", str(out / "checkpoints"))

    def run(name: str, params: dict[str, Any], seed: int) -> Run:
        expid = f"{name}_seed{seed}"
        changes = {"seed": seed, "verbose": 0, "model_root": model_root, "model_id": expid}
        own = {key: value for key, value in settings.items() if key not in changes}
        return Run(expid, params | changes, out / f"comparison_{dataset_id}", out, own)

    return {
        name: [run(name, params, params["seed"] + number) for number in range(seeds)]
        for name, params in experiments.items()
    }


def write_runs(runs: Sequence[Run], config: Path) -> None:
    """The folder that `run_expid.py --config` takes: an entry a run, and the data sets of the user's folder.

    Its name is that of the CSV in the working directory to which the runs append the zoo's lines of results.
    """
    folder = runs[0].config
    entries = {run.expid: {key: value for key, value in run.params.items() if key != "model_id"} for run in runs}
    write_config(folder / "model_config.yaml", {BASE: {}} | entries)
    for file, datasets in read_files(config, "dataset_config").items():
        write_config(folder / file.relative_to(config), datasets)
