import math
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_raw import as_log, random_reviews

from dien_fuxictr.dataset.audit import main
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.leak_audit import PRIOR, audit, order_of, read_csv, table
from dien_fuxictr.dataset.samples.protocols import DAY
from dien_fuxictr.dataset.samples.samples import Samples
from dien_fuxictr.dataset.samples.sampling import make_samples

KINDS = (("positives", 1), ("negatives", 0))


def samples_of(log: pl.DataFrame, **given) -> Samples:
    return make_samples(log, BuildOptions.of({"source": "amazon", "reviews": "r", "meta": "m", **given}))


def plain_rows(samples: Samples, split: str) -> list[dict]:
    """Return the samples with their histories as lists."""
    behaviours = {name: samples.behaviours[name].to_list() for name in ("item_history", "cate_history")}
    rows = samples.splits[split].to_dicts()
    for place, row in enumerate(rows):
        row["place"] = place
        span = slice(row["history_start"], row["history_start"] + row["history_length"])
        row.update({name: values[span] for name, values in behaviours.items()})
    return rows


def plain_auc(rows: list[dict], score: Callable[[dict], float]) -> float:
    """Return the share of pairs that the score orders correctly; ties count half."""
    positive, negative = ([score(row) for row in rows if row["label"] == label] for label in (1, 0))
    right = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    return right / len(positive) / len(negative)


def plain_shares(samples: Samples) -> dict[str, float]:
    """Return how often an item occurs in the history of its own row."""
    rows = plain_rows(samples, "test")
    found = {
        kind: [row["item_id"] in row["item_history"] for row in rows if row["label"] == label] for kind, label in KINDS
    }
    return {kind: round(sum(each) / len(each), 6) for kind, each in found.items()}


def plain_audit(samples: Samples) -> dict[str, float]:
    train, test = plain_rows(samples, "train"), plain_rows(samples, "test")
    longest: dict[str, dict] = {}
    for row in train:
        if row["label"] == 1 and len(row["item_history"]) >= len(longest.get(row["user_id"], row)["item_history"]):
            longest[row["user_id"]] = row
    baskets = [[*row["item_history"], row["item_id"]] for row in longest.values()]
    popularity = Counter(item for basket in baskets for item in basket)
    seen = {item for row in train for item in [*row["item_history"], row["item_id"]]}
    owners = defaultdict(set)
    for number, basket in enumerate(baskets):
        for item in basket:
            owners[item].add(number)

    def above(name: str, row: dict) -> int:
        last = row[f"{name}_history"][-1] if row[f"{name}_history"] else row[f"{name}_id"]
        return (row[f"{name}_id"] > last) - (row[f"{name}_id"] < last)

    def rank(name: str) -> dict[str, int]:
        values = {row[name] for row in train + test} | {value for row in test for value in row[name[:4] + "_history"]}
        return {value: place for place, value in enumerate(sorted(values))}

    def rate(name: str, value: str) -> float:
        labels = [row["label"] for row in train if row[name] == value]
        base = sum(row["label"] for row in train) / len(train)
        return round((sum(labels) + PRIOR * base) / (len(labels) + PRIOR), 12)

    def key(row: dict) -> tuple:
        return tuple(row[name] for name in ("user_id", "item_id", "cate_id", "history_start", "history_length"))

    def cosine(one: str, other: str) -> float:
        return len(owners[one] & owners[other]) / math.sqrt(max(len(owners[one]) * len(owners[other]), 1))

    cates = Counter(cate for row in longest.values() for cate in [*row["cate_history"], row["cate_id"]])
    copies = Counter(map(key, train + test))
    item_rank, cate_rank = rank("item_id"), rank("cate_id")
    rules = {
        "training popularity": lambda row: popularity[row["item_id"]],
        "item unseen in training": lambda row: row["item_id"] not in seen,
        "id above the last one's": lambda row: above("item", row),
        "history length": lambda row: len(row["item_history"]),
        "category seen in history": lambda row: row["cate_id"] in row["cate_history"],
        "row number": lambda row: row["place"],
        "row number odd": lambda row: row["place"] % 2,
        "copies of the row": lambda row: copies[key(row)],
        "item order": lambda row: item_rank[row["item_id"]],
        "item positive rate": lambda row: rate("item_id", row["item_id"]),
        "item seen in history": lambda row: row["item_id"] in row["item_history"],
        "item equal to the last": lambda row: row["item_history"][-1:] == [row["item_id"]],
        "category frequency": lambda row: cates[row["cate_id"]],
        "category order": lambda row: cate_rank[row["cate_id"]],
        "category positive rate": lambda row: rate("cate_id", row["cate_id"]),
        "category above the last one's": lambda row: above("cate", row),
        "category equal to the last": lambda row: row["cate_history"][-1:] == [row["cate_id"]],
        "item-kNN": lambda row: round(sum(cosine(row["item_id"], item) for item in row["item_history"]), 4),
    }
    return {name: plain_auc(test, rule) for name, rule in rules.items()}


LOGS = {
    "leave_one_out": {"protocol": "leave_one_out"},
    "last": {"protocol": "last", "folds": 3},
    "truncated": {"protocol": "leave_one_out", "max_len": 3, "min_history": 0},
    "leaks": {
        "protocol": "time",
        "valid_from": 30 * DAY,
        "test_from": 40 * DAY,
        "negatives": "popularity",
        "ties": "file",
    },
}


@pytest.mark.parametrize("items", [25, 99])
@pytest.mark.parametrize("name", LOGS)
def test_rules_against_plain_loops(name: str, items: int) -> None:
    samples = samples_of(as_log(random_reviews(users=60, items=items)), **LOGS[name])
    result = audit(samples)
    found = result["trivial"] | result["untrained"]
    expected = plain_audit(samples)
    assert found.keys() == expected.keys() and result["test_rows"] == samples.splits["test"].height
    assert found == pytest.approx(expected, abs=6e-5)
    assert result["in_own_history"] == plain_shares(samples)


def test_rules_on_labelled_exposures() -> None:
    log = as_log(random_reviews(users=80)).with_columns(label=(pl.int_range(pl.len()) % 5 < 2).cast(pl.Int8))
    samples = samples_of(log, protocol="time", valid_from=30 * DAY, test_from=35 * DAY, min_history=0)
    result = audit(samples)
    assert result["trivial"] | result["untrained"] == pytest.approx(plain_audit(samples), abs=6e-5)
    assert result["in_own_history"] == plain_shares(samples)


def test_negatives_in_their_own_history_are_reported() -> None:
    """Show that negatives, not positives, occur in their own history.

    Every user chooses ten of forty items once each.
    """
    rng = np.random.default_rng(0)
    log = as_log(
        [
            (f"u{user}", f"i{item}", day * DAY)
            for user in range(200)
            for day, item in enumerate(rng.permutation(40)[:10])
        ]
    )
    shares = audit(samples_of(log))["in_own_history"]
    assert shares["positives"] == 0 and 0.15 < shares["negatives"] < 0.3
    kept = audit(samples_of(log, exclude_history=True))
    assert kept["in_own_history"] == {"positives": 0, "negatives": 0}
    assert table(kept).splitlines()[-1] == (
        "Items that lie in the sample's own history: 0.00% of the positives and 0.00% of the negatives."
    )
    shown = table({**kept, "in_own_history": {"positives": 0.5, "negatives": 0.0005}})
    assert shown.endswith("own history: 50.00% of the positives and 0.05% of the negatives.")


@pytest.mark.parametrize("name", LOGS)
def test_audits_of_csv_and_parquet_are_equal(name: str, tmp_path: Path) -> None:
    samples = samples_of(as_log(random_reviews(users=60, items=25)), **LOGS[name])
    samples.save_csv(tmp_path, verbose=False)
    assert audit(read_csv(tmp_path / "train.csv", tmp_path / "test.csv")) == audit(samples)


def test_knn_in_parts_and_on_some_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = samples_of(as_log(random_reviews(users=60, items=25)))
    whole = audit(samples)
    monkeypatch.setattr("dien_fuxictr.dataset.samples.leak_audit.KNN_ENTRIES", 60)
    assert audit(samples) == whole
    monkeypatch.setattr("dien_fuxictr.dataset.samples.leak_audit.KNN_ROWS", 50)
    some = audit(samples)
    assert some["trivial"] == whole["trivial"] and some["untrained"]["item-kNN"] != whole["untrained"]["item-kNN"]
    assert some == audit(samples)


@pytest.fixture(scope="module")
def shifting() -> pl.DataFrame:
    """Return behaviours with seven on one day, four of newer items on the next.

    There are 2,000 users; rows are sorted by item as in the real files.
    """
    rng = np.random.default_rng(0)
    day = np.tile(np.repeat([0, 1], [7, 4]), 2000)
    items = rng.permutation(600)[rng.integers(0, 300, day.size) + 300 * day]
    return (
        pl.DataFrame(
            {
                "user_id": np.repeat(np.arange(2000), 11),
                "item_id": items + 1000,
                "cate_id": items % 9,
                "time": day * DAY,
            }
        )
        .with_columns(pl.exclude("time").cast(pl.String))
        .unique(maintain_order=True)
        .sort("item_id")
    )


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ({}, []),
        ({"negatives": "popularity"}, ["training popularity"]),
        ({"negatives": "uniform"}, ["training popularity"]),
        ({"ties": "file"}, ["id above the last one's"]),
        (
            {"ties": "file", "negatives": "popularity"},
            ["training popularity", "id above the last one's", "item order", "item positive rate"],
        ),
    ],
)
def test_leaks_are_seen(given: dict, rules: list[str], shifting: pl.DataFrame) -> None:
    result = audit(samples_of(shifting, **given))
    assert [warning.split("'")[1] for warning in result["warnings"]] == [
        rule if "last one" not in rule else "id above the last one" for rule in rules
    ]
    lines = table(result).splitlines()
    assert len(lines) == 2 + len(result["trivial"]) + len(result["untrained"])
    assert [line for line in lines if "<- leak" in line] == [
        line for line in lines if any(rule in line for rule in rules)
    ]
    if not given:
        exact = [rule for rule in result["trivial"] if "last one" not in rule and "row number" not in rule]
        assert [result["trivial"][rule] for rule in exact] == [0.5] * len(exact) and len(exact) == 9


@pytest.mark.parametrize(
    ("words", "order"),
    [
        (["10", "9", "2"], [3, 2, 1]),
        (["10", "9", "2", "x"], [1, 3, 2, 4]),
        (["9.5", "-1", "1e1", "unknown", ""], [2, 1, 3, 0, 0]),
        (["9" * 30, "1" + "0" * 30], [2, 1]),
        ([str(2**60 + 1), str(2**60)], [2, 1]),
    ],
)
def test_order_is_by_number_or_by_text(words: list[str], order: list[int]) -> None:
    assert order_of(pl.Series(words)).tolist() == order


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], shifting: pl.DataFrame) -> None:
    samples = samples_of(shifting, ties="file")
    expected = table(audit(samples)) + "\n"
    parquet, text = tmp_path / "built" / "samples", tmp_path / "text"
    for folder in (parquet, text):
        folder.mkdir(parents=True)
    samples.save(parquet)
    samples.save_csv(text, verbose=False)
    for paths in ([parquet], [parquet.parent], [text], [text / "train.csv", text / "test.csv"]):
        assert main([str(path) for path in paths]) == 0
        shown = capsys.readouterr()
        assert shown.out == expected and shown.err.count("\n") == 1
        assert shown.err.startswith("warning: leak: the rule 'id above the last one's' scores ")
        assert shown.err.endswith(" of .5, unless users' interests follow the order of its values\n")


@pytest.mark.parametrize("name", LOGS)
def test_counts_find_the_items_that_written_out_histories_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the digit."""
    samples = samples_of(as_log(random_reviews(users=60, items=99)), **LOGS[name])
    result = audit(samples)

    def written_out(start: np.ndarray, length: np.ndarray, size: int) -> np.ndarray:
        rows = [row for first, many in zip(start, length, strict=True) for row in range(first, first + many)]
        return np.bincount(rows, minlength=size)

    monkeypatch.setattr("dien_fuxictr.dataset.samples.leak_audit.coverage", written_out)
    assert audit(samples) == result


def test_audit_memory_grows_with_behaviours_only() -> None:
    """Audit ten users of 1,000 behaviours, whose histories sum up to 10 million."""
    rng = np.random.default_rng(0)
    log = as_log([(f"u{user}", f"i{rng.integers(500)}", day * DAY) for user in range(10) for day in range(1000)])
    samples = samples_of(log, max_len=1000)
    assert samples.splits["train"]["history_length"].sum() == 2 * 10 * sum(range(1, 998))
    tracemalloc.start()
    try:
        audit(samples)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
