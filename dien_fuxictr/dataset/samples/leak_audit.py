"""Score samples by rules without a model, to find leaks and give a baseline.

The *trivial* rules know nothing of interests: how often a value occurs, whether it is missing, the order of values and
of rows, the hour of a time, what is constant per user and, where negatives are sampled, how often a value belongs to a
positive. If the AUC of a trivial rule differs from .5, in either direction, a model can use the same information. The
*untrained* rules use a little of the interests. The last part is how often an item occurs in the history of its own
sample: a difference between positives and negatives is information for a model, too.

Samples are read as indices of words: samples in memory at once, samples in files in parts. What grows with the log is
counted or mapped.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.metrics import roc_auc_score

from dien_fuxictr.common.csv_lines import scan_csv
from dien_fuxictr.common.errors import UserError

from .amazon import UNKNOWN
from .arrays import Arrays, chunks
from .behaviour_log import clicks
from .coded_samples import CodedSamples
from .columns import LIMIT, Roles, history_of
from .ranges import Occurrences, RangeReader, coverage, members
from .samples import Samples
from .sampling import SPAN
from .times import read_times

TOLERANCE = 0.02
"""Distance from AUC .5 within which a trivial rule is not a leak, for any number of samples."""
SIGNIFICANCE = 0.001
"""A trivial rule is a leak only beyond this level, shared among all trivial rules (Bonferroni)."""
AT_ONCE = 10_000
"""So many histories, or users, in files are looked at together."""
KNN_ROWS = 50_000
KNN_ENTRIES = 20_000_000
"""Entries of the sparse intermediate of item-kNN held at once, 8 bytes each."""
KNN_ENTRIES_IN_FILES = 2_000_000
"""Entries of that intermediate held at once for samples in files."""
BINS, WORDS, PRIOR = 20, 50, 10
"""Numbers of more than `WORDS` distinct values are cut into `BINS`; a rate starts from `PRIOR` average rows."""
NAMES = {"item_id": "item", "cate_id": "category"}
TABLES = ("train", "test")

Order = Callable[[str], np.ndarray]
"""Split -> numbers of its samples in the order of its file; numbers beyond its size are of no sample."""


@dataclass(frozen=True)
class Rows:
    """Some samples of a split as arrays.

    Attributes:
        sample: (N,) their numbers.
        label: (N,) 0 or 1.
        values: column -> (N,) number of the target's value among the column's words.
        start, length: (N,) range of the places that are its history.
    """

    sample: np.ndarray
    label: np.ndarray
    values: dict[str, np.ndarray]
    start: np.ndarray
    length: np.ndarray

    @classmethod
    def of(cls, samples: CodedSamples, split: str, sample: np.ndarray) -> "Rows":
        """Return samples of a split by their numbers."""
        chosen = samples.choose(split, sample)
        values = {name: samples.values(name, split, chosen) for name in samples.roles.of_samples}
        return cls(sample, chosen.label, values, *samples.spans(chosen.row))

    @classmethod
    def all_of(cls, samples: CodedSamples, split: str) -> "Iterator[Rows]":
        """Yield the samples of a split, in the order of their numbers, a part at a time."""
        for part in _chunks(samples, samples.size(split)):
            yield cls.of(samples, split, np.arange(part.start, part.stop))


@dataclass(frozen=True)
class Stored:
    """Values of a column at places of histories, read when they are taken."""

    samples: CodedSamples
    name: str

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return self.samples.codes_at(history_of(self.name), places)

    def whole(self) -> np.ndarray:
        """Return the values at all places, (M,)."""
        return self[np.arange(self.samples.places)].astype(np.int64)


@dataclass
class Counts:
    """Counter of test samples, (negatives, positives), by score of a rule."""

    above: dict[str, np.ndarray] = field(default_factory=dict)
    equal: dict[str, np.ndarray] = field(default_factory=dict)
    seen: dict[str, np.ndarray] = field(default_factory=dict)
    length: np.ndarray = field(default_factory=lambda: np.zeros((2, 0), np.int64))
    odd: np.ndarray = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    places: np.ndarray = field(default_factory=lambda: np.zeros(2, np.int64))

    @classmethod
    def of(cls, samples: CodedSamples, order: Order, ranks: dict[str, np.ndarray]) -> "Counts":
        """Count the test samples.

        Args:
            samples: samples of all splits.
            order: order of their files.
            ranks: column that histories hold -> (V,) place of each word.
        """
        counts, on_disk = cls(), samples.arrays.on_disk
        for name in ranks:
            counts.above[name], counts.equal[name], counts.seen[name] = (
                np.zeros((2, many), np.int64) for many in (3, 2, 2)
            )
        stored = {name: Stored(samples, name) for name in ranks}
        within = {name: RangeReader(each) if on_disk else Occurrences(each.whole()) for name, each in stored.items()}
        places, in_file = samples.arrays.scratch(samples.size("test")), order("test")
        for part in _chunks(samples, len(places)):
            places[in_file[part]] = np.arange(part.start, part.stop)
        for rows in Rows.all_of(samples, "test"):
            some = rows.length > 0
            latest = rows.start[some] + rows.length[some] - 1
            for name, rank in ranks.items():
                target, last = rows.values[name], stored[name][latest]
                above, equal = (np.zeros(len(target), np.int64) for _ in range(2))
                above[some] = np.sign(rank[target[some]] - rank[last])
                equal[some] = target[some] == last
                counts.above[name] += by_label(rows.label, above + 1, 3)
                counts.equal[name] += by_label(rows.label, equal, 2)
                counts.seen[name] += by_label(rows.label, within[name].within(target, rows.start, rows.length), 2)
            longest = int(rows.length.max(initial=0))
            counts.length = add_counts(counts.length, by_label(rows.label, rows.length, longest + 1))
            place = places[rows.sample]
            counts.odd += by_label(rows.label, place % 2, 2)
            counts.places += [int(place[rows.label == label].sum()) for label in (0, 1)]
        return counts


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
    """Return what `audit_coded` does, of tables: those of a folder, or of CSV files.

    Raises:
        UserError: the test split has labels of one kind only.
    """
    test = samples.splits["test"]
    if test["label"].n_unique() < 2:
        raise UserError(
            f"the test split has {test.height} samples, all with label {test['label'].first()}: AUC needs both"
        )
    coded, options = coded_of(samples), samples.info.get("options", {})
    of_users = set(options["context"]) if "context" in options else _of_users(coded)
    return audit_coded(coded, lambda split: np.arange(coded.size(split)), of_users)


def coded_of(samples: Samples) -> CodedSamples:
    """Return the training and test samples of tables as coded samples.

    Their rows follow those of the behaviours. If the tables do not name users, users are numbered by row and have no
    words.
    """
    behaviours, tables = samples.behaviours, [samples.splits[name] for name in TABLES]
    arrays, words, none = Arrays(), {}, behaviours.height
    held = [name for name in tables[1].columns if history_of(name) in behaviours.columns]
    names = [name for name in tables[1].columns if name not in ("label", "user_id", *SPAN)]
    for name in [*names, *(["user_id"] if all("user_id" in table.columns for table in tables) else [])]:
        first = [behaviours[history_of(name)]] if name in held else []
        values = [column.cast(pl.String).fill_null("") for column in (*first, *(table[name] for table in tables))]
        words[name], codes = to_codes(values)
        for each in codes if first else [np.zeros(none), *codes]:
            arrays.append(name, each.astype(np.int32))
    rows = none + sum(table.height for table in tables)
    if "user_id" not in words:
        arrays.append("user_id", np.arange(rows, dtype=np.int32))
    for name, dtype in {"label": np.int8, "history_start": np.int64, "history_length": np.int32}.items():
        for each in (np.zeros(none), *(table[name].to_numpy() for table in tables)):
            arrays.append(name, each.astype(dtype))
    arrays.append("behaviour_history", np.arange(none))
    for name, end, table in zip(TABLES, (none + tables[0].height, rows), tables, strict=True):
        arrays.append(f"rows_{name}", np.arange(end - table.height, end))
    roles = Roles(
        [name for name in held if name != "item_id"], [], [name for name in names if name not in (*held, "item_id")], []
    )
    return CodedSamples(arrays, roles, words, True, rows, none)


def audit_coded(samples: CodedSamples, order: Order, of_users: set[str]) -> dict:
    """Return the test AUC of each rule, and how often items are in their own history.

    Item-kNN is the sum, over the items of the history, of the cosine between the sets of training users who have the
    two items; with more than 50,000 test rows it uses a random 50,000. Training histories are never written out: memory
    grows with the numbers of behaviours and samples or, for samples in files, with the number of words.

    Args:
        samples: samples of training and test.
        order: order of the rows of their files.
        of_users: columns that are constant within users rather than within items.

    Returns:
        {"test_rows": int, "trivial": {rule: AUC}, "untrained": {rule: AUC}, "in_own_history": {"positives": share,
        "negatives": share}, "left_out": [str], "warnings": [str]}.
    """
    held = samples.roles.of_behaviours
    names = [name for name in samples.words if name in samples.roles.of_samples]
    trained, tested = (_by_word(samples, split, names) for split in TABLES)
    known, words, rank = {}, {}, {}
    for name in names:
        known[name] = (trained[name] + tested[name]).sum(axis=0) > 0
        for part in _chunks(samples, samples.places if name in held else 0):
            known[name][Stored(samples, name)[np.arange(part.start, part.stop)]] = True
        words[name], rank[name] = samples.words[name], np.zeros(len(known[name]), np.int64)
        words[name] = words[name].filter(pl.Series(known[name]))
        rank[name][known[name]] = order_of(words[name])
    counts = Counts.of(samples, order, {name: rank[name] for name in names if name in held})
    negatives, positives = counts.odd.sum(axis=1)
    mean_place = counts.places[1] - positives * (positives - 1) / 2
    owned = _longest(samples, order("train"))
    frequency = {
        name: _frequency(samples, name, owned) if name in held else trained[name].sum(axis=0) for name in names
    }
    trivial = {
        "training popularity": auc_of_scores(tested["item_id"], frequency["item_id"]),
        "item unseen in training": auc_of_scores(tested["item_id"], ~_seen(samples, trained["item_id"])),
        "id above the last one's": auc_of_counts(counts.above["item_id"]),
        "history length": auc_of_counts(counts.length),
        "row number": round(float(mean_place / (positives * negatives)), 4),
        "row number odd": auc_of_counts(counts.odd),
        "copies of the row": _copies(samples),
    }
    untrained: dict[str, float] = {}
    rated = trivial if positives == negatives else untrained  # negatives are sampled
    for name in names:
        shown = NAMES.get(name, name)
        of_word, of_training = (each[name][:, known[name]] for each in (tested, trained))
        missing = words[name].is_in(["", UNKNOWN]).to_numpy()
        if name != "item_id":
            trivial[f"{shown} frequency"] = auc_of_scores(tested[name], frequency[name])
            if missing.any():
                trivial[f"{shown} missing"] = auc_of_scores(of_word, missing)
        trivial[f"{shown} order"] = auc_of_scores(tested[name], rank[name])
        bins = _bins(words[name], rank[name][known[name]])
        rated[f"{shown} positive rate"] = auc_of_scores(of_word, _rates(of_training, bins))
        if (hours := _hours(words[name])) is not None:
            trivial[f"{shown} hour of day"] = auc_of_scores(of_word, _rates(of_training, hours))
        if name in held:
            if name != "item_id":
                trivial[f"{shown} above the last one's"] = auc_of_counts(counts.above[name])
            kind = trivial if name in of_users else untrained
            kind[f"{shown} seen in history"] = auc_of_counts(counts.seen[name])
            kind[f"{shown} equal to the last"] = auc_of_counts(counts.equal[name])
    untrained["item-kNN"] = auc(*_item_knn(samples, order, owned, frequency["item_id"]))
    threshold = max(TOLERANCE, _half_width(int(positives), int(negatives), len(trivial)))
    warnings = [
        f"leak: the rule '{rule}' scores {value:.3f} on the test split; a rule that knows nothing of "
        f"interests should be within {threshold:.3f} of .5{_exception(rule)}"
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
        "left_out": [] if "cate_id" in names else ["all rules of the category: the samples have none"],
        "warnings": warnings,
    }


def _exception(rule: str) -> str:
    """Return when a deviation of a rule is no leak, or an empty text."""
    return ", unless users' interests follow the order of its values" if "above the last one" in rule else ""


def _half_width(positives: int, negatives: int, rules: int) -> float:
    """Return how far from .5 the AUCs of rules without an effect may be.

    The variance is that of Mann and Whitney, corrected for the number of rules.
    """
    deviation = ((positives + negatives + 1) / (12 * positives * negatives)) ** 0.5
    return NormalDist().inv_cdf(1 - SIGNIFICANCE / (2 * rules)) * deviation


def to_codes(values: list[pl.Series]) -> tuple[pl.Series, list[np.ndarray]]:
    """Return the distinct values of columns, ascending as text, and their indices."""
    words = pl.concat([column.rename("value") for column in values]).unique().sort()
    kind = pl.Enum(words)
    return words, [column.cast(kind).to_physical().to_numpy().astype(np.int64) for column in values]


def order_of(words: pl.Series) -> np.ndarray:
    """Return the rank of each word, (V,), missing ones first.

    Words are ordered as numbers if all are numbers, else as text.
    """
    known = ~words.is_in(["", UNKNOWN])
    whole = words.cast(pl.Int64, strict=False)
    numbers = whole if whole.filter(known).null_count() == 0 else words.cast(pl.Float64, strict=False)
    distinct = numbers.filter(known)
    keys = numbers if distinct.null_count() == 0 and distinct.is_unique().all() else words
    return pl.select(pl.when(known).then(keys).rank("dense").fill_null(0)).to_series().to_numpy().astype(np.int64)


def _bins(words: pl.Series, rank: np.ndarray) -> np.ndarray:
    """Return the bin of each word for a rate, (V,).

    Neighbours share a bin if there are many words and all are numbers.
    """
    numbers = words.filter(~words.is_in(["", UNKNOWN])).cast(pl.Float64, strict=False)
    if len(words) <= WORDS or numbers.null_count():
        return np.arange(len(words))
    return np.where(rank == 0, 0, 1 + (rank - 1) * BINS // int(rank.max()))


def _hours(words: pl.Series) -> np.ndarray | None:
    """Return the hour (UTC) of each word, (V,), 24 if missing.

    The result is None for a column without times of day.
    """
    known = ~words.is_in(["", UNKNOWN])
    seconds = pl.Series(dtype=pl.Int64)
    for some in (words.filter(known).head(100), words.filter(known)):  # a few words are enough to reject most columns
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
    """Return the share of positives of each word's bin in training, (V,).

    Shares of rare bins are shrunk towards the base rate.
    """
    negative, positive = (np.bincount(bins, each) for each in of_training)
    base = of_training[1].sum() / of_training.sum()
    return ((positive + PRIOR * base) / (negative + positive + PRIOR)).round(12)[bins]


def _chunks(samples: CodedSamples, size: int) -> Iterator[slice]:
    """Return slices that cover `size`: one of samples in memory."""
    return chunks(size, AT_ONCE if samples.arrays.on_disk else max(size, 1))


def _by_word(samples: CodedSamples, split: str, names: list[str]) -> dict[str, np.ndarray]:
    """Return how many samples of each label, (2, V), have each word of some columns."""
    counts = {name: np.zeros((2, len(samples.words[name])), np.int64) for name in names}
    for rows in Rows.all_of(samples, split):
        for name, of_column in counts.items():
            of_column += by_label(rows.label, rows.values[name], of_column.shape[1])
    return counts


def _frequency(samples: CodedSamples, name: str, owned: np.ndarray) -> np.ndarray:
    """Return how often baskets hold each word of a column, (V,)."""
    counts = np.zeros(len(samples.words[name]), np.int64)
    for part in _chunks(samples, len(owned)):
        codes, _ = _baskets(samples, owned[part], name)
        counts += np.bincount(codes, minlength=len(counts))
    return counts


def _baskets(samples: CodedSamples, owned: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the values in histories and targets of training samples, with baskets.

    The second array is the number of the basket, the sample, of each value.
    """
    chosen = samples.choose("train", owned)
    place, number = members(*samples.spans(chosen.row))
    targets = samples.values(name, "train", chosen)
    codes = samples.codes_at(history_of(name), place)
    return np.concatenate([codes, targets]), np.concatenate([number, np.arange(len(owned))])


def _longest(samples: CodedSamples, order: np.ndarray) -> np.ndarray:
    """Return the positive of each training user's longest history, (U,).

    Its history and target are what the user is known to have chosen. Of several, the last one counts; users whose
    shortest history is shorter, or comes earlier, come first.
    """
    users, many = samples.column("user_id"), samples.size("train")
    size = len(samples.words["user_id"]) if "user_id" in samples.words else samples.rows
    last, first = np.full(size, -1), np.full(size, np.iinfo(np.int64).max)
    for part in _chunks(samples, len(order)):
        place = part.start + np.flatnonzero(order[part] < many)
        chosen = samples.choose("train", order[place])
        positive = chosen.label == 1
        row = chosen.row[positive]
        key = samples.spans(row)[1] * len(order) + place[positive]
        np.maximum.at(last, users[row], key)
        np.minimum.at(first, users[row], key)
    owners = np.flatnonzero(last >= 0)
    return order[last[owners[np.argsort(first[owners])]] % max(len(order), 1)]


def _seen(samples: CodedSamples, of_targets: np.ndarray) -> np.ndarray:
    """Return whether each item is in a training sample, (V,).

    Args:
        samples: the samples.
        of_targets: (2, V) number of training samples that have the item as target.
    """
    seen = of_targets.sum(axis=0) > 0
    rows = samples.positives("train")
    for part in _chunks(samples, len(rows)):
        start, length = samples.spans(rows[part])
        base = int(start.min())
        held = coverage(start - base, length, int((start + length).max()) - base)
        seen[samples.codes_at("item_history", base + np.flatnonzero(held))] = True
    return seen


def _copies(samples: CodedSamples) -> float:
    """Return the AUC of a test row's number of copies in test and training files.

    Labels are ignored when rows are compared.
    """
    if not (samples.has_labels or samples.is_shuffled):
        return 0.5  # a positive and its negative have different histories

    def hashes(split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows in Rows.all_of(samples, split):
            columns = {"start": rows.start, "length": rows.length} | rows.values
            if "user_id" in samples.words:
                columns["user_id"] = samples.column("user_id")[samples.choose(split, rows.sample).row]
            yield rows.label, pl.DataFrame(columns).hash_rows().to_numpy().view(np.int64)

    every, done = samples.arrays.scratch(sum(map(samples.size, TABLES))), 0
    for split in TABLES:
        for _, some in hashes(split):
            every[done : done + len(some)] = some
            done += len(some)
    every.sort()
    counts = np.zeros((2, 1), np.int64)
    for label, some in hashes("test"):
        copies = np.searchsorted(every, some, "right") - np.searchsorted(every, some)
        counts = add_counts(counts, by_label(label, copies, int(copies.max()) + 1))
    return auc_of_counts(counts)


def _item_knn(
    samples: CodedSamples, order: Order, owned: np.ndarray, popularity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return label and score of test samples, by the items of baskets.

    The items' matrix of co-occurrences is never formed: it need not fit in memory.

    Args:
        samples: samples of training and test.
        order: order of their files.
        owned: the samples that are baskets.
        popularity: (V,) how often baskets hold each item.
    """
    many = samples.size("test")
    place = samples.arrays.scratch(many)
    for part in _chunks(samples, many):
        place[part] = np.arange(part.start, part.stop)
    np.random.default_rng(0).shuffle(place)
    drawn = order("test")[np.sort(place[:KNN_ROWS])]
    rows = Rows.of(samples, "test", drawn)
    place, number = members(rows.start, rows.length)
    item = Stored(samples, "item_id")[place]
    history = sparse.csr_matrix(
        (np.ones(len(item), np.float32), (number, item)), shape=(len(drawn), len(samples.words["item_id"]))
    )
    entries = np.bincount(number, weights=popularity[item], minlength=len(drawn))
    part_of = np.cumsum(entries) // (KNN_ENTRIES_IN_FILES if samples.arrays.on_disk else KNN_ENTRIES)
    parts = np.split(np.arange(len(drawn)), np.flatnonzero(np.diff(part_of)) + 1)
    owners = np.zeros(len(popularity), np.int64)
    for part in _chunks(samples, len(owned)):
        owners += np.diff(_incidence(samples, owned[part]).indptr)
    scale = sparse.diags_array(1 / np.sqrt(np.maximum(owners, 1)).astype(np.float32), dtype=np.float32).tocsr()
    scores = np.zeros(len(drawn), np.float32)
    for part in _chunks(samples, len(owned)):
        incidence = scale @ _incidence(samples, owned[part])
        for some in parts:
            neighbours = sparse.csr_matrix(history[some] @ incidence)
            both = neighbours.multiply(incidence[rows.values["item_id"][some]])
            scores[some] += np.asarray(both.sum(axis=1)).ravel()
    return rows.label, scores.round(4)  # rounding makes sums of equal terms equal in any order


def _incidence(samples: CodedSamples, owned: np.ndarray) -> sparse.csr_matrix:
    """Return (V, U) ones where a basket holds an item."""
    codes, number = _baskets(samples, owned, "item_id")
    ones = np.ones(len(codes), np.float32)
    incidence = sparse.csr_matrix((ones, (codes, number)), shape=(len(samples.words["item_id"]), len(owned)))
    incidence.data[:] = 1  # an item may be in a basket twice
    return incidence


def _of_users(samples: CodedSamples) -> set[str]:
    """Return the columns of behaviours that belong to the user, not to the item.

    Such a column is not constant per item, and two behaviours of one history have equal values more often than two of
    one item.
    """
    spans = np.unique(np.stack(samples.spans(samples.positives("test"))), axis=1)
    behaviour, history = members(*spans)
    item, found = Stored(samples, "item_id").whole(), set()
    for name in samples.roles.properties:
        codes = Stored(samples, name).whole()
        of_item = _group_counts(item, codes)
        commonest = of_item.group_by("group").agg(pl.col("len").max())["len"].sum()
        if commonest < (1 - LIMIT) * len(codes):
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
    """Return the share of pairs in a group with equal values; 0 without pairs."""
    sizes = counts.group_by("group").agg(pl.col("len").sum())
    alike, pairs = (int((each["len"] * (each["len"] - 1)).to_numpy().sum()) for each in (counts, sizes))
    return alike / pairs if pairs else 0.0


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Return the AUC, rounded to four digits."""
    return round(float(roc_auc_score(label, score)), 4)


def auc_of_counts(counts: np.ndarray) -> float:
    """Return the AUC, rounded to four digits.

    Args:
        counts: (2, S) negatives and positives of each score, ascending.
    """
    negative, positive = counts
    below = np.cumsum(negative) - negative
    return round(int((positive * (2 * below + negative)).sum()) / (2 * int(positive.sum()) * int(negative.sum())), 4)


def auc_of_scores(counts: np.ndarray, score: np.ndarray) -> float:
    """Return the AUC, rounded to four digits.

    Args:
        counts: (2, V) negatives and positives of each word.
        score: (V,).
    """
    values, number = np.unique(score, return_inverse=True)
    return auc_of_counts(np.stack([np.bincount(number, each, len(values)).astype(np.int64) for each in counts]))


def table(result: dict) -> str:
    """Return the result as text."""
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


def best_rule(result: dict) -> tuple[str, float]:
    """Return the rule whose AUC is furthest from .5, and that AUC."""
    rules = result["trivial"] | result["untrained"]
    best = max(rules, key=lambda rule: abs(rules[rule] - 0.5))
    return best, rules[best]


def say(what: str, result: dict) -> None:
    """Log the result below what has been done, and its warnings."""
    best, auc = best_rule(result)
    screen = f"    audit: of rules without a model, {best} has the best test AUC, {auc:.4f}"
    logging.info(f"{what}\n{table(result)}", extra={"screen": screen})
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
