"""In-process fit and encoding equal the zoo's own, file by file and id by id."""

import json
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from fuxictr.preprocess import FeatureProcessor
from fuxictr.preprocess.build_dataset import merge_meta_ddf
from fuxictr.preprocess.tokenizer import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from made_columns import META, categorical, numeric, sequence, write_rows
from made_data import as_csv, entry, prepare_entry, prepared_arrays, write_samples

from dien_fuxictr.dataset.samples.protocols import SPLITS

SHARED = [
    META,
    categorical(["item_id", "cate_id"]),
    sequence("item_history", share_embedding="item_id"),
    sequence("cate_history", share_embedding="cate_id"),
]

CONFIGS = {
    "shared": {"feature_cols": SHARED},
    "frequent": {"feature_cols": SHARED, "min_categr_count": 6},
    "frequent_column": {"feature_cols": [categorical("item_id", min_categr_count=5), categorical("cate_id")]},
    "rare_users": {"feature_cols": [META, categorical("item_id", min_categr_count=5)], "min_categr_count": 1000},
    "own_embedding": {"feature_cols": [categorical("item_id"), sequence("item_history")]},
    "pre": {"feature_cols": [categorical("item_id"), sequence("item_history", padding="pre", max_len=2)]},
    "short": {"feature_cols": [categorical("item_id"), sequence("item_history", max_len=2)]},
    "longest": {"feature_cols": [categorical("item_id"), sequence("item_history", max_len=0)]},
    "two_share": {
        "feature_cols": [
            categorical("item_id"),
            sequence("item_history", share_embedding="item_id"),
            sequence("other_history", share_embedding="item_id", max_len=3),
            sequence("pipes", splitter="|"),
        ]
    },
    "integers": {
        "feature_cols": [
            {**META, "name": "count", "dtype": "int"},
            categorical("age", "int"),
            categorical("zip", "int", fill_na=7),
        ]
    },
    "raw_meta": {"feature_cols": [{**META, "name": "count", "dtype": "int", "remap": False}, categorical("item_id")]},
    "numbers": {
        "feature_cols": [
            categorical("item_id"),
            numeric("price", normalizer="StandardScaler"),
            numeric("zip", "int"),
            numeric("score", normalizer="MinMaxScaler", fill_na=0.5),
            numeric("age", "int", normalizer="MinMaxScaler"),
        ]
    },
    "copied": {
        "feature_cols": [
            categorical("item_id"),
            categorical("copy", preprocess="copy_from(item_id)"),
            sequence("again", preprocess="copy_from(item_history)", share_embedding="item_id"),
        ]
    },
    "inactive": {"feature_cols": [categorical("item_id"), categorical("cate_id", active=False)]},
    "filled": {
        "feature_cols": [
            categorical("brand", fill_na="none"),
            sequence("gaps", fill_na="none"),
            sequence("other_history", fill_na="i3"),
        ]
    },
    "encoder": {
        "feature_cols": [
            categorical("item_id", embedding_dim=3, source="item"),
            sequence("item_history", feature_encoder="layers.MaskedSumPooling()", emb_output_dim=5),
        ]
    },
    "pooled": {
        "feature_cols": [
            categorical("item_id"),
            {key: value for key, value in sequence("item_history").items() if key != "feature_encoder"},
        ]
    },
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "csv")


def zoo_arrays(params: dict, root: Path) -> tuple[Path, dict[str, dict[str, np.ndarray]]]:
    """Fit and transform by the zoo's own classes, without Ray."""
    params = {**params, "data_root": str(root)}
    processor = FeatureProcessor(**params)
    frames = [processor.preprocess(processor.read_data(params[f"{split}_data"], data_format="csv")) for split in SPLITS]
    processor.fit(frames[0], merge_meta_ddf(processor, *frames), min_categr_count=params["min_categr_count"])
    encoded = {}
    for split, frame in zip(SPLITS, frames, strict=True):
        columns = frame.collect()
        encoded[split] = processor.transform({name: columns[name].to_numpy() for name in columns.columns})
    return Path(processor.data_dir), encoded


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def assert_as_the_zoo(params: dict, root: Path) -> None:
    ours, our_encoded = prepared_arrays(params)
    theirs, zoo_encoded = zoo_arrays(params, root)
    for name in ("feature_map.json", "feature_vocab.json"):
        assert (ours / name).read_text() == (theirs / name).read_text()
    for split in SPLITS:
        assert set(our_encoded[split]) == set(zoo_encoded[split])
        for name, expected in zoo_encoded[split].items():
            expected = np.asarray(expected)
            expected = expected.astype(np.float32 if expected.dtype.kind == "f" or name == "label" else np.int64)
            actual = our_encoded[split][name]
            if actual.dtype == np.float32:
                expected = expected.astype(np.float32)
            np.testing.assert_array_equal(actual, expected, err_msg=f"{split} {name}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_zoo(name: str, rows: Path, tmp_path: Path) -> None:
    assert_as_the_zoo(entry(rows, tmp_path / "ours", **CONFIGS[name]), tmp_path / "zoo")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", ["h5", "npz", "parquet"])
def test_pretrained_embeddings_expand_vocabulary_like_zoo(suffix: str, rows: Path, tmp_path: Path) -> None:
    file = tmp_path / f"pretrained.{suffix}"
    keys, values = ["i1", "i3", "new1", "new2"], np.ones((4, 5))
    if suffix == "h5":
        with h5py.File(file, "w") as store:
            store["key"], store["value"] = np.array(keys, dtype="S"), values
    elif suffix == "npz":
        np.savez(file, key=np.array(keys), value=values)
    else:
        pl.DataFrame({"key": keys, "value": list(values)}).write_parquet(file)
    columns = [
        categorical("item_id", pretrained_emb=str(file), pretrain_dim=5, freeze_emb=False),
        sequence("item_history", share_embedding="item_id"),
    ]
    params = entry(rows, tmp_path / "ours", feature_cols=columns)
    assert_as_the_zoo(params, tmp_path / "zoo")
    data_dir = tmp_path / "ours" / "made"
    assert (data_dir / f"pretrained_item_id.{suffix}").exists()
    assert "new2" in json.loads((data_dir / "feature_vocab.json").read_text())["item_id"]
    # Its content is part of the fingerprint, not its path.
    moved = file.rename(tmp_path / f"elsewhere.{suffix}")
    columns[0]["pretrained_emb"] = str(moved)
    prepare_entry(params)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "columns",
    [
        [categorical("item_id", min_categr_count=1000), sequence("item_history", share_embedding="item_id")],
        [categorical("item_id"), sequence("item_history", share_embedding="item_id", min_categr_count=1000)],
        [categorical("item_id"), sequence("unseen", share_embedding="item_id")],
        [
            categorical("item_id", min_categr_count=1000),
            sequence("unseen", share_embedding="item_id"),
            sequence("other_history", share_embedding="item_id", min_categr_count=3),
            sequence("item_history", share_embedding="item_id", min_categr_count=3),
        ],
        [categorical("unseen", fill_na="none"), categorical("brand", share_embedding="unseen", fill_na="none")],
        [categorical("age", "int", min_categr_count=1000), categorical("zip", "int", share_embedding="age")],
    ],
)
def test_rare_column_takes_values_of_shared_embedding(
    columns: list[dict], rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fit as in a FuxiCTR checkout, whose Tokenizer does not need a first word."""
    build_vocab = Tokenizer.build_vocab

    def as_in_a_checkout(tokenizer: Tokenizer, counts: dict) -> None:
        frequent = [word for word, count in counts.items() if count >= tokenizer._min_freq]
        if frequent in ([], [tokenizer._na_value]):
            tokenizer.vocab = {"__PAD__": 0, "__OOV__": 1}
        else:
            build_vocab(tokenizer, counts)

    params = entry(rows, tmp_path / "ours", feature_cols=columns)
    prepare_entry(params)
    with pytest.raises(IndexError):
        zoo_arrays(params, tmp_path / "wheel")
    monkeypatch.setattr(Tokenizer, "build_vocab", as_in_a_checkout)
    assert_as_the_zoo(params, tmp_path / "zoo")


TOKEN = st.text(alphabet="ab1 ", max_size=2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(TOKEN, max_size=5), min_size=2, max_size=12),
    st.sampled_from(["pre", "post"]),
    st.integers(1, 4),
    st.integers(1, 2),
    st.sampled_from(["", "a"]),
)
def test_random_tokens_encode_as_in_the_zoo(tmp_path_factory, rows, padding, max_len, min_count, fill_na) -> None:
    folder = tmp_path_factory.mktemp("random")
    text = ["^".join(row) for row in rows]
    always = "b^b^b"  # one frequent token: the zoo cannot fit without any
    frame = pl.DataFrame({"label": 0.0, "history": [*text, always]}, schema_overrides={"history": pl.String})
    for split in SPLITS:
        frame.write_csv(folder / f"{split}.csv", quote_style="non_numeric")
    columns = [sequence("history", padding=padding, max_len=max_len, fill_na=fill_na)]
    params = entry(folder, folder / "ours", feature_cols=columns, min_categr_count=min_count, group_id=None)
    assert_as_the_zoo(params, folder / "zoo")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_shared_histories_equal_their_csv_form(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples")
    csv = entry(as_csv(samples, tmp_path / "csv"), tmp_path / "a")
    assert_as_the_zoo(csv, tmp_path / "zoo")
    of_csv, expected = prepared_arrays(csv)
    of_samples, actual = prepared_arrays(entry(samples, tmp_path / "b", data_format="parquet"))
    for name in ("feature_map.json", "feature_vocab.json"):
        assert (of_csv / name).read_text() == (of_samples / name).read_text()
    for split in SPLITS:
        for name, values in expected[split].items():
            np.testing.assert_array_equal(actual[split][name], values, err_msg=f"{split} {name}")
    stored = np.load(of_samples / "encoded" / "histories" / "item_history.npy")
    assert len(stored) == len(pl.read_parquet(samples / "behaviours.parquet")) + 1
