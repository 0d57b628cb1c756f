"""What rules without a model score on a data set: a leak shows here, and it is what a model has to beat.

The *trivial* rules know nothing of interests: where one is off .5, in either direction, a model can read the same from
the data. The *untrained* ones know a little. Below them stands how often an item lies in its sample's own history:
where that differs between positives and negatives, a model can read it too.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.metrics import roc_auc_score

from dien_fuxictr.common.csv_lines import scan_csv
from dien_fuxictr.common.errors import UserError

from .behaviour_log import clicks
from .ranges import Occurrences, coverage, members
from .samples import Samples

TOLERANCE = 0.05
KNN_ROWS = 50_000
KNN_ENTRIES = 20_000_000
"""Entries of the sparse intermediate of item-kNN held at once, 8 bytes each."""
CSV_COLUMNS = ("label", "item_id", "cate_id", "item_history", "cate_history")


@dataclass(frozen=True)
class Rows:
    """The samples of a split as arrays: numbers of the candidate's item and category, range of the history."""

    label: np.ndarray
    item: np.ndarray
    cate: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def take(self, rows: np.ndarray) -> "Rows":
        """Some of the samples."""
        return Rows(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def audit(samples: Samples) -> dict:
    """Test AUC of each rule, and the shares of positives and negatives whose item lies in the sample's own history.

    Item-kNN is the sum, over the items of the history, of the cosine between the sets of training users who have the
    two items; on more than 50,000 test rows it takes a random 50,000. Training histories are never written out: memory
    follows the numbers of behaviours and samples.

    Returns:
        {"test_rows": int, "trivial": {rule: AUC}, "untrained": {rule: AUC},
        "in_own_history": {"positives": share, "negatives": share}, "warnings": [str]}.

    Raises:
        UserError: the test split has labels of one kind only.
    """
    behaviours = samples.behaviours
    train, test = samples.splits["train"], samples.splits["test"]
    if test["label"].n_unique() < 2:
        raise UserError(f"the test split has {test.height} samples, all of label {test['label'].first()}: no AUC")
    (item, *item_of), (cate, *cate_of) = (
        numbered(behaviours[f"{name}_history"], train[f"{name}_id"], test[f"{name}_id"]) for name in ("item", "cate")
    )
    as_rows = [
        Rows(
            rows["label"].to_numpy(),
            items,
            cates,
            rows["history_start"].to_numpy(),
            rows["history_length"].to_numpy().astype(np.int64),
        )
        for rows, items, cates in zip((train, test), item_of, cate_of, strict=True)
    ]
    users = train["user_id"] if "user_id" in train.columns else None
    basket, basket_item = baskets(as_rows[0], item, users)
    seen = np.zeros(max(part.max(initial=0) for part in (item, *item_of)) + 1, bool)
    seen[as_rows[0].item] = True
    seen[item[coverage(as_rows[0].start, as_rows[0].length, len(item)) > 0]] = True
    popularity = np.bincount(basket_item, minlength=len(seen))
    rows = as_rows[1]
    some = rows.length > 0
    above = np.zeros(len(rows.label))
    above[some] = np.sign(rows.item[some] - item[rows.start[some] + rows.length[some] - 1])
    trivial = {
        "training popularity": popularity[rows.item],
        "item unseen in training": ~seen[rows.item],
        "id above the last one's": above,
        "history length": rows.length,
    }
    trivial = {rule: auc(rows.label, score) for rule, score in trivial.items()}
    category = Occurrences(cate).within(rows.cate, rows.start, rows.length)
    drawn = np.sort(np.random.default_rng(0).permutation(len(rows.label))[:KNN_ROWS])
    knn = item_knn(rows.take(drawn), item, basket, basket_item, popularity)
    untrained = {"category seen in history": auc(rows.label, category), "item-kNN": auc(rows.label[drawn], knn)}
    repeated = Occurrences(item).within(rows.item, rows.start, rows.length)
    own = {kind: float(repeated[rows.label == label].mean()) for kind, label in (("positives", 1), ("negatives", 0))}
    return judged(len(rows.label), trivial, untrained, own)


def judged(test_rows: int, trivial: dict[str, float], untrained: dict[str, float], own: dict[str, float]) -> dict:
    """What `audit` returns; `own` are the shares of items that lie in the sample's own history."""
    warnings = [
        f"leak: the rule '{rule}' scores {value:.3f} on the test split; a rule that knows nothing of "
        f"interests should be within {TOLERANCE} of .5"
        for rule, value in trivial.items()
        if abs(value - 0.5) > TOLERANCE
    ]
    return {
        "test_rows": test_rows,
        "trivial": trivial,
        "untrained": untrained,
        "in_own_history": {kind: round(float(share), 6) for kind, share in own.items()},
        "warnings": warnings,
    }


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """AUC to four digits."""
    return round(float(roc_auc_score(label, score)), 4)


def numbered(*columns: pl.Series) -> list[np.ndarray]:
    """Numbers from 0 for the values of the columns, ascending: by value where all are digits, else as text."""
    values = pl.concat([column.rename("value") for column in columns]).unique()
    number = values.cast(pl.Int64, strict=False)
    digits = values.str.contains(r"^\d+$").all() and number.null_count() == 0
    order = pl.Enum(values.gather(number.arg_sort()) if digits else values.sort())
    return [column.cast(order).to_physical().to_numpy().astype(np.int64) for column in columns]


def baskets(train: Rows, item: np.ndarray, users: pl.Series | None) -> tuple[np.ndarray, np.ndarray]:
    """What each training user is known to have chosen: his longest history with its positive.

    Returns:
        The basket's number and the item's number of each entry. Without user ids every history is a basket.
    """
    positive = pl.DataFrame({"row": np.flatnonzero(train.label == 1)})
    rows = positive.with_columns(
        user=users.gather(positive["row"]) if users is not None else positive["row"],
        length=train.length[positive["row"]],
    )
    longest = rows.sort("length", "row").group_by("user", maintain_order=True).last()["row"].to_numpy()
    behaviour, number = members(train.start[longest], train.length[longest])
    return np.concatenate([number, np.arange(len(longest))]), np.concatenate([item[behaviour], train.item[longest]])


def item_knn(
    rows: Rows, item: np.ndarray, basket: np.ndarray, basket_item: np.ndarray, popularity: np.ndarray
) -> np.ndarray:
    """Score of each row, with the items' matrix of co-occurrences never formed: it need not fit in memory."""
    incidence = sparse.csr_matrix(
        (np.ones(len(basket), np.float32), (basket_item, basket)), shape=(len(popularity), basket.max(initial=0) + 1)
    )
    incidence.data[:] = 1  # an item that a basket holds twice
    norms = np.sqrt(np.maximum(np.diff(incidence.indptr), 1)).astype(np.float32)
    incidence = sparse.diags_array(1 / norms, dtype=np.float32).tocsr() @ incidence
    behaviour, number = members(rows.start, rows.length)
    entries = np.bincount(number, weights=popularity[item[behaviour]], minlength=len(rows.label))
    part = np.cumsum(entries) // KNN_ENTRIES
    scores = []
    for chunk in np.split(np.arange(len(rows.label)), np.flatnonzero(np.diff(part)) + 1):
        behaviour, number = members(rows.start[chunk], rows.length[chunk])
        history = sparse.csr_matrix(
            (np.ones(len(number), np.float32), (number, item[behaviour])), shape=(len(chunk), len(popularity))
        )
        neighbours = sparse.csr_matrix(history @ incidence)
        scores.append(np.asarray(neighbours.multiply(incidence[rows.item[chunk]]).sum(axis=1)).ravel())
    return np.concatenate(scores).round(4)  # equal sums stay equal, in whatever order they were added


def table(result: dict) -> str:
    """The result for people."""
    lines = [f"AUC of rules without a model on {result['test_rows']} test samples:"]
    for kind in ("trivial", "untrained"):
        for rule, value in result[kind].items():
            leak = "  <- leak" if kind == "trivial" and abs(value - 0.5) > TOLERANCE else ""
            lines.append(f"  {kind:9}  {rule:24}  {value:.4f}{leak}")
    shares = " and ".join(f"{share:.2%} of the {kind}" for kind, share in result["in_own_history"].items())
    lines.append(f"Items that lie in the sample's own history: {shares}.")
    return "\n".join(lines)


def say(what: str, result: dict) -> None:
    """Log the result below what has been done, and its warnings."""
    logging.info(f"{what}\n{table(result)}")
    for warning in result["warnings"]:
        logging.warning(warning)


def read_csv(train: Path, test: Path) -> Samples:
    """Samples from files of the published form."""
    frames = []
    for path in (train, test):
        if not Path(path).is_file():
            raise UserError(f"{path} does not exist")
        try:
            frame = scan_csv(path, infer_schema=False).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
        lacking = [name for name in CSV_COLUMNS if name not in frame.columns]
        if lacking:
            raise UserError(f"{path} has no column {lacking[0]!r}")
        if frame.is_empty():
            raise UserError(f"{path} has no rows")
        frames.append(frame.with_columns(clicks(frame["label"], path, "label"), pl.col(CSV_COLUMNS[1:]).fill_null("")))
    joined = ["item_history", "cate_history"]
    histories = pl.concat([frame.select(joined) for frame in frames]).unique(maintain_order=True)
    empty = pl.lit([], pl.List(pl.String))
    lists = histories.select(pl.when(pl.all() != "").then(pl.all().str.split("^")).otherwise(empty))
    lengths = lists.select(pl.all().list.len())
    uneven = (lengths["item_history"] != lengths["cate_history"]).arg_max()
    if lengths["item_history"][uneven] != lengths["cate_history"][uneven]:
        raise UserError(
            f"{train} or {test}: item_history and cate_history differ in length: "
            f"{histories['item_history'][uneven]!r}, {histories['cate_history'][uneven]!r}"
        )
    places = histories.with_columns(history_length=lengths["item_history"].cast(pl.Int64)).with_columns(
        history_start=pl.col("history_length").cum_sum() - pl.col("history_length")
    )
    behaviours = lists.filter(lengths["item_history"] > 0).explode(pl.all(), empty_as_null=True)
    splits = [frame.join(places, on=joined, how="left", maintain_order="left").drop(joined) for frame in frames]
    return Samples(behaviours, dict(zip(("train", "test"), splits, strict=True)), {})
