"""Keys and values of a configuration: unknown, misspelt, of wrong type or range."""

import inspect

import pytest
from fuxictr.preprocess import FeatureProcessor, build_dataset
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.dataloaders.npz_block_dataloader import NpzBlockDataLoader
from fuxictr.pytorch.dataloaders.parquet_dataloader import ParquetDataLoader
from fuxictr.pytorch.models import BaseModel
from made_parameters import GOOD

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment import contract
from dien_fuxictr.experiment.contract import HISTORIC, check_configuration, known_keys
from model_zoo.DIEN.src import DIEN


def check(strict: bool = False, **changes) -> list[str]:
    return check_configuration({**GOOD, **changes}, lambda key: "a.yaml [X]", strict)


def test_keys_of_every_reader_are_known():
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


def test_every_key_that_the_zoo_declares_is_known():
    functions = [BaseModel.__init__, BaseModel.fit, RankDataLoader, NpzBlockDataLoader.__init__, FeatureProcessor.fit]
    functions += [ParquetDataLoader.__init__, FeatureProcessor.__init__, FeatureProcessor.read_data, build_dataset]
    named = {name for function in functions for name in inspect.signature(function).parameters}
    of_the_caller = {"train_ddf", "meta_ddf", "feature_encoder", "kwargs", *contract._OF_THE_CALLER}
    assert named - known_keys(DIEN) == of_the_caller & named


@pytest.mark.parametrize("key", ["stage", "data_path", "feature_map"])
def test_what_the_program_gives_the_zoo_is_no_key(key):
    with pytest.raises(UserError, match=f"'{key}' in a.yaml .X. is not a key"):
        check(**{key: 1})


def test_historic_keys_of_the_zoo_pass():
    assert check(strict=True, **dict.fromkeys(HISTORIC)) == []


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
    with pytest.raises(UserError, match=rf"unknown key '{key}' in a.yaml \[X\]; did you mean '{meant}'\?"):
        check(**{key: 1})


def test_unknown_keys_warn_or_are_errors_if_strict():
    settings = {"my_note": "x", "colour": "red", "gru_type": "GRU", "feature_specs": [{"name": "a", "na_value": 0}]}
    (warning,) = check(**settings)
    assert "my_note" in warning and "colour" in warning and "gru_type" not in warning
    assert "na_value ('a' of feature_specs in a.yaml [X])" in warning
    with pytest.raises(UserError, match="unknown keys: my_note"):
        check(strict=True, **settings)


@pytest.mark.parametrize("key", ["loss", "optimizer", "dnn_activations", "net_regularizer", "metrics", "monitor"])
def test_no_text_is_evaluated(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("x if open('owned', 'w') else y", "open('owned', 'w')", "l1(open('owned', 'w'))"):
        with pytest.raises(UserError):
            check(**{key: [text] if key == "metrics" else text})
    assert not list(tmp_path.iterdir())


def test_a_model_of_a_checkout_declares_no_types(monkeypatch):
    class Other(BaseModel):
        def __init__(self, feature_map, net_dropout=0, units=3, **kwargs):
            """Keywords as the zoo's models have them."""

    monkeypatch.setattr(contract, "find_model", lambda *_: Other)
    assert check(net_dropout=[0.1, 0], units="any", strict=True) == []
    with pytest.raises(UserError, match=r"net_dropout = 'a' in a.yaml .X. must be a number from 0 to below 1 or"):
        check(net_dropout="a")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "Adam"},
        {"optimizer": "SGD"},
        {"optimizer": "RMSprop"},
        {"learning_rate": "1e-3", "batch_size": "128"},
        {"dien_target_field": "a", "dien_sequence_field": ("a", "b"), "dien_neg_seq_field": [["a", "b"], "c"]},
        {"dnn_hidden_units": [8, 4], "dnn_activations": ["Dice", "PReLU"], "attention_activation": "sigmoid"},
        {"loss": "mse_loss"},
        {"aux_loss_alpha": "0.5", "weight_averaging": "none"},
        {"weight_averaging": "ema", "weight_averaging_decay": 0, "embedding_regularization": "mini_batch_aware"},
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
        ({"batch_size": 0}, "batch_size = 0 in a.yaml [X] must be a whole number, 1 or more"),
        ({"batch_size": True}, "batch_size = True"),
        ({"epochs": 0}, "epochs = 0"),
        ({"eval_steps": -1}, "eval_steps = -1 in a.yaml [X] must be a whole number, 1 or more or null"),
        ({"epochs": None}, "epochs = None"),
        ({"early_stop_patience": 0}, "early_stop_patience"),
        ({"learning_rate": 0}, "learning_rate = 0 in a.yaml [X] must be a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast'"),
        ({"max_gradient_norm": -1}, "max_gradient_norm"),
        (
            {"embedding_regularization": "rows"},
            "embedding_regularization = 'rows' in a.yaml [X] must be table or mini_batch_aware",
        ),
        ({"embedding_reinit": "epoch"}, "embedding_reinit in a.yaml [X] is gone"),
        ({"embedding_learning_rate": 0.1}, "embedding_learning_rate in a.yaml [X] is gone"),
        ({"weight_averaging": "swa"}, "weight_averaging = 'swa' in a.yaml [X] must be none or ema"),
        ({"weight_averaging_decay": 1}, "weight_averaging_decay = 1 in a.yaml [X] must be a number from 0 to below 1"),
        ({"behaviour_dropout": 0.1}, "behaviour_dropout in a.yaml [X] is gone"),
        ({"seed": 2**32}, "seed = 4294967296"),
        ({"seed": "x"}, "seed = 'x'"),
        ({"shuffle": "yes"}, "shuffle = 'yes' in a.yaml [X] must be True or False"),
        ({"trim_histories": 5}, "trim_histories = 5 in a.yaml [X] must be True or False"),
        ({"batch_norm": "yes"}, "batch_norm = 'yes' in a.yaml [X] must be True or False"),
        ({"monitor_mode": "best"}, "monitor_mode = 'best' in a.yaml [X] must be max or min"),
        ({"task": "ranking"}, "must be binary_classification or regression"),
        ({"data_format": "h5"}, "must be csv, parquet or npz"),
        (
            {"data_loader": "fast"},
            "data_loader = 'fast' in a.yaml [X] must be in_memory, memory_mapped (earlier: flat), zoo or None",
        ),
        ({"min_categr_count": -3}, "min_categr_count = -3"),
        ({"sep": "||"}, "sep = '||' in a.yaml [X] must be one ASCII character"),
        ({"sep": ""}, "sep = ''"),
        ({"model_root": 5}, "model_root = 5 in a.yaml [X] must be text"),
        ({"data_root": 5}, "data_root = 5"),
        ({"metrics": "AUC"}, "metrics = 'AUC' in a.yaml [X] must be a list"),
        ({"metrics": ["AUC", "auc"]}, "metric 'auc' is unknown; allowed: AUC"),
        ({"metrics": []}, "metrics = [] in a.yaml [X] must be a list of metrics"),
        ({"monitor": "F1"}, "metric 'F1' is unknown"),
        ({"monitor": {"AUC": "much"}}, "monitor"),
        ({"monitor": {}}, "monitor = {}"),
        ({"metrics": ["gAUC"]}, "metric gAUC needs group_id"),
        (
            {"task": "regression"},
            "metric AUC cannot be combined with task = regression; metrics and monitor must be of MSE",
        ),
        ({"optimizer": "adamm"}, "optimizer = 'adamm'"),
        ({"optimizer": "LBFGS"}, "optimizer = 'LBFGS'"),
        ({"optimizer": "SparseAdam"}, "optimizer = 'SparseAdam'"),
        ({"optimizer": "lr_scheduler"}, "optimizer = 'lr_scheduler'"),
        ({"loss": "bce_lss"}, "loss = 'bce_lss'"),
        ({"loss": "relu"}, "loss = 'relu'"),
        ({"loss": "cross_entropy"}, "loss = 'cross_entropy'"),
        ({"loss": "__class__"}, "loss = '__class__'"),
        ({"loss": "x if __import__('os').system('true') else y"}, "loss = "),
        ({"net_regularizer": "l3(1)"}, "net_regularizer"),
        ({"embedding_regularizer": -1}, "embedding_regularizer = -1"),
        ({"embedding_regularizer": [1]}, "embedding_regularizer = [1]"),
        ({"embedding_regularizer": "l1_l2(1e-3,-1)"}, "embedding_regularizer = 'l1_l2(1e-3,-1)'"),
        ({"loss": None}, "loss is missing in a.yaml [X]"),
        ({"model": "../DIEN"}, "model = '../DIEN' in a.yaml [X] must be the name of a class"),
        ({"model": ["DIEN"]}, "model = ['DIEN']"),
        ({"zoo": 5}, "zoo = 5 in a.yaml [X] must be the folder of a FuxiCTR checkout"),
        ({"dnn_hidden_units": 200}, "dnn_hidden_units = 200 in a.yaml [X] must be a list, each a whole number"),
        ({"attention_hidden_units": 80}, "attention_hidden_units = 80"),
        ({"dnn_hidden_units": [0]}, "dnn_hidden_units = [0] in a.yaml [X] must be a list, each a whole number from 1"),
        ({"embedding_dim": [18]}, "embedding_dim = [18]"),
        (
            {"embedding_dim": 10**11},
            "embedding_dim = 100000000000 in a.yaml [X] must be a whole number from 1 to 65536",
        ),
        ({"aux_fixed_negatives": "yes"}, "aux_fixed_negatives = 'yes' in a.yaml [X] must be True or False"),
        (
            {"aux_negatives": "hard"},
            "aux_negatives = 'hard' in a.yaml [X] must be column, in_batch, popularity, uniform, category or mixed",
        ),
        ({"aux_loss_alpha": [1, 0]}, "aux_loss_alpha = [1, 0] in a.yaml [X] must be a finite number, 0 or more"),
        ({"aux_pretrain_epochs": 1}, "aux_pretrain_epochs in a.yaml [X] is gone"),
        ({"augru_sign": "code"}, "augru_sign in a.yaml [X] is now augru_gate; its value code is now tensorflow"),
        ({"aux_pool": "batch"}, "aux_pool in a.yaml [X] is now aux_negative_scope; its value worker is now shard"),
        ({"batch_statistics": "all"}, "batch_statistics in a.yaml [X] is now sync_batch_norm: True for all, False for"),
        ({"aux_num_negatives": 10**9}, "aux_num_negatives = 1000000000"),
        (
            {"dnn_hidden_units": [8, 4], "dnn_activations": ["ReLU"]},
            "must be one value, or one for each of the 2 layers",
        ),
        (
            {"aux_hidden_units": [8, 4], "aux_activation": ["ReLU"]},
            "aux_activation = ['ReLU'] in a.yaml [X] must be one",
        ),
        ({"dnn_activations": "relux"}, "dnn_activations = 'relux' in a.yaml [X] must be Dice, PReLU or the name"),
        ({"dnn_activations": "Module"}, "dnn_activations = 'Module'"),
        ({"dnn_activations": ["ReLU", 3]}, "dnn_activations = ['ReLU', 3]"),
        ({"net_dropout": "a"}, "net_dropout = 'a' in a.yaml [X] must be a number"),
        ({"net_dropout": [0.1, 0.2]}, "net_dropout = [0.1, 0.2] in a.yaml [X] must be a number"),
        ({"net_dropout": -0.1}, "net_dropout = -0.1 in a.yaml [X] must be a number from 0 to below 1"),
        ({"gru_type": "LSTM"}, "gru_type = 'LSTM' in a.yaml [X] must be GRU, AIGRU, AGRU"),
        (
            {"aux_loss_weighting": "attention"},
            "aux_loss_weighting = 'attention' in a.yaml [X] must be uniform, target_attention or newest",
        ),
        ({"aux_loss_alpha": float("inf")}, "aux_loss_alpha = inf in a.yaml [X] must be a finite number, 0 or more"),
        ({"dien_target_field": 3}, "dien_target_field = 3 in a.yaml [X] must be the name of a feature, a tuple"),
        ({"dien_target_field": [3]}, "dien_target_field = [3]"),
        ({"feature_specs": 3}, "feature_specs = 3 in a.yaml [X] must be a list, each a mapping with name, or null"),
        (
            {"feature_specs": [{"feature_encoder": None}]},
            "name is missing in {'feature_encoder': None} of feature_specs",
        ),
        ({"feature_cols": {"name": "a"}}, "feature_cols = {'name': 'a'} in a.yaml [X] must be a list, each a mapping"),
        ({"feature_cols": "a"}, "feature_cols = 'a'"),
        ({"feature_cols": ["a"]}, "feature_cols = ['a']"),
        ({"label_col": "label"}, "label_col = 'label' in a.yaml [X] must be a mapping with name and dtype, or a list"),
        ({"label_col": {"name": 5, "dtype": "float"}}, "name = 5"),
        ({"build": "amazon"}, "build = 'amazon' in a.yaml [X] must be a mapping of options"),
        ({"build": {"source": "amazon"}}, "reviews is missing in the build from source amazon"),
        ({"use_features": 3}, "use_features = 3 in a.yaml [X] must be a list of features, or null for all"),
        ({"use_features": [3]}, "use_features = [3]"),
        ({"group_id": 5}, "group_id = 5"),
        ({"group_id": ""}, "group_id = '' in a.yaml [X] must be the name of a feature, or null"),
        ({5: 1}, "the key 5 in a.yaml [X] must be text"),
    ],
)
def test_bad_values(changes, message):
    with pytest.raises(UserError) as error:
        check_configuration({**GOOD, **changes}, lambda key: "a.yaml [X]")
    assert message in str(error.value)
