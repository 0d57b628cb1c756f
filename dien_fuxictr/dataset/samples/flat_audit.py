"""The audit of samples in files, with the figures of `audit.audit`: what grows with the log is counted or mapped."""

import numpy as np
from scipy import sparse

from . import audit
from .audit import auc, judged, numbered
from .disk import chunks
from .flat import FlatSamples
from .protocols import SPLITS
from .ranges import RangeReader, coverage, members
from .samples import LEFT_OUT
from .sampling import stream

AT_ONCE = 10_000
"""So many histories, or users, are looked at together."""
KNN_ENTRIES = 2_000_000
"""Entries of a sparse intermediate of item-kNN, as in `audit`."""


def audit_flat(samples: FlatSamples, options: dict) -> dict:
    """As `audit.audit`, by the options that the samples were made with."""
    item, cate, lengths = samples.column("item_id"), samples.column("cate_id"), samples.disk.open("length", np.int32)
    owned = _longest(samples, options)
    popularity = np.zeros(len(samples.words["item_id"]), np.int64)
    for part in chunks(len(owned), AT_ONCE):
        rows, _ = _basket(owned[part], lengths)
        popularity += np.bincount(item[rows], minlength=len(popularity))
    (rank,) = numbered(samples.words["item_id"])
    positive, negative = samples.positives("test"), samples.negatives("test")
    candidates = np.zeros((2, len(popularity)), np.int64)
    sides, known, repeated = np.zeros((2, 3), np.int64), np.zeros((2, 2), np.int64), np.zeros((2, 2), np.int64)
    long = np.zeros(options["max_len"] + 1, np.int64)
    for part in chunks(len(positive), AT_ONCE):
        rows = positive[part]
        length = lengths[rows].astype(np.int64)
        some, start = length > 0, rows - length
        long += np.bincount(length, minlength=len(long))
        for label, target in ((0, negative[part]), (1, rows)):
            candidates[label] += np.bincount(item[target], minlength=len(popularity))
            above = np.zeros(len(rows), np.int64)
            above[some] = np.sign(rank[item[target[some]]] - rank[item[rows[some] - 1]])
            sides[label] += np.bincount(above + 1, minlength=3)
            for counts, values in ((known, cate), (repeated, item)):
                found = RangeReader(values).within(values[target], start, length)
                counts[label] += np.bincount(found, minlength=2)
    unseen = ~_seen(samples)
    label, scores = _item_knn(samples, options, owned)
    return judged(
        2 * len(positive),
        {
            "training popularity": auc_of_counts(_by_score(candidates, popularity)),
            "item unseen in training": auc_of_counts(_by_score(candidates, unseen)),
            "id above the last one's": auc_of_counts(sides),
            "history length": auc_of_counts(np.stack([long, long])),
        },
        {"category seen in history": auc_of_counts(known), "item-kNN": auc(label, scores)},
        {"positives": repeated[1, 1] / len(positive), "negatives": repeated[0, 1] / len(positive)},
    )


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


def auc_of_counts(counts: np.ndarray) -> float:
    """AUC to four digits; counts: (2, S) negatives and positives of each score, ascending."""
    negative, positive = counts
    below = np.cumsum(negative) - negative
    return round(int((positive * (2 * below + negative)).sum()) / (2 * int(positive.sum()) * int(negative.sum())), 4)


def _by_score(of_item: np.ndarray, score: np.ndarray) -> np.ndarray:
    """(2, V) counts of the items -> those of their scores, ascending."""
    values, number = np.unique(score, return_inverse=True)
    return np.stack([np.bincount(number, counts, len(values)).astype(np.int64) for counts in of_item])


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
    """Label and score of the test samples that `audit.audit` takes; `owned`: of `_longest`."""
    item, lengths = samples.column("item_id"), samples.disk.open("length", np.int32)
    positive, negative, items = samples.positives("test"), samples.negatives("test"), len(samples.words["item_id"])
    drawn = np.arange(2 * len(positive))
    if len(drawn) > audit.KNN_ROWS:
        places = _permutation(samples, len(drawn), np.random.default_rng(0))[: audit.KNN_ROWS]
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
