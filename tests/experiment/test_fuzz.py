"""Any key of an entry, column or build with any value: a run, or one line."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_csv import MODEL, DienOnCsv

from dien_fuxictr.common.errors import TrainingError, UserError
from dien_fuxictr.experiment.configuration.config import merge
from dien_fuxictr.experiment.contract import known_keys
from dien_fuxictr.experiment.experiment import Experiment
from dien_fuxictr.experiment.training.trainer import Trainer
from model_zoo.DIEN.src import DIEN
from model_zoo.DIENLight.src.booster import KEYWORDS

# These keys name files that would be read or written; other tests cover their values.
PLACES = {"model_root", "data_root", "model_id", "gpu", "zoo"}
KEYS = sorted(known_keys(DIEN) - PLACES | {"epochs_", "colour"})
BOOSTER_KEYS = sorted(KEYWORDS | {"embedding_dim", "gru_hidden"})
COLUMN_KEYS = [
    *("name", "active", "dtype", "type", "source", "splitter", "max_len", "padding", "share_embedding"),
    *("feature_encoder", "embedding_dim", "fill_na", "min_categr_count", "remap", "preprocess", "normalizer"),
    *("pretrained_emb", "pretrain_dim", "freeze_emb", "pretrain_usage", "vocab_size", "category_processor", "paddding"),
]
BUILD_KEYS = ["source", "reviews", "meta", "form", "protocol", "negatives", "ties", "max_len", "seed", "fold", "format"]

NUMBERS = st.one_of(
    st.booleans(),
    st.sampled_from([0, 1, 2, -1, 10**9, 10**12, 10**20, -(10**30), 2**31, 2**63]),
    st.floats(allow_nan=True, allow_infinity=True),
)
TEXTS = st.one_of(
    st.sampled_from(["", "1e-3", "yes", "relu", "Dice", "GRU", "SGD", "item_id", "item_history", "__class__", "a/b"]),
    st.text(max_size=5),
)
SCALARS = st.one_of(st.none(), NUMBERS, TEXTS)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.lists(st.lists(SCALARS, max_size=2), max_size=2),
    st.tuples(SCALARS, SCALARS),
    st.dictionaries(st.one_of(TEXTS, st.integers()), SCALARS, max_size=2),
)


@pytest.fixture(scope="module")
def dien(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DienOnCsv]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("fuzz")
        patch.chdir(folder)
        patch.setattr(Trainer, "fit", one_step)
        made = DienOnCsv(folder)
        made.write_raw()
        yield made


def one_step(self: Trainer, train_loader: Any, valid_loader: Any, epochs: int = 1) -> None:
    """Take one step instead of a whole training."""
    self.model.train()
    self.model._max_gradient_norm = 10.0
    self.model.train_step(next(iter(train_loader)))


def run(dien: DienOnCsv, model: dict[str, Any], dataset: dict[str, Any]) -> None:
    """Build the data set, train a step and predict, on copies of the settings."""
    places = {Path("m.yaml"): {"X": deepcopy(model)}}, {Path("d.yaml"): {"d": deepcopy(dataset)}}
    try:
        experiment = Experiment(merge(*places, dien.folder / "config", "X"))
        experiment.prepare(rebuild=True)
        experiment.fit()
        experiment.evaluate()
    except (UserError, TrainingError) as error:
        assert str(error)


def tries(examples: int) -> Any:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@tries(350)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_entries(dien: DienOnCsv, key: str, value: Any) -> None:
    run(dien, {**MODEL, key: value}, dien.dataset)


@tries(100)
@given(key=st.sampled_from(BOOSTER_KEYS), value=VALUES)
def test_boosters(dien: DienOnCsv, key: str, value: Any) -> None:
    run(dien, {**MODEL, "model": "DIENLight", "booster": {key: value}}, dien.dataset)


@tries(150)
@given(column=st.integers(0, 4), key=st.sampled_from(COLUMN_KEYS), value=VALUES)
def test_columns(dien: DienOnCsv, column: int, key: str, value: Any) -> None:
    dataset = deepcopy(dien.dataset)
    columns = [*dataset["feature_cols"], dataset["label_col"]]
    columns[column] |= {key: value}
    run(dien, MODEL, dataset)


@tries(50)
@given(key=st.sampled_from(BUILD_KEYS), value=VALUES)
def test_builds(dien: DienOnCsv, key: str, value: Any) -> None:
    build = {"source": "amazon", "reviews": "reviews.json.gz", "meta": "meta.json.gz", "max_len": 6}
    run(dien, {**MODEL, "verbose": 0}, {**dien.dataset, "data_format": "parquet", "build": {**build, key: value}})


@tries(50)
@given(key=st.sampled_from(["name", *COLUMN_KEYS]), value=VALUES)
def test_feature_specs(dien: DienOnCsv, key: str, value: Any) -> None:
    run(dien, {**MODEL, "feature_specs": [{"name": "item_id", key: value}]}, dien.dataset)
