"""The audit of samples in files, with the figures of `leak_audit`: what grows with the log is counted or mapped."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from . import leak_audit
from .disk import chunks
from .flat import FlatSamples
from .leak_audit import Rows, Table, auc, audit_result
from .protocols import SPLITS
from .ranges import RangeReader, coverage, members
from .samples import LEFT_OUT
from .sampling import stream

AT_ONCE = 10_000
"""So many histories, or users, are looked at together."""
KNN_ENTRIES = 2_000_000
"""Entries of a sparse intermediate of item-kNN, as in `audit`."""


def audit_flat(samples: FlatSamples, options: dict) -> dict:
    """As `leak_audit.audit`, by the options that the samples were made with; no row has a copy."""
    lengths, roles = samples.disk.open("length", np.int32), samples.roles
    stored = {name: samples.column(name) for name in roles.of_behaviours}
    owned = _longest(samples, options)
    frequency = {
        name: np.zeros(len(samples.words[name]), np.int64)
        if name in stored
        else samples.target_counts(name, ("train",))
        for name in roles.of_samples
    }
    for part in chunks(len(owned), AT_ONCE):
        rows, _ = _basket(owned[part], lengths)
        for name, codes in stored.items():
            frequency[name] += np.bincount(codes[rows], minlength=len(frequency[name]))
    table = Table(
        {name: samples.words[name] for name in roles.of_samples},
        stored,
        lambda split: _parts(samples, options, split),
        RangeReader,
        frequency,
        _seen(samples),
        set(roles.context),
        True,
    )
    return audit_result(table, 0.5, auc(*_item_knn(samples, options, owned)))


def _parts(samples: FlatSamples, options: dict, split: str) -> Iterator[Rows]:
    """Yield the rows of a split, positives and negatives; training rows, whose places no rule reads, have none."""
    lengths = samples.disk.open("length", np.int32)
    columns = {name: samples.column(name) for name in samples.roles.of_samples}
    positive, negative = samples.positives(split), samples.negatives(split)
    many = len(positive)
    place = samples.disk.scratch(2 * many)
    if split == "test":
        order = _order(samples, 2 * many, options, split)
        for part in chunks(2 * many, AT_ONCE):
            place[order[part]] = np.arange(part.start, part.stop)
    for part in chunks(many, AT_ONCE):
        length = lengths[positive[part]].astype(np.int64)
        for label, targets in ((0, negative), (1, positive)):
            values = {
                name: codes[positive[part] if samples.is_shared(name) else targets[part]]
                for name, codes in columns.items()
            }
            places = place[part] if label else place[slice(many + part.start, many + part.stop)]
            yield Rows(np.full(len(length), label), values, positive[part] - length, length, places)


def counts_of(samples: FlatSamples) -> dict:
    """As `sampling.counts`."""
    lengths, words = samples.disk.open("length", np.int32), samples.words
    found: dict = {"users": len(words["user_id"]), "items": len(words["item_id"])}
    if "cate_id" in words:
        used = np.zeros(len(words["cate_id"]), bool)
        for part in chunks(samples.rows, AT_ONCE):
            used[samples.column("cate_id")[part]] = True
        found["categories"] = int(used.sum())
    found["behaviours"] = samples.rows
    for split in SPLITS:
        rows = samples.positives(split)
        total = sum(int(lengths[rows[part]].sum(dtype=np.int64)) for part in chunks(len(rows), AT_ONCE))
        found[split] = {"rows": 2 * len(rows), "positives": len(rows), "mean_history": round(total / len(rows), 2)}
    return found


def _basket(rows: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of each history and its positive, and the number of the basket that each is in."""
    length = lengths[rows].astype(np.int64)
    return members(rows - length, length + 1)


def _longest(samples: FlatSamples, options: dict) -> np.ndarray:
    """(U,) the positive of each training user's longest history; of several the one whose sample comes last."""
    users, lengths = samples.column("user_id"), samples.disk.open("length", np.int32)
    positive, place = samples.positives("train"), _places(samples, options)
    best = np.full(len(samples.words["user_id"]), -1)
    longest, last = best.copy(), best.copy()
    for part in chunks(len(positive), AT_ONCE):
        row, where = positive[part], place[part]
        user, length = users[row], lengths[row]
        order = np.lexsort((where, length, user))
        order = order[np.append(np.diff(user[order]) > 0, True)]
        row, where, user, length = row[order], where[order], user[order], length[order]
        better = (length > longest[user]) | ((length == longest[user]) & (where > last[user]))
        user = user[better]
        best[user], longest[user], last[user] = row[better], length[better], where[better]
    return best[best >= 0]


def _places(samples: FlatSamples, options: dict) -> np.ndarray:
    """(P,) where the positives of training would stand in the file of samples, those left out counted too."""
    disk, positive, left_out = samples.disk, samples.positives("train"), samples.positives(LEFT_OUT)
    many = len(positive) + len(left_out)
    order, place = _order(samples, 2 * many, options, "train"), disk.scratch(many)
    for part in chunks(len(order), AT_ONCE):
        number = order[part]
        place[number[number < many]] = part.start + np.flatnonzero(number < many)
    if not len(left_out):
        return place
    of_positive = disk.scratch(len(positive))
    for part in chunks(len(positive), AT_ONCE):
        earlier = np.searchsorted(left_out, positive[part])
        of_positive[part] = place[np.arange(part.start, part.stop) + earlier]
    return of_positive


def _order(samples: FlatSamples, many: int, options: dict, split: str) -> np.ndarray:
    """(N,) the samples in the order in which they would stand in a file."""
    return _permutation(samples, many, stream(options, "order", SPLITS.index(split)))


def _permutation(samples: FlatSamples, many: int, rng: np.random.Generator) -> np.ndarray:
    order = samples.disk.scratch(many)
    for part in chunks(many, AT_ONCE):
        order[part] = np.arange(part.start, part.stop)
    rng.shuffle(order)
    return order


def _seen(samples: FlatSamples) -> np.ndarray:
    """(V,) whether an item is in a training sample."""
    item, lengths = samples.column("item_id"), samples.disk.open("length", np.int32)
    seen = samples.target_counts("item_id", ("train",)) > 0
    positive = samples.positives("train")
    for part in chunks(len(positive), AT_ONCE):
        length = lengths[positive[part]].astype(np.int64)
        start = positive[part] - length
        base = int(start.min())
        held = coverage(start - base, length, int(positive[part].max()) - base)
        seen[item[base : base + len(held)][held > 0]] = True
    return seen


def _item_knn(samples: FlatSamples, options: dict, owned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label and score of the test samples that `leak_audit.audit` takes; `owned`: of `_longest`."""
    item, lengths = samples.column("item_id"), samples.disk.open("length", np.int32)
    positive, negative, items = samples.positives("test"), samples.negatives("test"), len(samples.words["item_id"])
    drawn = np.arange(2 * len(positive))
    if len(drawn) > leak_audit.KNN_ROWS:
        places = _permutation(samples, len(drawn), np.random.default_rng(0))[: leak_audit.KNN_ROWS]
        drawn = _order(samples, len(drawn), options, "test")[np.sort(places)]
    label, row = drawn < len(positive), positive[drawn % len(positive)]
    target = item[np.where(label, row, negative[drawn % len(positive)])]
    length = lengths[row].astype(np.int64)
    behaviour, number = members(row - length, length)
    history = _matrix(item[behaviour], np.append(0, np.cumsum(length)), items)
    owners = np.zeros(items, np.int64)
    for part in chunks(len(owned), AT_ONCE):
        owners += np.diff(_incidence(owned[part], item, lengths, items).indptr)
    norms = np.sqrt(np.maximum(owners, 1)).astype(np.float32)
    scores = np.zeros(len(drawn))
    for part in chunks(len(owned), AT_ONCE):
        incidence = _incidence(owned[part], item, lengths, items)
        each = np.diff(incidence.indptr)
        incidence.data /= np.repeat(norms, each)
        entries = np.bincount(number, weights=each[history.indices], minlength=len(drawn))
        cuts = np.flatnonzero(np.diff(np.cumsum(entries) // KNN_ENTRIES)) + 1
        for some in np.split(np.arange(len(drawn)), cuts):
            neighbours = sparse.csr_matrix(history[some] @ incidence)
            scores[some] += np.asarray(neighbours.multiply(incidence[target[some]]).sum(axis=1)).ravel()
    return label, scores.round(4)


def _matrix(columns: np.ndarray, bounds: np.ndarray, width: int) -> sparse.csr_matrix:
    """Ones in the columns that each row names, one row after the other."""
    ones = np.ones(len(columns), np.float32)
    return sparse.csr_matrix((ones, columns, bounds.astype(np.int32)), (len(bounds) - 1, width))


def _incidence(owned: np.ndarray, item: np.ndarray, lengths: np.ndarray, items: int) -> sparse.csr_matrix:
    """(V, U) ones where a user's basket holds an item."""
    rows, number = _basket(owned, lengths)
    bounds = np.append(0, np.cumsum(np.bincount(number, minlength=len(owned))))
    incidence = sparse.csr_matrix(_matrix(item[rows], bounds, items).T)
    incidence.sum_duplicates()
    incidence.data[:] = 1
    return incidence
