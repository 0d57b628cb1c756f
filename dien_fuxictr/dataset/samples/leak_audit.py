"""What rules without a model score on a data set: a leak shows here, and it is what a model has to beat.

The *trivial* rules know nothing of interests: how often a value occurs, whether it is missing, the order of values and
of rows, the hour of a time, what is constant within a user and, where negatives are sampled, how often a value is a
positive's. Where one is off .5, in either direction, a model can read the same from the data. The *untrained* rules
know a little of interests. Below them stands how often an item lies in its sample's own history: where that differs
between positives and negatives, a model can read it too.

Samples are read as numbers of words, a part of the rows at a time, so that those in files (`coded_audit.py`) have the
same rules as those in memory.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.metrics import roc_auc_score

from dien_fuxictr.common.csv_lines import scan_csv
from dien_fuxictr.common.errors import UserError

from .amazon import UNKNOWN
from .behaviour_log import clicks
from .columns import LIMIT, history_of
from .ranges import Occurrences, coverage, members
from .sample_negatives import Within
from .samples import Samples
from .times import read_times

TOLERANCE = 0.02
"""A trivial rule within it of .5 is no leak, however many samples there are."""
SIGNIFICANCE = 0.001
"""A trivial rule is a leak only beyond this level, shared among all trivial rules (Bonferroni)."""
KNN_ROWS = 50_000
KNN_ENTRIES = 20_000_000
"""Entries of the sparse intermediate of item-kNN held at once, 8 bytes each."""
BINS, WORDS, PRIOR = 20, 50, 10
"""Numbers of more than `WORDS` distinct values are cut into `BINS`; a rate starts from `PRIOR` average rows."""
NAMES = {"item_id": "item", "cate_id": "category"}


@dataclass(frozen=True)
class Rows:
    """Samples of a split as arrays.

    Attributes:
        label: (N,) 0 or 1.
        values: column -> (N,) number of the target's value among the column's words.
        start, length: (N,) range of the behaviours that are its history.
        place: (N,) place in the split's file.
    """

    label: np.ndarray
    values: dict[str, np.ndarray]
    start: np.ndarray
    length: np.ndarray
    place: np.ndarray

    def take(self, rows: np.ndarray) -> "Rows":
        """Return some of the samples."""
        values = {name: each[rows] for name, each in self.values.items()}
        return Rows(self.label[rows], values, self.start[rows], self.length[rows], self.place[rows])


@dataclass(frozen=True)
class Table:
    """Samples as the rules read them.

    Attributes:
        words: column of the samples -> its distinct values (String).
        behaviours: column that histories hold too -> (M,) number of each stored behaviour's value.
        parts: the rows of a split, a part at a time.
        within: answers whether values stand in ranges of such an array.
        frequency: column -> (V,) how often each word occurs in training.
        is_seen: (V,) whether an item is in a training sample.
        of_users: columns that are constant within users rather than within items.
        is_sampled: whether negatives are sampled, not observed.
    """

    words: dict[str, pl.Series]
    behaviours: Mapping[str, Any]
    parts: Callable[[str], Iterator[Rows]]
    within: Callable[[Any], Within]
    frequency: dict[str, np.ndarray]
    is_seen: np.ndarray
    of_users: set[str]
    is_sampled: bool


@dataclass
class Counts:
    """How many test samples, (negatives, positives), have each score of a rule; and how training labels each word."""

    of_word: dict[str, np.ndarray]
    of_training: dict[str, np.ndarray]
    above: dict[str, np.ndarray] = field(default_factory=dict)
    equal: dict[str, np.ndarray] = field(default_factory=dict)
    seen: dict[str, np.ndarray] = field(default_factory=dict)
    length: np.ndarray = field(default_factory=lambda: np.zeros((2, 0), np.int64))
    odd: np.ndarray = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    places: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))

    @classmethod
    def of(cls, table: Table) -> "Counts":
        """Count the samples of a table."""
        empty = {name: np.zeros((2, len(words)), np.int64) for name, words in table.words.items()}
        counts = cls(empty, {name: each.copy() for name, each in empty.items()})
        for part in table.parts("train"):
            _count(counts.of_training, part)
        for name in table.behaviours:
            counts.above[name] = np.zeros((2, 3), np.int64)
            counts.equal[name], counts.seen[name] = np.zeros((2, 2), np.int64), np.zeros((2, 2), np.int64)
        ranks = {name: order_of(table.words[name]) for name in table.behaviours}
        within = {name: table.within(codes) for name, codes in table.behaviours.items()}
        for part in table.parts("test"):
            _count(counts.of_word, part)
            counts._count_histories(table, part, ranks, within)
            counts.length = add_counts(
                counts.length, by_label(part.label, part.length, int(part.length.max(initial=0)) + 1)
            )
            counts.odd += by_label(part.label, part.place % 2, 2)
            counts.places += [int(part.place[part.label == label].sum()) for label in (0, 1)]
        return counts

    def _count_histories(
        self, table: Table, part: Rows, ranks: dict[str, np.ndarray], within: dict[str, Within]
    ) -> None:
        some = part.length > 0
        latest = part.start[some] + part.length[some] - 1
        for name, codes in table.behaviours.items():
            target, rank = part.values[name], ranks[name]
            above, equal = np.zeros(len(target), np.int64), np.zeros(len(target), np.int64)
            above[some] = np.sign(rank[target[some]] - rank[codes[latest]])
            equal[some] = target[some] == codes[latest]
            found = within[name].within(target, part.start, part.length)
            self.above[name] += by_label(part.label, above + 1, 3)
            self.equal[name] += by_label(part.label, equal, 2)
            self.seen[name] += by_label(part.label, found, 2)


def _count(counts: dict[str, np.ndarray], part: Rows) -> None:
    for name, of_column in counts.items():
        of_column += by_label(part.label, part.values[name], of_column.shape[1])


def by_label(label: np.ndarray, values: np.ndarray, many: int) -> np.ndarray:
    """Return how many samples of each label, (2, many), have each value."""
    return np.bincount(label.astype(np.int64) * many + values, minlength=2 * many).reshape(2, many)


def add_counts(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the sum of counts of (2, S), of which one may know more values."""
    wide = np.zeros((2, max(one.shape[1], other.shape[1])), np.int64)
    for each in (one, other):
        wide[:, : each.shape[1]] += each
    return wide


def audit(samples: Samples) -> dict:
    """Return the test AUC of each rule, and the shares of samples whose item lies in their own history.

    Item-kNN is the sum, over the items of the history, of the cosine between the sets of training users who have the
    two items; on more than 50,000 test rows it takes a random 50,000. Training histories are never written out: memory
    follows the numbers of behaviours and samples.

    Returns:
        {"test_rows": int, "trivial": {rule: AUC}, "untrained": {rule: AUC},
        "in_own_history": {"positives": share, "negatives": share}, "left_out": [str], "warnings": [str]}.

    Raises:
        UserError: the test split has labels of one kind only.
    """
    behaviours, splits = samples.behaviours, {name: samples.splits[name] for name in ("train", "test")}
    test = splits["test"]
    if test["label"].n_unique() < 2:
        raise UserError(f"the test split has {test.height} samples, all of label {test['label'].first()}: no AUC")
    words: dict[str, pl.Series] = {}
    stored: dict[str, np.ndarray] = {}
    of_split: dict[str, dict[str, np.ndarray]] = {name: {} for name in splits}
    for name in test.columns:
        if name in ("label", "user_id", "history_start", "history_length"):
            continue
        held = [behaviours[history_of(name)]] if history_of(name) in behaviours.columns else []
        values = [column.cast(pl.String).fill_null("") for column in (*held, *(rows[name] for rows in splits.values()))]
        words[name], (*codes, of_split["train"][name], of_split["test"][name]) = to_codes(values)
        if held:
            stored[name] = codes[0]
    rows = {
        split: Rows(
            table["label"].to_numpy(),
            of_split[split],
            table["history_start"].to_numpy(),
            table["history_length"].to_numpy().astype(np.int64),
            np.arange(table.height),
        )
        for split, table in splits.items()
    }
    item = stored["item_id"]
    users = splits["train"]["user_id"] if "user_id" in splits["train"].columns else None
    basket, behaviour, target = baskets(rows["train"], users)
    frequency = {}
    for name in words:
        held = [stored[name][behaviour], rows["train"].values[name][target]] if name in stored else []
        of_words = np.concatenate(held) if held else rows["train"].values[name]
        frequency[name] = np.bincount(of_words, minlength=len(words[name]))
    seen = np.zeros(len(words["item_id"]), bool)
    seen[rows["train"].values["item_id"]] = True
    seen[item[coverage(rows["train"].start, rows["train"].length, len(item)) > 0]] = True
    options = samples.info.get("options", {})
    label = rows["test"].label
    table = Table(
        words,
        stored,
        lambda split: iter([rows[split]]),
        Occurrences,
        frequency,
        seen,
        set(options["context"]) if "context" in options else _of_users(stored, rows["test"]),
        2 * int(label.sum()) == len(label),
    )
    drawn = np.sort(np.random.default_rng(0).permutation(len(label))[:KNN_ROWS])
    basket_item = np.concatenate([item[behaviour], rows["train"].values["item_id"][target]])
    knn = item_knn(rows["test"].take(drawn), item, basket, basket_item, frequency["item_id"])
    return audit_result(table, _copies(splits, of_split), auc(label[drawn], knn))


def audit_result(table: Table, copies: float, knn: float) -> dict:
    """Return what `audit` does.

    Args:
        table: the samples.
        copies: AUC of the number of copies that a row has.
        knn: AUC of item-kNN.
    """
    counts = Counts.of(table)
    negatives, positives = counts.odd.sum(axis=1)
    mean_place = counts.places[1] - positives * (positives - 1) / 2
    trivial = {
        "training popularity": auc_of_scores(counts.of_word["item_id"], table.frequency["item_id"]),
        "item unseen in training": auc_of_scores(counts.of_word["item_id"], ~table.is_seen),
        "id above the last one's": auc_of_counts(counts.above["item_id"]),
        "history length": auc_of_counts(counts.length),
        "row number": round(float(mean_place / (positives * negatives)), 4),
        "row number odd": auc_of_counts(counts.odd),
        "copies of the row": copies,
    }
    untrained: dict[str, float] = {}
    for name, words in table.words.items():
        of_word, shown = counts.of_word[name], NAMES.get(name, name)
        missing = words.is_in(["", UNKNOWN]).to_numpy()
        if name != "item_id":
            trivial[f"{shown} frequency"] = auc_of_scores(of_word, table.frequency[name])
            if missing.any():
                trivial[f"{shown} missing"] = auc_of_scores(of_word, missing)
        rank = order_of(words)
        trivial[f"{shown} order"] = auc_of_scores(of_word, rank)
        rated = trivial if table.is_sampled else untrained
        rated[f"{shown} positive rate"] = auc_of_scores(of_word, _rates(counts.of_training[name], _bins(words, rank)))
        if (hours := _hours(words)) is not None:
            trivial[f"{shown} hour of day"] = auc_of_scores(of_word, _rates(counts.of_training[name], hours))
        if name in table.behaviours:
            if name != "item_id":
                trivial[f"{shown} above the last one's"] = auc_of_counts(counts.above[name])
            kind = trivial if name in table.of_users else untrained
            kind[f"{shown} seen in history"] = auc_of_counts(counts.seen[name])
            kind[f"{shown} equal to the last"] = auc_of_counts(counts.equal[name])
    untrained["item-kNN"] = knn
    threshold = max(TOLERANCE, _half_width(int(positives), int(negatives), len(trivial)))
    warnings = [
        f"leak: the rule '{rule}' scores {value:.3f} on the test split; a rule that knows nothing of "
        f"interests should be within {threshold:.3f} of .5"
        for rule, value in trivial.items()
        if abs(value - 0.5) > threshold
    ]
    own = counts.seen["item_id"][:, 1] / counts.seen["item_id"].sum(axis=1)
    return {
        "test_rows": int(positives + negatives),
        "trivial": trivial,
        "untrained": untrained,
        "in_own_history": {"positives": round(float(own[1]), 6), "negatives": round(float(own[0]), 6)},
        "threshold": round(threshold, 4),
        "left_out": [] if "cate_id" in table.words else ["all rules of the category: the samples have none"],
        "warnings": warnings,
    }


def _half_width(positives: int, negatives: int, rules: int) -> float:
    """Return how far from .5 the AUCs of so many rules without an effect may be, by Mann and Whitney's variance."""
    deviation = ((positives + negatives + 1) / (12 * positives * negatives)) ** 0.5
    return NormalDist().inv_cdf(1 - SIGNIFICANCE / (2 * rules)) * deviation


def to_codes(values: list[pl.Series]) -> tuple[pl.Series, list[np.ndarray]]:
    """Return the distinct values of some columns, ascending as text, and the number of each value."""
    words = pl.concat([column.rename("value") for column in values]).unique().sort()
    kind = pl.Enum(words)
    return words, [column.cast(kind).to_physical().to_numpy().astype(np.int64) for column in values]


def order_of(words: pl.Series) -> np.ndarray:
    """Return the place of each word, (V,), missing ones first: by number where all are numbers, else as text."""
    known = ~words.is_in(["", UNKNOWN])
    whole = words.cast(pl.Int64, strict=False)
    numbers = whole if whole.filter(known).null_count() == 0 else words.cast(pl.Float64, strict=False)
    distinct = numbers.filter(known)
    keys = numbers if distinct.null_count() == 0 and distinct.is_unique().all() else words
    return pl.select(pl.when(known).then(keys).rank("dense").fill_null(0)).to_series().to_numpy().astype(np.int64)


def _bins(words: pl.Series, rank: np.ndarray) -> np.ndarray:
    """Return which words count as one for a rate, (V,): neighbours, of numbers with many values."""
    numbers = words.filter(~words.is_in(["", UNKNOWN])).cast(pl.Float64, strict=False)
    if len(words) <= WORDS or numbers.null_count():
        return np.arange(len(words))
    return np.where(rank == 0, 0, 1 + (rank - 1) * BINS // int(rank.max()))


def _hours(words: pl.Series) -> np.ndarray | None:
    """Return the hour (UTC) of each word, (V,), 24 where it is missing; None of a column that holds no times of day."""
    known = ~words.is_in(["", UNKNOWN])
    seconds = pl.Series(dtype=pl.Int64)
    for some in (words.filter(known).head(100), words.filter(known)):  # most columns are told by a few words
        times = read_times(some)
        seconds = times.seconds
        if not len(seconds) or seconds.null_count() or times.outside().any():
            return None
    if (seconds % 86_400 == 0).all():
        return None
    hours = np.full(len(words), 24)
    hours[known.to_numpy()] = (seconds // 3600 % 24).to_numpy()
    return hours


def _rates(of_training: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Return the share of positives in training of each word's bin, (V,), drawn towards the base rate."""
    negative, positive = (np.bincount(bins, each) for each in of_training)
    base = of_training[1].sum() / of_training.sum()
    return ((positive + PRIOR * base) / (negative + positive + PRIOR)).round(12)[bins]


def _of_users(stored: dict[str, np.ndarray], test: Rows) -> set[str]:
    """Return the columns of behaviours that belong to the user rather than to the item.

    They are no property of the item, and two behaviours of one history have the same value more often than two of one
    item.
    """
    spans = np.unique(np.stack([test.start, test.length]), axis=1)
    behaviour, history = members(*spans)
    item, found = stored["item_id"], set()
    for name, codes in stored.items():
        of_item = _group_counts(item, codes)
        commonest = of_item.group_by("group").agg(pl.col("len").max())["len"].sum()
        if name != "item_id" and commonest < (1 - LIMIT) * len(codes):
            of_history = _group_counts(history, codes[behaviour])
            if _alike(of_history) > _alike(of_item):
                found.add(name)
    return found


def _group_counts(group: np.ndarray, value: np.ndarray) -> pl.DataFrame:
    return (
        pl.DataFrame({"group": group, "value": value})
        .group_by("group", "value")
        .len()
        .with_columns(pl.col("len").cast(pl.Int64))
    )


def _alike(counts: pl.DataFrame) -> float:
    """Return the share of pairs of a group that have one value; 0 where no group has two members."""
    sizes = counts.group_by("group").agg(pl.col("len").sum())
    alike, pairs = (int((each["len"] * (each["len"] - 1)).to_numpy().sum()) for each in (counts, sizes))
    return alike / pairs if pairs else 0.0


def _copies(splits: dict[str, pl.DataFrame], values: dict[str, dict[str, np.ndarray]]) -> float:
    """Return the AUC of how often a test row stands in the test and the training file, labels apart."""
    spans = ["history_start", "history_length"]
    rows = {
        split: rows.select(*spans, *(["user_id"] if "user_id" in rows.columns else [])).with_columns(**values[split])
        for split, rows in splits.items()
    }
    of_test, every = rows["test"].hash_rows(), pl.concat([part.hash_rows() for part in rows.values()])
    counts = every.value_counts(name="copies")
    copies = of_test.to_frame("row").join(counts, left_on="row", right_on=every.name, maintain_order="left")["copies"]
    return auc(splits["test"]["label"].to_numpy(), copies.to_numpy())


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """AUC to four digits."""
    return round(float(roc_auc_score(label, score)), 4)


def auc_of_counts(counts: np.ndarray) -> float:
    """AUC to four digits; counts: (2, S) negatives and positives of each score, ascending."""
    negative, positive = counts
    below = np.cumsum(negative) - negative
    return round(int((positive * (2 * below + negative)).sum()) / (2 * int(positive.sum()) * int(negative.sum())), 4)


def auc_of_scores(counts: np.ndarray, score: np.ndarray) -> float:
    """AUC to four digits; counts: (2, V) negatives and positives of each word, score: (V,)."""
    values, number = np.unique(score, return_inverse=True)
    return auc_of_counts(np.stack([np.bincount(number, each, len(values)).astype(np.int64) for each in counts]))


def baskets(train: Rows, users: pl.Series | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what each training user is known to have chosen: the longest history with its positive.

    Returns:
        The basket's number of each entry, the behaviours and then the training rows that are the entries. Without user
        ids every history is a basket.
    """
    positive = pl.DataFrame({"row": np.flatnonzero(train.label == 1)})
    rows = positive.with_columns(
        user=users.gather(positive["row"]) if users is not None else positive["row"],
        length=train.length[positive["row"]],
    )
    longest = rows.sort("length", "row").group_by("user", maintain_order=True).last()["row"].to_numpy()
    behaviour, number = members(train.start[longest], train.length[longest])
    return np.concatenate([number, np.arange(len(longest))]), behaviour, longest


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
        scores.append(np.asarray(neighbours.multiply(incidence[rows.values["item_id"][chunk]]).sum(axis=1)).ravel())
    return np.concatenate(scores).round(4)  # equal sums stay equal, in whatever order they were added


def table(result: dict) -> str:
    """The result for people."""
    lines = [f"AUC of rules without a model on {result['test_rows']} test samples:"]
    width = max(map(len, (*result["trivial"], *result["untrained"])))
    for kind in ("trivial", "untrained"):
        for rule, value in result[kind].items():
            leak = "  <- leak" if kind == "trivial" and abs(value - 0.5) > result["threshold"] else ""
            lines.append(f"  {kind:9}  {rule:{width}}  {value:.4f}{leak}")
    shares = " and ".join(f"{share:.2%} of the {kind}" for kind, share in result["in_own_history"].items())
    lines += [f"Left out: {what}." for what in result["left_out"]]
    lines.append(f"Items that lie in the sample's own history: {shares}.")
    return "\n".join(lines)


def say(what: str, result: dict) -> None:
    """Log the result below what has been done, and its warnings."""
    logging.info(f"{what}\n{table(result)}")
    for warning in result["warnings"]:
        logging.warning(warning)


def read_csv(train: Path, test: Path) -> Samples:
    """Read samples from files of the published form.

    Columns `<name>_history` are the histories of the columns `<name>` and of item_id and cate_id; those whose rows do
    not have as many behaviours as item_history are left out.

    Raises:
        UserError: a file or a column is missing, broken or empty, or item_history and cate_history differ in length.
    """
    frames = []
    for path in (train, test):
        if not Path(path).is_file():
            raise UserError(f"{path} does not exist")
        try:
            frame = scan_csv(path).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
        lacking = [name for name in ("label", "item_id", "item_history") if name not in frame.columns]
        if lacking:
            raise UserError(f"{path} has no column {lacking[0]!r}")
        if frame.is_empty():
            raise UserError(f"{path} has no rows")
        frames.append(frame.with_columns(clicks(frame["label"], path, "label"), pl.exclude("label").fill_null("")))
    shared = [name for name in frames[0].columns if name in frames[1].columns]
    held = [name for name in shared if name.endswith("_history")]
    joined = [name for name in (history_of(name) for name in shared) if name in held]
    histories = pl.concat([frame.select(joined) for frame in frames]).unique(maintain_order=True)
    empty = pl.lit([], pl.List(pl.String))
    lists = histories.select(pl.when(pl.all() != "").then(pl.all().str.split("^")).otherwise(empty))
    lengths = lists.select(pl.all().list.len())
    for name in joined:
        uneven = (lengths["item_history"] != lengths[name]).arg_max()
        if lengths["item_history"][uneven] == lengths[name][uneven]:
            continue
        if name == "cate_history":
            raise UserError(
                f"{train} or {test}: item_history and cate_history differ in length: "
                f"{histories['item_history'][uneven]!r}, {histories['cate_history'][uneven]!r}"
            )
        lists = lists.drop(name)
    places = histories.with_columns(history_length=lengths["item_history"].cast(pl.Int64)).with_columns(
        history_start=pl.col("history_length").cum_sum() - pl.col("history_length")
    )
    behaviours = lists.filter(lengths["item_history"] > 0).explode(pl.all(), empty_as_null=True)
    splits = [
        frame.select(shared).join(places, on=joined, how="left", maintain_order="left").drop(held) for frame in frames
    ]
    return Samples(behaviours, dict(zip(("train", "test"), splits, strict=True)), {})
