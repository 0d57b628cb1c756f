"""Unknown keys and values that are not allowed."""

from pathlib import Path

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.configuration.config import Config
from dien_fuxictr.experiment.configuration.keys import HISTORIC, check_keys, known_keys
from dien_fuxictr.experiment.configuration.values import check_values
from model_zoo.DIEN.src import DIEN


def config(**params) -> Config:
    return Config(params, dict.fromkeys(params, "model_config.yaml [X]"), Path())


def test_keys_of_model_base_loaders_data_set_and_tuner_are_known():
    assert known_keys(DIEN) >= {
        "gru_type",
        "aux_loss_alpha",
        "monitor",
        "reduce_lr_on_plateau",
        "epochs",
        "max_gradient_norm",
        "batch_size",
        "shuffle",
        "num_workers",
        "feature_cols",
        "label_col",
        "min_categr_count",
        "rebuild_dataset",
        "data_root",
        "train_data",
        "build",
        "group_id",
        "feature_specs",
        "debug_mode",
        "seed",
        "data_block_size",
        "trim_histories",
    }


def test_historic_keys_of_the_zoo_pass():
    assert check_keys(config(**dict.fromkeys(HISTORIC)), DIEN, strict=True) == []


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("aux_loss_aplha", "aux_loss_alpha"),
        ("gru_typ", "gru_type"),
        ("epoch", "epochs"),
        ("batchsize", "batch_size"),
        ("min_category_count", "min_categr_count"),
        ("early_stopping_patience", "early_stop_patience"),
    ],
)
def test_misspelt_key_is_an_error_with_the_suggestion(key, meant):
    with pytest.raises(UserError, match=rf"unknown key '{key}' in model_config.yaml \[X\]; did you mean '{meant}'\?"):
        check_keys(config(**{key: 1}), DIEN, strict=False)


def test_other_unknown_keys_are_one_warning_or_with_strict_an_error():
    settings = config(my_note="x", colour="red", gru_type="GRU")
    (warning,) = check_keys(settings, DIEN, strict=False)
    assert "my_note" in warning and "colour" in warning and "gru_type" not in warning
    with pytest.raises(UserError, match="unknown keys: my_note"):
        check_keys(settings, DIEN, strict=True)


GOOD = {
    "model": "DIEN",
    "model_id": "X",
    "loss": "binary_crossentropy",
    "optimizer": "adam",
    "data_root": "data",
    "metrics": ["AUC", "logloss"],
    "data_format": "csv",
}


def check(**changes) -> None:
    check_values({**GOOD, **changes}, lambda key: "here")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "Adam"},
        {"optimizer": "SGD"},
        {"loss": "mse_loss"},
        {"embedding_regularizer": "l1_l2(1e-3,0.1)"},
        {"monitor": {"AUC": 1, "logloss": -1}, "eval_steps": None, "monitor_mode": "min"},
        {"metrics": ["gAUC", "NDCG(k=5)"], "group_id": "u", "net_regularizer": 0.0},
        {"task": "regression", "metrics": ["RMSE"], "monitor": "RMSE", "monitor_mode": "min"},
    ],
)
def test_good_values(changes):
    check(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0 in here must be an integer of at least 1"),
        ({"batch_size": True}, "batch_size = True"),
        ({"epochs": 0}, "epochs = 0"),
        ({"eval_steps": -1}, "eval_steps = -1 in here must be null or an integer of at least 1"),
        ({"epochs": None}, "epochs = None"),
        ({"early_stop_patience": 0}, "early_stop_patience"),
        ({"learning_rate": 0}, "learning_rate = 0 in here must be a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast'"),
        ({"max_gradient_norm": -1}, "max_gradient_norm"),
        ({"seed": 2**32}, "seed = 4294967296"),
        ({"seed": "x"}, "seed = 'x'"),
        ({"shuffle": "yes"}, "shuffle = 'yes' in here must be True or False"),
        ({"monitor_mode": "best"}, "monitor_mode = 'best' in here must be max or min"),
        ({"task": "ranking"}, "must be binary_classification or regression"),
        ({"data_format": "h5"}, "must be csv or parquet or npz"),
        ({"metrics": "AUC"}, "metrics = 'AUC' in here must be a list"),
        ({"metrics": ["AUC", "auc"]}, "metric 'auc' is unknown; allowed: AUC"),
        ({"monitor": "F1"}, "metric 'F1' is unknown"),
        ({"monitor": {"AUC": "much"}}, "monitor"),
        ({"metrics": ["gAUC"]}, "metric gAUC needs group_id"),
        ({"task": "regression"}, "metric AUC needs classes, but task is regression: metrics and monitor take MSE"),
        ({"optimizer": "adamm"}, "optimizer = 'adamm'"),
        ({"loss": "bce_lss"}, "loss = 'bce_lss'"),
        ({"loss": "x if __import__('os').system('true') else y"}, "loss = "),
        ({"net_regularizer": "l3(1)"}, "net_regularizer"),
        ({"loss": None}, "loss is missing: expid X needs it"),
        ({"model": "../DIEN"}, "the name of a class"),
    ],
)
def test_bad_values(changes, message):
    with pytest.raises(UserError) as error:
        check(**changes)
    assert message in str(error.value)
