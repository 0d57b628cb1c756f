"""Suites, searches and configurations of research/ have known ids and keys."""

import csv
import json
from pathlib import Path
from typing import Any, ClassVar

import fuxictr.utils
import pytest
import yaml
from pages import ROOT

from dien_fuxictr.experiment.configuration.config import BASE, load_config, read_files
from dien_fuxictr.experiment.contract import check_configuration
from dien_fuxictr.studies.comparison.plan import plan_suite
from dien_fuxictr.studies.comparison.suite import read_suite
from dien_fuxictr.studies.sweep.grid import read_tuners

CONFIG = ROOT / "config"
ROCKET = ROOT / "research" / "rocket_launching"
SUITES = sorted((ROOT / "research" / "suites").glob("*.yaml"))
SEARCHED = (
    "learning_rate",
    "batch_size",
    "net_dropout",
    "embedding_regularizer",
    "embedding_regularization",
    "aux_loss_alpha",
    "aux_num_negatives",
    "weight_averaging",
    "epochs",
)
"""Values that validation chose, by a search or by a study."""


@pytest.fixture
def fast_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the C parser in the zoo's loader."""
    monkeypatch.setattr(yaml, "FullLoader", getattr(yaml, "CFullLoader", yaml.FullLoader))


def without(params: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in params.items() if key not in ("model", "model_id", *names)}


class TestRocketLaunching:
    """Experiments of research/rocket_launching/ on data sets of config/.

    Their comparison must not be trained.
    """

    experiments: ClassVar = {
        expid: load_config(ROCKET, expid)
        for entries in read_files(ROCKET, "model_config").values()
        for expid in entries
        if expid != BASE
    }
    light: ClassVar = [expid for expid in experiments if expid.startswith("DIENLight_")]
    boosters: ClassVar = [expid for expid in experiments if expid.endswith("_booster")]

    @pytest.mark.parametrize("expid", experiments)
    def test_the_zoo_reads_the_same_and_the_checks_pass(self, expid: str, fast_yaml: None) -> None:
        config = self.experiments[expid]
        assert config.params == fuxictr.utils.load_config(str(ROCKET), expid)
        check_configuration(config.params, config.where)
        assert not config.warnings

    @pytest.mark.parametrize("expid", boosters)
    def test_booster_is_the_dien_of_config_except_its_size(self, expid: str) -> None:
        """On the same data set; of Beauty's, it was trained before the search."""
        smaller = load_config(CONFIG, expid.removesuffix("_booster")).params
        searched = SEARCHED if smaller["dataset_id"] == "amazon_beauty_last" else ()
        assert without(self.experiments[expid].params, *searched) == without(smaller, *searched) | {
            "gru_hidden_size": 108
        }

    @pytest.mark.parametrize("expid", light)
    def test_light_net_and_booster_are_those_that_train_alone(self, expid: str) -> None:
        beside = self.experiments[expid].params
        alone = f"DIEN_{beside['dataset_id']}"
        light, booster = (self.experiments[f"{alone}_{name}"].params for name in ("light", "booster"))
        own = ("booster", "hint_loss_weight", "shared_gradient", "booster_checkpoint")
        assert without(beside, *own) == without(light)
        assert without(beside, *own) | beside["booster"] == without(booster)


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_every_run_of_a_suite_has_a_valid_configuration(file: Path, tmp_path: Path) -> None:
    for run in plan_suite(read_suite(CONFIG, str(file)), CONFIG, tmp_path, {}).runs(None):
        check_configuration(run.params, str)


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_a_suite_has_its_file_of_rows_here(file: Path) -> None:
    assert read_suite(CONFIG, str(file)).results == Path("research", "results", f"{file.stem}.csv")


SEARCHES = ROOT / "research" / "searches"
BEST = list(csv.DictReader((SEARCHES / "best_trials.csv").read_text(encoding="utf-8").splitlines()))


CHOSEN_OTHERWISE = {("DIEN_movielens", "batch_size"): "by validation on all behaviours, of 128 and 512"}


def test_every_search_has_its_best_trial() -> None:
    searched = {(file.stem, tuner.subfolder) for file in SEARCHES.glob("*.yaml") for tuner in read_tuners(file)}
    assert {(row["search"], row["experiment"]) for row in BEST} == searched and len(BEST) == len(searched)


@pytest.mark.parametrize("row", BEST, ids=lambda row: row["experiment"])
def test_entries_have_the_keywords_of_their_best_trial(row: dict[str, str]) -> None:
    params = load_config(CONFIG, row["experiment"]).params
    for key, value in json.loads(row["keywords"]).items():
        if (row["experiment"], key) not in CHOSEN_OTHERWISE:
            same = value if isinstance(value, str) else pytest.approx(value, rel=0.02, abs=0.001)
            assert params[key] == same, key
