"""Which user and which items are drawn, on a small data set encoded here."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from fuxictr.features import FeatureMap
from made_data import as_csv, entry, prepare_entry, write_samples

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.experiment.models import load_feature_map
from dien_fuxictr.studies.evolution import sample as sample_module
from dien_fuxictr.studies.evolution.candidates import Candidate, Fields, known_items, named, same_ids, telling
from dien_fuxictr.studies.evolution.sample import Sample, choose_sample
from dien_fuxictr.studies.evolution.words import UNKNOWN, rows_of_words

TARGET, BEHAVIOURS = ("item_id", "cate_id"), ("item_history", "cate_history")
FIELDS = Fields(TARGET, BEHAVIOURS)


class Built(NamedTuple):
    samples: Path
    feature_map: FeatureMap
    encoder: Encoder
    params: dict

    def choose(self, user: str | None = None) -> Sample:
        return choose_sample(self.feature_map, self.encoder, self.params, BEHAVIOURS, user)

    def words(self, columns: tuple[str, ...], ids: np.ndarray) -> list[tuple[str, ...]]:
        return rows_of_words(self.encoder, columns, ids)

    def raw(self, sample: Sample) -> tuple[str, list[str]]:
        """Item and history of the sample in words."""
        item = self.words(TARGET, np.array([[sample.batch[name].item() for name in TARGET]]))
        return item[0][0], [words[0] for words in self.words(BEHAVIOURS, sample.history.T)]


def build(samples: Path, root: Path, data_format: str = "parquet") -> Built:
    given = entry(samples, root, data_format)
    params = prepare_entry(given)
    return Built(samples, load_feature_map(params), Encoder.load(root / "made", params), params)


def set_length(samples: Path, rows: pl.Expr, length: int) -> None:
    """Shorten the histories of test rows to their latest behaviours."""
    test = pl.read_parquet(samples / "test.parquet")
    cut = (pl.col("history_length") - length).cast(pl.Int64)
    test.with_columns(
        history_start=pl.when(rows).then(pl.col("history_start") + cut).otherwise("history_start"),
        history_length=pl.when(rows).then(length).otherwise("history_length").cast(pl.Int32),
    ).write_parquet(samples / "test.parquet")


def unclicked_first(samples: Path) -> None:
    pl.read_parquet(samples / "test.parquet").sort("label").write_parquet(samples / "test.parquet")


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build(write_samples(tmp_path / "in"), tmp_path)


def raw_rows(built: Built, rows: pl.Expr) -> list[tuple[str, list[str]]]:
    behaviours = pl.read_parquet(built.samples / "behaviours.parquet")["item_history"]
    test = pl.read_parquet(built.samples / "test.parquet").filter(rows)
    return [
        (row["item_id"], behaviours.slice(row["history_start"], row["history_length"]).to_list()[:6])
        for row in test.iter_rows(named=True)
    ]


@pytest.mark.parametrize("data_format", ["parquet", "csv"])
def test_the_row_of_a_user_that_was_clicked(data_format: str, tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "in")
    unclicked_first(samples)
    files = samples if data_format == "parquet" else as_csv(samples, tmp_path / "csv")
    built = build(files, tmp_path, data_format)._replace(samples=samples)
    for user in ("u0", "u7", "u11"):
        sample = built.choose(user)
        assert (sample.user, sample.clicked) == (user, True)
        item, history = raw_rows(built, (pl.col("user_id") == user) & (pl.col("label") == 1))[0]
        assert built.raw(sample) == (item, history)


def test_of_several_rows_the_longest_history(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "in")
    test = pl.read_parquet(samples / "test.parquet")
    pl.concat([test, test]).write_parquet(samples / "test.parquet")
    number = pl.int_range(pl.len())
    set_length(samples, number < test.height, 2)
    built = build(samples, tmp_path)
    assert built.choose("u3").history.shape == (2, len(raw_rows(built, pl.col("user_id") == "u3")[2][1]))


def test_a_user_whose_rows_were_not_clicked(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "in")
    test = pl.read_parquet(samples / "test.parquet")
    test.filter((pl.col("label") == 0) | (pl.col("user_id") != "u3")).write_parquet(samples / "test.parquet")
    assert not build(samples, tmp_path).choose("u3").clicked


def test_the_default_user_has_a_history_of_a_good_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = write_samples(tmp_path / "in")
    unclicked_first(samples)
    set_length(samples, pl.lit(True), 1)
    set_length(samples, pl.col("user_id").is_in(["u4", "u5"]), 3)
    built = build(samples, tmp_path)
    test = pl.read_parquet(samples / "test.parquet")
    first = test.filter((pl.col("label") == 1) & pl.col("user_id").is_in(["u4", "u5"]))
    monkeypatch.setattr(sample_module, "GOOD_LENGTH", 3)
    assert built.choose().user == first["user_id"][0] and built.choose().clicked


def test_bad_users(built: Built, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--user u99 is an unknown test user; nearest: u9"):
        built.choose("u99")
    with pytest.raises(
        UserError, match=r"^--user Ann is an unknown test user; there are 12: u\d+, u\d+, u\d+, \.\.\.$"
    ):
        built.choose("Ann")
    with pytest.raises(UserError, match="column buyer is missing in data set made; group_id must name"):
        built._replace(params={**built.params, "group_id": "buyer"}).choose()
    assert built._replace(params={**built.params, "group_id": None}).choose().user.startswith("u")
    (tmp_path / "made" / "encoded" / "test.npz").unlink()
    with pytest.raises(UserError, match="data set made must have test data"):
        built.choose()


def test_a_user_without_behaviours(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "in")
    set_length(samples, pl.col("user_id") == "u2", 0)
    for data_format, files in (("parquet", samples), ("csv", as_csv(samples, tmp_path / "csv"))):
        with pytest.raises(UserError, match="user u2 of the test data has no behaviours"):
            build(files, tmp_path / data_format, data_format).choose("u2")


def test_integer_users_that_are_not_encoded(tmp_path: Path) -> None:
    files = as_csv(write_samples(tmp_path / "in"), tmp_path / "csv")
    for file in files.glob("*.csv"):
        rows = pl.read_csv(file, infer_schema=False)
        rows.with_columns(pl.col("user_id").str.replace("u", "10")).write_csv(file)
    given = entry(files, tmp_path)
    given["feature_cols"][0] |= {"dtype": "int", "remap": False}
    params = prepare_entry(given)
    encoder = Encoder.load(tmp_path / "made", params)
    assert choose_sample(load_feature_map(params), encoder, params, BEHAVIOURS, "107").user == "107"


def test_every_item_is_known_the_most_frequent_first(built: Built) -> None:
    items = known_items(built.feature_map, FIELDS)
    assert items.columns == [*TARGET, "count"]
    splits = [pl.read_parquet(built.samples / f"{split}.parquet") for split in ("train", "valid", "test")]
    raw = pl.read_parquet(built.samples / "behaviours.parquet")["item_history"]
    expected = Counter(pl.concat([*(split["item_id"] for split in splits), raw]).to_list())
    words = built.words(TARGET, items.select(TARGET).to_numpy())
    found = {item: count for (item, _), count in zip(words, items["count"], strict=True)}
    assert found == {item: count for item, count in expected.items() if item in found}
    assert set(expected) - set(found) <= {UNKNOWN} | set(expected) - set(splits[0]["item_id"])
    assert items["count"].is_sorted(descending=True)
    assert all(category == f"c{int(item[1:]) % 4}" for item, category in words)


def test_named_items(built: Built) -> None:
    items = known_items(built.feature_map, FIELDS)
    chosen = named(items, built.encoder, ["i3", "i7", "i3"])
    assert built.words(TARGET, np.array([c.ids for c in chosen])) == [("i3", "c3"), ("i7", "c3")]
    with pytest.raises(UserError, match=r"--items i33 is an unknown item; nearest: i3"):
        named(items, built.encoder, ["i3", "i33"])


@pytest.mark.parametrize("user", [f"u{k}" for k in range(12)])
def test_telling_items(built: Built, user: str) -> None:
    items, sample = known_items(built.feature_map, FIELDS), built.choose(user)
    own = Candidate(tuple(sample.batch[name].item() for name in TARGET), "clicked")
    first, *others = telling(items, own, sample.history)
    assert first == own and len({c.ids[0] for c in (own, *others)}) == 1 + len(others)
    counts = Counter(sample.history[1].tolist())
    by_why = {candidate.why: candidate.ids for candidate in others}
    dominant = by_why["category most frequent in the history"]
    assert counts[dominant[1]] == max(counts.values())
    allowed = items.filter((pl.col("cate_id") == dominant[1]) & (pl.col("item_id") != own.ids[0]))
    assert dominant == allowed.row(0)[:2]
    absent = set(items["cate_id"].to_list()) - set(counts) - {own.ids[1]}
    if absent:
        assert by_why["category not in the history"][1] in absent
    else:
        assert set(by_why) == {"category most frequent in the history"}


def test_last_of_equally_frequent_categories_dominates() -> None:
    items = pl.DataFrame({"item_id": [1, 2, 3], "cate_id": [7, 8, 9], "count": [3, 2, 1]})
    history = np.array([[1, 2, 1, 2], [7, 8, 7, 8]])
    assert [c.ids for c in telling(items, Candidate((1, 7), "own"), history)] == [(1, 7), (2, 8), (3, 9)]


def test_items_without_a_category_stand_for_themselves() -> None:
    items = pl.DataFrame({"item_id": [1, 2, 3], "count": [3, 2, 1]})
    chosen = telling(items, Candidate((9,), "own"), np.array([[1, 2, 2]]))
    assert [(c.ids, c.why) for c in chosen[1:]] == [
        ((2,), "item most frequent in the history"),
        ((3,), "item not in the history"),
    ]
    without_history = telling(items, Candidate((1,), "own"), np.zeros((1, 0), int))
    assert [c.ids for c in without_history] == [(1,), (2,)]


def test_ids_of_behaviours_and_targets(built: Built) -> None:
    assert same_ids(built.feature_map, FIELDS)
    assert same_ids(built.feature_map, Fields(("item_id",), BEHAVIOURS))
    assert not same_ids(built.feature_map, Fields(("cate_id",), BEHAVIOURS))
    assert not same_ids(built.feature_map, Fields(TARGET, ("item_history",)))
    items = known_items(built.feature_map, Fields(("cate_id",), BEHAVIOURS))
    assert items.height == 4
