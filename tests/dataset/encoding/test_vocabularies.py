"""Data that the vocabularies of a data set are fitted on."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fuxictr.preprocess.tokenizer import Tokenizer
from made_columns import META, categorical, sequence, write_rows
from made_data import entry, prepare_entry, prepared_arrays, write_samples
from made_raw import random_reviews, write_raw

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.encoding.online import OnlineEncoder
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.build_samples import build_samples
from dien_fuxictr.dataset.samples.protocols import SPLITS


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "csv")


def test_stored_behaviour_counts_once_per_training_row(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples")
    behaviours = pl.read_parquet(samples / "behaviours.parquet")
    train = pl.read_parquet(samples / "train.parquet")
    # One item is in the histories of the test rows alone, and often: the vocabulary must not be learnt from test rows.
    last = pl.col("time").rank(descending=True).over("user_id") <= 2
    behaviours = behaviours.with_columns(item_history=pl.when(last).then(pl.lit("late")).otherwise("item_history"))
    behaviours.write_parquet(samples / "behaviours.parquet")
    items = behaviours["item_history"].to_list()
    counts = Counter(
        item
        for start, length in train.select("history_start", "history_length").iter_rows()
        for item in items[start : start + length]
    )
    params = entry(
        samples, tmp_path, data_format="parquet", feature_cols=[sequence("item_history")], min_categr_count=12
    )
    data_dir, encoded = prepared_arrays(params)
    frequent = sorted((item for item in counts if counts[item] >= 12), key=lambda item: (-counts[item], item))
    assert 2 < len(frequent) < len(counts) and "late" not in counts and items.count("late") == 24
    vocabulary = json.loads((data_dir / "feature_vocab.json").read_text())["item_history"]
    assert vocabulary == {"__PAD__": 0, **{item: i for i, item in enumerate([*frequent, "__OOV__"], 1)}}
    assert (encoded["test"]["item_history"] == vocabulary["__OOV__"]).any()


def test_missing_side_value_is_a_separate_word(tmp_path: Path) -> None:
    """Use one word in targets, histories and items that were not clicked.

    If there is no such item, the value is padding.
    """
    log = pl.DataFrame(
        [(f"u{user}", f"i{item}", "c", 1_700_000_000 + item) for user in range(9) for item in range(1, 10)],
        ["user", "item", "cate", "time"],
        orient="row",
    ).with_columns(
        brand=pl.when(pl.col("item").is_in(["i3", "i4"])).then(pl.lit("b")),
        clicked=pl.col("item").is_in(["i1", "i3", "i5", "i7"])
        | ((pl.col("item") == "i8") & (pl.col("user") == "u0"))
        | ((pl.col("item") == "i9") & (pl.col("user") > "u4")),
    )
    log.write_parquet(tmp_path / "log.parquet")
    columns = {name: name for name in ("user", "item", "time")} | {"category": "cate", "label": "clicked"}
    names = ["brand_history", "neg_brand_history"]
    params = entry(
        tmp_path,
        tmp_path,
        data_format="parquet",
        feature_cols=[
            META,
            categorical("brand"),
            *(sequence(name, max_len=5, share_embedding="brand") for name in names),
        ],
        build={"source": "log", "input": str(tmp_path / "log.parquet"), **columns, "side": "brand"},
    )
    data_dir, encoded = prepared_arrays(params)
    vocabulary = json.loads((data_dir / "feature_vocab.json").read_text())["brand"]
    lacking = vocabulary["unknown"]
    assert vocabulary.keys() == {"__PAD__", "unknown", "b", "__OOV__"}
    test = encoded["test"]  # of item 9, after clicks on 1, 3, 5 and 7
    others = test["brand_history"][:, 4] == 0  # not user 0, since that user also clicked 8
    assert (test["brand"] == lacking).all() and others.sum() == 8
    assert (test["brand_history"][others] == [lacking, vocabulary["b"], lacking, lacking, 0]).all()
    assert (test["neg_brand_history"][others] == [0, lacking, vocabulary["b"], lacking, 0]).all()


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_targets_per_user_only_change_training_rows(form: str, tmp_path: Path) -> None:
    reviews = random_reviews(users=30, items=25, days=200)
    files = write_raw(tmp_path, reviews, {item: ["all", f"c{int(item[1:]) % 4}"] for _, item, _ in reviews})
    build = {"source": "amazon", "reviews": str(files[0]), "meta": str(files[1]), "max_len": 2}
    sizes, learnt, tested = [], [], []
    for targets in (1, 2, None):
        samples, root = tmp_path / f"samples{targets}", tmp_path / f"root{targets}"
        options = {**build, "targets_per_user": targets, "format": form}
        if form == "csv":
            build_samples(BuildOptions.of(options), samples, verbose=False)
        params = entry(samples, root, form, **({} if form == "csv" else {"build": options}))
        data_dir, encoded = prepared_arrays(params)
        sizes.append(len(encoded.pop("train")["label"]))
        tested.append(encoded)
        catalogue = np.load(data_dir / "behaviour_catalogue" / "item_history.npz")
        learnt.append(
            (json.loads((data_dir / "encoder.json").read_text()), {k: v.tolist() for k, v in catalogue.items()})
        )
    assert sizes[0] < sizes[1] < sizes[2] and sizes[1] <= 2 * sizes[0] <= 4 * 30
    assert learnt[0] == learnt[1] == learnt[2]
    for split, name in itertools.product(("valid", "test"), tested[2]["test"]):
        assert all(np.array_equal(arrays[split][name], tested[2][split][name]) for arrays in tested[:2])


def test_history_order_keeps_vocabularies_and_counts(tmp_path: Path) -> None:
    reviews = random_reviews()
    files = write_raw(tmp_path, reviews, {item: ["all", f"c{int(item[1:]) % 4}"] for _, item, _ in reviews})
    build = {"source": "amazon", "reviews": str(files[0]), "meta": str(files[1]), "max_len": 4}
    learnt, encoded = [], []
    for order in ("time", "shuffled"):
        params = entry(tmp_path, tmp_path / order, "parquet", build={**build, "history_order": order})
        data_dir, arrays = prepared_arrays(params)
        catalogue = np.load(data_dir / "behaviour_catalogue" / "item_history.npz")
        vocabularies = json.loads((data_dir / "encoder.json").read_text())["vocabularies"]
        learnt.append((vocabularies, {name: values.tolist() for name, values in catalogue.items()}))
        encoded.append(arrays["train"])
    assert learnt[0] == learnt[1] and sum(learnt[0][1]["count"]) > 100
    items = [arrays["item_history"] for arrays in encoded]
    assert (items[0] != items[1]).any() and np.array_equal(np.sort(items[0]), np.sort(items[1]))
    params = entry(tmp_path, tmp_path / "cut", "parquet", build={**build, "history_order": "shuffled", "max_len": 7})
    with pytest.raises(UserError, match="item_history: shuffled histories cannot be cut to their last max_len"):
        prepare_entry(params)


def test_integer_keys_of_pretrained_embeddings(rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "pretrained.npz"
    np.savez(file, key=np.arange(18, 40), value=np.ones((22, 3)))
    params = entry(rows, tmp_path, feature_cols=[categorical("age", "int", pretrained_emb=str(file), pretrain_dim=3)])
    data_dir, _ = prepared_arrays(params)
    vocabulary = json.loads((data_dir / "feature_vocab.json").read_text())["age"]
    assert {str(age) for age in range(18, 40)} < set(vocabulary)
    assert 39 in json.loads((data_dir / "encoder.json").read_text())["vocabularies"]["age"]["tokens"]


def test_unmapped_ids(rows: Path, tmp_path: Path) -> None:
    """Map unmapped ids, which the zoo never counts and fails on."""
    params = entry(rows, tmp_path, feature_cols=[categorical("age", "int", remap=False), categorical("item_id")])
    data_dir, encoded = prepared_arrays(params)
    ages = pl.read_csv(rows / "train.csv")["age"]
    tokenizer = Tokenizer(remap=False)
    tokenizer.build_vocab(dict(ages.value_counts().iter_rows()))
    for split in SPLITS:
        raw = pl.read_csv(rows / f"{split}.csv")["age"].to_list()
        np.testing.assert_array_equal(encoded[split]["age"], tokenizer.encode_category(raw))
    spec = json.loads((data_dir / "feature_map.json").read_text())["features"][0]["age"]
    assert spec["vocab_size"] == ages.max() + 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([categorical("item_id", remap=False)], "item_id: remap: False needs integers"),
        ([{**META, "remap": False}], "user_id: remap: False needs integers"),
        ([categorical("item_id", min_categr_count=1000)], "item_id: no value of the training rows is frequent"),
        (
            [categorical("age", "int", remap=False, min_categr_count=1000)],
            "age: no value of the training rows is",
        ),
        ([categorical("unseen", "str")], "unseen: no value of the training rows is frequent enough"),
        ([{**META, "name": "empty"}], "empty: no value of the training rows is frequent enough"),
        ([sequence("unseen")], "unseen: no value of the training rows is frequent enough"),
        (
            [sequence("item_history", share_embedding="item_id"), categorical("item_id")],
            "must be a column listed before item_h",
        ),
    ],
)
def test_columns_that_cannot_be_fitted(columns: list[dict], message: str, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        prepare_entry(entry(rows, tmp_path / "ours", feature_cols=columns))
    assert not (tmp_path / "ours" / "made").exists()


@pytest.mark.parametrize("loader", ["in_memory", "memory_mapped"])
@pytest.mark.parametrize(("raw", "word"), [("item", "__OOV__"), ("cate", "__PAD__"), ("user", "__PAD__")])
def test_a_reserved_word_in_a_log_is_rejected(raw: str, word: str, loader: str, tmp_path: Path) -> None:
    log = pl.DataFrame(
        [
            (f"u{user}", f"i{(user + item) % 12}", "c", 1_700_000_000 + item)
            for user in range(9)
            for item in range(1, 10)
        ],
        ["user", "item", "cate", "time"],
        orient="row",
    ).with_columns(pl.when(pl.col("item").is_in(["i1", "i2"])).then(pl.lit(word)).otherwise(raw).alias(raw))
    log.write_parquet(tmp_path / "log.parquet")
    names = {"user": "user", "item": "item", "category": "cate", "time": "time"}
    build = {"source": "log", "input": str(tmp_path / "log.parquet"), **names, "max_len": 5, "negatives": "uniform"}
    params = entry(tmp_path, tmp_path, data_format="parquet", build=build, data_loader=loader)
    column = {"item": "item_id", "cate": "cate_id", "user": "user_id"}[raw]
    message = f"a value is reserved for padding or unknown values: {column} = '{word}' in the rows of the data set; "
    with pytest.raises(UserError, match=f"^{message}"):
        prepare_entry(params)
    assert not (tmp_path / "made").exists()


def test_reserved_words_of_new_rows_are_unknown_values(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples")
    encoder = Encoder.load(tmp_path / "made", prepare_entry(entry(samples, tmp_path, data_format="parquet")))
    words = ["__PAD__", "__OOV__"]
    row = {"item_id": words[:1], "cate_id": words[1:], "item_history": [words], "cate_history": [["c1", *words[:1]]]}
    split = encoder.encode_rows(pl.DataFrame(row))
    oov = {name: encoder.vocabularies[name]["__OOV__"] for name in ("item_id", "cate_id")}
    (table,) = split.tables
    assert [split.columns[name].tolist() for name in oov] == [[each] for each in oov.values()]
    assert table.columns["item_history"][:2].tolist() == [oov["item_id"]] * 2
    assert table.columns["cate_history"][1] == oov["cate_id"]
    online = OnlineEncoder(encoder)
    assert online.encode_scalars("item_id", words)["item_id"].tolist() == [oov["item_id"]] * 2
    assert (
        online.encode_histories({name: row[name][0] for name in ("item_history", "cate_history")})[
            "item_history"
        ].tolist()
        == [oov["item_id"]] * 2
    )


def test_a_missing_value_may_count_as_padding(tmp_path: Path) -> None:
    """Count a missing value as padding if `fill_na` says so."""
    params = entry(write_rows(tmp_path / "in"), tmp_path, feature_cols=[META, categorical("brand", fill_na="__PAD__")])
    encoder = Encoder.load(tmp_path / "made", prepare_entry(params))
    rows = pl.DataFrame({"brand": [None, "__OOV__"]})
    expected = [0, encoder.vocabularies["brand"]["__OOV__"]]
    assert encoder.encode_rows(rows).columns["brand"].tolist() == expected
    assert OnlineEncoder(encoder).encode_scalars("brand", rows["brand"].to_list())["brand"].tolist() == expected
