"""The audit of samples in arrays, with the figures of `leak_audit`: what grows with the log is counted or mapped."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from . import leak_audit
from .arrays import chunks
from .build_options import BuildOptions
from .coded_samples import CodedSamples
from .columns import history_of
from .leak_audit import Rows, Table, auc, auc_of_counts, audit_result
from .protocols import SPLITS
from .ranges import RangeReader, coverage, members
from .sampling import stream

AT_ONCE = 10_000
"""So many histories, or users, are looked at together."""
KNN_ENTRIES = 2_000_000
"""Entries of a sparse intermediate of item-kNN, as in `leak_audit`."""


@dataclass(frozen=True)
class _Stored:
    """The values of a history column by their places, computed when they are taken."""

    samples: CodedSamples
    name: str
    number: np.ndarray

    def __len__(self) -> int:
        return self.samples.places

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return self.number[self.samples.codes_at(history_of(self.name), places)]


def audit_coded(samples: CodedSamples, options: BuildOptions) -> dict:
    """Return what `leak_audit.audit` does, by the options that the samples were made with."""
    roles = samples.roles
    owned = _longest(samples, options)
    frequency = {
        name: np.zeros(len(samples.words[name]), np.int64)
        if name in roles.of_behaviours
        else samples.target_counts(name, ("train",))
        for name in roles.of_samples
    }
    for part in chunks(len(owned), AT_ONCE):
        for name in roles.of_behaviours:
            codes, _ = _baskets(samples, owned[part], name)
            frequency[name] += np.bincount(codes, minlength=len(frequency[name]))
    known = {name: _known(samples, name) for name in roles.of_samples}
    numbers = {name: np.cumsum(each) - 1 for name, each in known.items()}
    label = samples.target_labels("test")
    table = Table(
        {name: samples.words[name].filter(pl.Series(known[name])) for name in roles.of_samples},
        {name: _Stored(samples, name, numbers[name]) for name in roles.of_behaviours},
        lambda split: _parts(samples, options, split, numbers),
        RangeReader,
        {name: each[known[name]] for name, each in frequency.items()},
        _seen(samples)[known["item_id"]],
        set(roles.context),
        label[0] == label[1],
    )
    copies = _copies(samples) if samples.has_labels else 0.5
    return audit_result(table, copies, auc(*_item_knn(samples, options, owned)))


def _rows(samples: CodedSamples, split: str, sample: np.ndarray, place: np.ndarray) -> Rows:
    chosen = samples.choose(split, sample)
    values = {name: samples.values(name, split, chosen) for name in samples.roles.of_samples}
    return Rows(chosen.label, values, *samples.spans(chosen.row), place)


def _known(samples: CodedSamples, name: str) -> np.ndarray:
    """Return which words of a column stand in the behaviours, or in the rows of training and test, (V,)."""
    known = np.ones(len(samples.words[name]), bool)
    if samples.has_labels or name not in samples.roles.of_behaviours:
        known = samples.target_counts(name, ("train", "test")) > 0
        for part in chunks(samples.behaviours if name in samples.roles.of_behaviours else 0, AT_ONCE):
            known[samples.codes_at(history_of(name), np.arange(part.start, part.stop), in_order=False)] = True
    return known


def _parts(samples: CodedSamples, options: BuildOptions, split: str, numbers: dict[str, np.ndarray]) -> Iterator[Rows]:
    """Yield the rows of a split; training rows, whose places no rule reads, have none.

    Args:
        samples: of all splits.
        options: that they were made with.
        split: its name.
        numbers: column -> (V,) number of each word among those that are known.
    """
    many = samples.size(split)
    place = samples.arrays.scratch(many)
    if split == "test":
        order = samples.shuffled_rows(split, stream(options, "order", SPLITS.index(split)))
        for part in chunks(many, AT_ONCE):
            place[order[part]] = np.arange(part.start, part.stop)
    for part in chunks(many, AT_ONCE):
        rows = _rows(samples, split, np.arange(part.start, part.stop), place[part])
        values = {name: numbers[name][each] for name, each in rows.values.items()}
        yield Rows(rows.label, values, rows.start, rows.length, rows.place)


def _baskets(samples: CodedSamples, owned: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the values in the history and the target of training samples, and the number of the basket of each."""
    chosen = samples.choose("train", owned)
    place, number = members(*samples.spans(chosen.row))
    targets = samples.values(name, "train", chosen)
    codes = samples.codes_at(history_of(name), place)
    return np.concatenate([codes, targets]), np.concatenate([number, np.arange(len(owned))])


def _longest(samples: CodedSamples, options: BuildOptions) -> np.ndarray:
    """Return the (U,) positive of each training user's longest history; of several the one whose sample comes last."""
    users, many = samples.column("user_id"), samples.size("train")
    order = samples.shuffled_rows("train", stream(options, "order", SPLITS.index("train")))
    best = np.full(len(samples.words["user_id"]), -1)
    longest = best.copy()
    for part in chunks(len(order), AT_ONCE):
        sample = order[part][order[part] < many]
        chosen = samples.choose("train", sample)
        positive = chosen.label == 1
        sample, row = sample[positive], chosen.row[positive]
        user, length = users[row], samples.spans(row)[1]
        last = np.lexsort((length, user))  # stable: of equally long ones the one that comes last is the last
        last = last[np.append(np.diff(user[last]) > 0, True)] if len(last) else last
        sample, user, length = sample[last], user[last], length[last]
        better = length >= longest[user]
        best[user[better]], longest[user[better]] = sample[better], length[better]
    return best[best >= 0]


def _seen(samples: CodedSamples) -> np.ndarray:
    """Return whether each item is in a training sample, (V,)."""
    seen = samples.target_counts("item_id", ("train",)) > 0
    rows = samples.positives("train")
    for part in chunks(len(rows), AT_ONCE):
        start, length = samples.spans(rows[part])
        base = int(start.min())
        held = coverage(start - base, length, int((start + length).max()) - base)
        seen[samples.codes_at("item_history", base + np.flatnonzero(held))] = True
    return seen


def _copies(samples: CodedSamples) -> float:
    """Return the AUC of how often a test row stands among the test and the training rows, labels apart."""

    def hashes(split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for part in chunks(samples.size(split), AT_ONCE):
            rows = _rows(samples, split, np.arange(part.start, part.stop), np.zeros(0))
            user = samples.column("user_id")[samples.positives(split)[part]]
            frame = pl.DataFrame({"start": rows.start, "length": rows.length, "user_id": user} | rows.values)
            yield rows.label, frame.hash_rows().to_numpy().view(np.int64)

    every, done = samples.arrays.scratch(samples.size("train") + samples.size("test")), 0
    for split in ("train", "test"):
        for _, some in hashes(split):
            every[done : done + len(some)] = some
            done += len(some)
    every.sort()
    counts = np.zeros((2, 1), np.int64)
    for label, some in hashes("test"):
        copies = np.searchsorted(every, some, "right") - np.searchsorted(every, some)
        counts = leak_audit.add_counts(counts, leak_audit.by_label(label, copies, int(copies.max()) + 1))
    return auc_of_counts(counts)


def _item_knn(samples: CodedSamples, options: BuildOptions, owned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return label and score of the test samples that `leak_audit.audit` takes; `owned`: of `_longest`."""
    items, many = len(samples.words["item_id"]), samples.size("test")
    drawn = np.arange(many)
    if many > leak_audit.KNN_ROWS:
        places = samples.arrays.scratch(many)
        for part in chunks(many, AT_ONCE):
            places[part] = np.arange(part.start, part.stop)
        np.random.default_rng(0).shuffle(places)
        order = samples.shuffled_rows("test", stream(options, "order", SPLITS.index("test")))
        drawn = order[np.sort(places[: leak_audit.KNN_ROWS])]
    rows = _rows(samples, "test", drawn, drawn)
    target = rows.values["item_id"]
    behaviour, number = members(rows.start, rows.length)
    bounds = np.append(0, np.cumsum(rows.length))
    history = _matrix(samples.codes_at("item_history", behaviour), bounds, items)
    owners = np.zeros(items, np.int64)
    for part in chunks(len(owned), AT_ONCE):
        owners += np.diff(_incidence(samples, owned[part], items).indptr)
    norms = np.sqrt(np.maximum(owners, 1)).astype(np.float32)
    scores = np.zeros(len(drawn))
    for part in chunks(len(owned), AT_ONCE):
        incidence = _incidence(samples, owned[part], items)
        each = np.diff(incidence.indptr)
        incidence.data /= np.repeat(norms, each)
        entries = np.bincount(number, weights=each[history.indices], minlength=len(drawn))
        cuts = np.flatnonzero(np.diff(np.cumsum(entries) // KNN_ENTRIES)) + 1
        for some in np.split(np.arange(len(drawn)), cuts):
            neighbours = sparse.csr_matrix(history[some] @ incidence)
            scores[some] += np.asarray(neighbours.multiply(incidence[target[some]]).sum(axis=1)).ravel()
    return rows.label, scores.round(4)


def _matrix(columns: np.ndarray, bounds: np.ndarray, width: int) -> sparse.csr_matrix:
    """Return ones in the columns that each row names, one row after the other."""
    ones = np.ones(len(columns), np.float32)
    return sparse.csr_matrix((ones, columns, bounds.astype(np.int32)), (len(bounds) - 1, width))


def _incidence(samples: CodedSamples, owned: np.ndarray, items: int) -> sparse.csr_matrix:
    """Return (V, U) ones where a user's basket holds an item."""
    codes, number = _baskets(samples, owned, "item_id")
    ones = np.ones(len(codes), np.float32)
    incidence = sparse.csr_matrix((ones, (codes, number)), (items, len(owned)))
    incidence.sum_duplicates()
    incidence.data[:] = 1
    return incidence
