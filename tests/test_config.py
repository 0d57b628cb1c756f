"""config/: its form for the zoo, and a training of each experiment.

Raw files are synthetic, in the form that each one needs.
"""

import re
import shutil
from pathlib import Path

import fuxictr.utils
import pytest
import torch
import yaml
from made_project import make_project

from dien_fuxictr.experiment.cli import main
from dien_fuxictr.experiment.configuration.config import BASE, merge, read_files
from dien_fuxictr.experiment.contract import check_configuration
from dien_fuxictr.studies.comparison.plan import plan_suite
from dien_fuxictr.studies.comparison.suite import read_suite, suite_files

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
SUITES = (*suite_files(CONFIG).values(), *(ROOT / "research" / "suites").glob("*.yaml"))
MODELS = read_files(CONFIG, "model_config")
DATASETS = read_files(CONFIG, "dataset_config")
EXPERIMENTS = {
    expid: merge(MODELS, DATASETS, CONFIG, expid) for entries in MODELS.values() for expid in entries if expid != BASE
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), epochs=1)


@pytest.fixture
def fast_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the C parser in the zoo's loader."""
    monkeypatch.setattr(yaml, "FullLoader", getattr(yaml, "CFullLoader", yaml.FullLoader))


@pytest.mark.parametrize("expid", EXPERIMENTS)
def test_the_zoo_reads_the_same(expid: str, fast_yaml: None) -> None:
    config = EXPERIMENTS[expid]
    assert config.params == fuxictr.utils.load_config(str(CONFIG), expid)
    assert not config.warnings


@pytest.mark.parametrize("file", MODELS, ids=lambda file: file.name)
def test_experiments_of_a_file_share_data_set_and_budget(file: Path) -> None:
    entries = MODELS[file]
    assert entries[BASE]["dataset_id"] == file.stem
    budget = {"dataset_id", "optimizer", "epochs", "seed", "embedding_dim", "monitor"}
    assert budget | {"learning_rate", "batch_size"} <= entries[BASE].keys()
    assert not [(expid, key) for expid, entry in entries.items() if expid != BASE for key in budget & entry.keys()]


ABLATION = re.compile(r"_(GRU|AIGRU|AGRU|AUGRU)(_aux)?$")
"""Trained on the sample: on other data sets its variants differ by the same two keys."""


@pytest.mark.parametrize("expid", [expid for expid in EXPERIMENTS if ABLATION.sub("", expid) in (expid, "DIEN_amazon")])
def test_experiment_trains(
    expid: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main(["--expid", expid, "--strict"]) == 0, capsys.readouterr().err
    result = (project / "config.csv").read_text().splitlines()[-1]
    assert f"[exp_id] {expid}," in result and result.count("AUC: ") == 4
    dataset = result.split("[dataset_id] ")[1].split(",")[0]
    weights = torch.load(project / "checkpoints" / dataset / f"{expid}.model", weights_only=True)
    assert all(value.isfinite().all() for value in weights.values())
    assert any(".auxiliary_loss." in name and not name.startswith("booster.") for name in weights) == (
        EXPERIMENTS[expid].params.get("aux_loss_alpha", 0) > 0
    )


@pytest.mark.parametrize("gru_type", ["GRU", "AIGRU", "AGRU", "AUGRU"])
@pytest.mark.parametrize("dataset", ["amazon", "amazon_beauty_last", "movielens"])
def test_ablation_has_variants_with_and_without_aux_loss(dataset: str, gru_type: str) -> None:
    without, with_loss, paper, dien = (
        {key: value for key, value in EXPERIMENTS[f"DIEN_{dataset}{variant}"].params.items() if key != "model_id"}
        for variant in (f"_{gru_type}", f"_{gru_type}_aux", "_AUGRU_aux", "")
    )
    assert without["aux_loss_alpha"] == 0 < with_loss["aux_loss_alpha"]
    assert without == {**with_loss, "aux_loss_alpha": 0} == {**paper, "gru_type": gru_type, "aux_loss_alpha": 0}
    assert dien == (paper | {"augru_gate": "tensorflow"} if dataset == "movielens" else paper)


@pytest.mark.parametrize("name", suite_files(CONFIG))
def test_every_run_of_a_suite_has_a_valid_configuration(name: str, tmp_path: Path) -> None:
    for run in plan_suite(read_suite(CONFIG, name), CONFIG, tmp_path, {}).runs(None):
        check_configuration(run.params, str)


def test_every_data_set_entry_is_used() -> None:
    entries = [name for content in read_files(CONFIG, "dataset_config").values() for name in content]
    by_experiments = {config.params["dataset_id"] for config in EXPERIMENTS.values()}
    by_suites = {read_suite(CONFIG, str(file)).settings.get("dataset_id") for file in SUITES} - {None}
    assert by_experiments | by_suites == set(entries)


@pytest.mark.parametrize(
    "expid", [expid for expid in EXPERIMENTS if EXPERIMENTS[expid].params["dataset_id"] != "amazon"]
)
def test_missing_raw_files(
    expid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says how to get them; the sample comes with the project."""
    shutil.copytree(CONFIG, tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    assert main(["--expid", expid]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: .* does not exist; tried .*; to get it: (wget|pip download|python -m) ", line)
