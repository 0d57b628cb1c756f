"""Bad input of a run of DIEN: one line, exit code 2, nothing overwritten.

The data are raw files or CSV.
"""

import gzip
import math

import polars as pl
import pytest
from made_csv import FEATURES, STRING, DienOnCsv


@pytest.fixture
def dien(workspace, capsys):
    return DienOnCsv(workspace.folder)


@pytest.fixture
def trained(dien, workspace):
    assert workspace.run(expid="X") == 0
    return dien


def test_good_input_from_csv_and_raw(dien, workspace):
    assert workspace.run(expid="X") == 0
    dien.raw()
    dien.configure(dataset={"data_root": "./built2/"})
    assert workspace.run(expid="X") == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gru_type": "LSTM"}, "gru_type"),
        ({"attention_type": "cosine"}, "attention_type"),
        ({"aux_loss_alpha": -1}, "aux_loss_alpha"),
        ({"aux_loss_alpha": math.nan}, "aux_loss_alpha"),
        ({"aux_negatives": "hard"}, "aux_negatives"),
        ({"dien_target_field": ["none"], "dien_sequence_field": ["item_history"]}, "none"),
        ({"dien_target_field": ["item_id"], "dien_sequence_field": ["no_history"]}, "no_history"),
        ({"dien_target_field": ["item_id"], "dien_sequence_field": ["cate_id"]}, "cate_id"),
        ({"dien_target_field": ["item_history"]}, "item_history"),
        (
            {"feature_specs": [{"name": "item_history", "feature_encoder": "layers.MaskedAveragePooling()"}]},
            "item_history",
        ),
        ({"gru_tpye": "GRU"}, "did you mean 'gru_type'"),
        ({"metrics": ["AUC", "recall"]}, "recall"),
        ({"batch_size": 0}, "batch_size"),
        ({"embedding_dim": 0}, "embedding_dim = 0"),
        ({"gru_hidden_size": 0}, "gru_hidden_size = 0"),
        ({"gru_hidden_size": -3}, "gru_hidden_size = -3"),
        ({"dnn_hidden_units": ["wide"]}, "dnn_hidden_units = ['wide']"),
        ({"dnn_activations": "relux"}, "dnn_activations = 'relux'"),
    ],
    ids=str,
)
def test_settings(trained, bad, settings, message):
    trained.configure(settings)
    assert message in bad(expid="X")


@pytest.mark.parametrize(
    "fault", ["column", "empty", "classes", "labels", "empty label", "lengths", "int beside str", "changed"]
)
def test_csv_files(trained, bad, fault):
    train = pl.read_csv(trained.folder / "train.csv")
    settings = {}
    if fault == "column":
        train.drop("cate_id").write_csv(trained.folder / "train.csv")
    elif fault == "empty":
        train.head(0).write_csv(trained.folder / "train.csv")
    elif fault == "classes":
        train.with_columns(label=1).write_csv(trained.folder / "train.csv")
    elif fault == "labels":
        train.with_columns(pl.col("label") * 2).write_csv(trained.folder / "train.csv")
    elif fault == "empty label":
        test = pl.read_csv(trained.folder / "test.csv")
        test.with_columns(pl.col("label").replace(0, None)).write_csv(trained.folder / "test.csv")
    elif fault == "lengths":
        broken = pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("c1^c1^c1^c1^c1^c1")).otherwise("cate_history")
        train.with_columns(cate_history=broken).write_csv(trained.folder / "train.csv")
    elif fault == "int beside str":
        features = [dict(column) for column in FEATURES]
        features[1:2] = [
            {**STRING, "name": "item_id", "type": "categorical", "dtype": "int"},
            {**STRING, "name": "cate_id", "type": "categorical"},
        ]
        settings["feature_cols"] = features
    else:
        train.head(30).write_csv(trained.folder / "train.csv")
    if fault != "changed":
        settings["data_root"] = "./built2/"
    trained.configure(dataset=settings)
    expected = {
        "column": "cate_id",
        "empty": "train",
        "classes": "every label",
        "labels": "label = 2",
        "empty label": "test.csv: label label is missing in row 1",
        "lengths": "row 4",
        "changed": "--rebuild",
        "int beside str": "item_id",
    }
    assert expected[fault] in bad(expid="X")


def test_missing_csv(trained, bad):
    trained.configure(dataset={"train_data": "none.csv", "data_root": "./built2/"})
    assert "train_data: none.csv does not exist; tried" in bad(expid="X")


@pytest.mark.parametrize("fault", ["truncated", "broken line", "missing", "empty"])
def test_raw_files(dien, bad, fault):
    dien.raw()
    reviews = dien.folder / "reviews.json.gz"
    lines = gzip.decompress(reviews.read_bytes()).splitlines(keepends=True)
    if fault == "truncated":
        reviews.write_bytes(reviews.read_bytes()[:-60])
    elif fault == "broken line":
        lines[6] = b'{"reviewerID": "u1", "asin"\n'
        reviews.write_bytes(gzip.compress(b"".join(lines)))
    elif fault == "empty":
        reviews.write_bytes(gzip.compress(b""))
    else:
        reviews.unlink()
    message = bad(expid="X")
    expected = {
        "truncated": "reviews.json.gz",
        "broken line": "line 7",
        "missing": "; to get it: ask the authors",
        "empty": "reviews.json.gz",
    }
    assert expected[fault] in message


def test_max_len_of_0_is_refused(dien, workspace, capsys):
    features = [{**column, "max_len": 0} if column.get("max_len") else column for column in FEATURES]
    dien.configure(dataset={"feature_cols": features})
    assert workspace.run(expid="X") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "max_len = 0" in line]
    longest = pl.read_csv("train.csv")["item_history"].str.count_matches(r"\^").max() + 1
    assert len(said) == 2 and said[0].endswith(
        f"warning: column item_history: max_len = 0 becomes {longest}, the length of the longest history of the "
        "training rows; longer histories are cut"
    )


def test_a_header_with_a_name_twice(dien, bad):
    file = dien.folder / "train.csv"
    file.write_bytes(file.read_bytes().replace(b"user_id", b"item_id", 1))
    dien.configure(dataset={"data_root": "./built2/"})
    assert "train.csv: the header has the column 'item_id' twice" in bad(expid="X")
