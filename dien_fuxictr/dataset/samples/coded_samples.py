"""Samples as numbers in arrays, in memory or in files.

Sampling writes them; audit, encoder and loader read them. An array is named after its content, with names that no
column of a log may have. Rows are sorted by user, event, time and tie.

- `<column>` (int32) for item_id, cate_id, the side columns, the context and user_id, by row of the log: index of the
  value in the ascending `words[column]`. Session and day tokens are stored likewise, as `session` and `day` (int8).
- `history_length` (int32; `length` in older sets), by row: number of behaviours in its history, which starts at
  `history_start` (int64). Without `history_start`, the history ends just before the row.
- `behaviour_history` (int64): row of the log of each behaviour; without it each row is a behaviour. `order_history`
  (int64), for shuffled histories: behaviour at each place of the histories. `unclicked_history` (int64): row of the
  item that was shown but not chosen for each behaviour, -1 if none.
- `label` (int8), by row, for a log of exposures.
- `used_history` (bool), by behaviour: whether it is in the history of a training sample.
- `rows_<split>` (int64): rows that are samples, for a log of exposures, else positives; `negative_<split>` (int64): the
  rows of their negatives. `rows_left_out` and `negative_left_out` are the training rows that `targets_per_user` leaves
  out.
- `<column>_<split>_history` (int32): values of samples whose property varies over time, positives first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from .arrays import Arrays, chunks
from .columns import Roles, history_of
from .protocols import SPLITS
from .samples import LEFT_OUT, Samples

AT_ONCE = 100_000
"""So many rows are read at once."""
TOKENS = {"session": "session_history", "day": "day_history"}


@dataclass(frozen=True)
class Chosen:
    """Some samples of a split.

    Attributes:
        label: (N,) 0 or 1.
        sample: (N,) numbers of the samples.
        row: (N,) row of the log that gives the sample's user, time and history.
        target: (N,) row of the log that gives the sample's item.
    """

    label: np.ndarray
    sample: np.ndarray
    row: np.ndarray
    target: np.ndarray


@dataclass
class CodedSamples:
    """Samples in arrays.

    Attributes:
        arrays: see the module.
        roles: roles of the columns.
        words: column -> its distinct values, ascending.
        has_labels: whether labels are those of the log, whose exposures are the samples.
        rows: number of rows of the sorted log.
        behaviours: number of rows that form histories.
        history_counts: history column -> (V,) number of occurrences of each word in the histories of training samples;
            for items that were not clicked there is a last entry for no item.
    """

    arrays: Arrays
    roles: Roles
    words: dict[str, pl.Series]
    has_labels: bool
    rows: int = 0
    behaviours: int = 0
    history_counts: dict[str, np.ndarray] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """Return the numbers of the values of a column, (rows,)."""
        return self.arrays.open(name, np.int8 if name in TOKENS else np.int32)

    def positives(self, split: str) -> np.ndarray:
        """Return the (P,) rows of the log that are samples, or positives."""
        return self.arrays.open(f"rows_{split}", np.int64)

    def negatives(self, split: str) -> np.ndarray:
        """Return the (P,) rows of the log that are the negatives of positives."""
        return self.arrays.open(f"negative_{split}", np.int64)

    def size(self, split: str) -> int:
        """Return the number of samples of a split."""
        return len(self.positives(split)) * (1 if self.has_labels else 2)

    def choose(self, split: str, sample: np.ndarray) -> Chosen:
        """Return samples of a split by number: positives come first."""
        rows = self.positives(split)
        row = rows[sample % max(len(rows), 1)]
        if self.has_labels:
            return Chosen(self.arrays.open("label", np.int8)[row], sample, row, row)
        is_positive = sample < len(rows)
        target = np.where(is_positive, row, self.negatives(split)[sample % max(len(rows), 1)])
        return Chosen(is_positive.astype(np.int8), sample, row, target)

    def values(self, name: str, split: str, chosen: Chosen) -> np.ndarray:
        """Return the indices of the values that samples have in a column."""
        if name in self.roles.varying and not self.has_labels:
            return self.arrays.open(f"{name}_{split}_history", np.int32)[chosen.sample]
        is_shared = name == "user_id" or name in self.roles.context
        return self.column(name)[chosen.row if is_shared else chosen.target]

    @property
    def lengths(self) -> np.ndarray:
        """Return the length of the history of each row of the log."""
        return self.arrays.open("history_length" if self.arrays.has("history_length") else "length", np.int32)

    def spans(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return start and length of the histories of rows of the log, as places."""
        length = self.lengths[row].astype(np.int64)
        return self.arrays.open("history_start", np.int64)[row] if self.arrays.has(
            "history_start"
        ) else row - length, length

    @property
    def is_shuffled(self) -> bool:
        """Return whether histories are shuffled; each history then has its own places."""
        return self.arrays.has("order_history")

    @property
    def places(self) -> int:
        """Return the number of places that histories refer to."""
        return len(self.arrays.open("order_history", np.int64)) if self.is_shuffled else self.behaviours

    def codes_at(self, history: str, place: np.ndarray, in_order: bool = True) -> np.ndarray:
        """Return the indices of a history column's words at places.

        The index is -1 if no other item was shown.

        Args:
            history: name of the column of the samples.
            place: (N,) places, or numbers of behaviours if not `in_order`.
            in_order: whether `place` counts in the order of histories.
        """
        behaviour = self.arrays.open("order_history", np.int64)[place] if in_order and self.is_shuffled else place
        name = self.sources[history]
        if history.startswith("neg_"):
            row = self.arrays.open("unclicked_history", np.int64)[behaviour]
            return np.where(row >= 0, self.column(name)[np.maximum(row, 0)], -1)
        return self.column(name)[
            self.arrays.open("behaviour_history", np.int64)[behaviour] if self.has_labels else behaviour
        ]

    @property
    def sources(self) -> dict[str, str]:
        """Return history column of the samples -> column of the log with its values."""
        own = {history_of(name): name for name in self.roles.of_behaviours}
        if self.has_labels:
            own |= {f"neg_{history_of(name)}": name for name in ("item_id", *self.roles.properties)}
        return own | {history: name for name, history in TOKENS.items()}

    def target_counts(self, column: str, splits: tuple[str, ...]) -> np.ndarray:
        """Return how often each word occurs in the samples of some splits, (V,)."""
        counts = np.zeros(len(self.words[column]), np.int64)
        for split in splits:
            for part in chunks(self.size(split), AT_ONCE):
                chosen = self.choose(split, np.arange(part.start, part.stop))
                counts += np.bincount(self.values(column, split, chosen), minlength=len(counts))
        return counts

    def target_labels(self, split: str) -> tuple[int, int]:
        """Return the numbers of negative and positive samples of a split."""
        rows, positives = self.positives(split), len(self.positives(split))
        if self.has_labels:
            labels = self.arrays.open("label", np.int8)
            positives = sum(int(labels[rows[part]].sum()) for part in chunks(len(rows), AT_ONCE))
        return self.size(split) - positives, positives

    def counts(self) -> dict:
        """Return the counts for samples.json."""
        found: dict = {"users": len(self.words["user_id"]), "items": len(self.words["item_id"])}
        if "cate_id" in self.words:
            used = np.zeros(len(self.words["cate_id"]), bool)
            for part in chunks(self.rows, AT_ONCE):
                used[self.column("cate_id")[part]] = True
            found["categories"] = int(used.sum())
        found["behaviours"] = self.behaviours
        for split in SPLITS:
            rows = self.positives(split)
            total = sum(int(self.spans(rows[part])[1].sum()) for part in chunks(len(rows), AT_ONCE))
            negatives, positives = self.target_labels(split)
            mean = round(total / len(rows), 2)
            found[split] = {"rows": negatives + positives, "positives": positives, "mean_history": mean}
        return found

    def shuffled_rows(self, split: str, rng: np.random.Generator) -> np.ndarray:
        """Return the numbers of the samples in the order of the split's file.

        Those of training have the samples among them that were left out, numbered behind the others.
        """
        positive, left_out = self.positives(split), self.positives(LEFT_OUT) if split == "train" else np.zeros(0, int)
        many = len(positive) + len(left_out)
        order = self.arrays.scratch(many * (1 if self.has_labels else 2))
        for part in chunks(len(order), AT_ONCE):
            order[part] = np.arange(part.start, part.stop)
        rng.shuffle(order)
        if not len(left_out):
            return order
        # Left-out samples and others are drawn from one order of all training rows.
        number = self.arrays.scratch(many)
        for part in chunks(len(positive), AT_ONCE):
            number[np.arange(part.start, part.stop) + np.searchsorted(left_out, positive[part])] = np.arange(
                part.start, part.stop
            )
        for part in chunks(len(left_out), AT_ONCE):
            beyond = self.size(split) + np.arange(part.start, part.stop)
            number[np.arange(part.start, part.stop) + np.searchsorted(positive, left_out[part])] = beyond
        for part in chunks(len(order), AT_ONCE):
            place = number[order[part] % many]
            is_left_out, is_negative = place >= self.size(split), order[part] >= many
            order[part] = place + is_negative * np.where(is_left_out, len(left_out), len(positive))
        return order

    def as_frames(self, info: dict, order_of: Callable[[str], np.ndarray]) -> Samples:
        """Return the samples as tables.

        Args:
            info: samples.json.
            order_of: split -> order of its samples, see `shuffled_rows`.
        """
        splits, left_out = {}, None
        for split in SPLITS:
            order = order_of(split)
            splits[split] = self._table(split, order[order < self.size(split)])
            if (beyond := order[order >= self.size(split)] - self.size(split)).size:
                left_out = self._table(LEFT_OUT, beyond)
        return Samples(self.behaviour_table(), splits, info, left_out)

    def behaviour_table(self) -> pl.DataFrame:
        """Return the behaviours of the histories, one row per place."""
        place = np.arange(self.places)
        behaviour = self.arrays.open("order_history", np.int64)[place] if self.is_shuffled else place
        row = self.arrays.open("behaviour_history", np.int64)[behaviour] if self.has_labels else behaviour
        table = {}
        for history, name in self.sources.items():
            codes = pl.Series(self.codes_at(history, place))
            words = self.words[name]
            table[history] = (
                pl.select(
                    pl.when(codes >= 0).then(words.gather(codes.clip(0).cast(pl.UInt32))).otherwise(pl.lit(""))
                ).to_series()
                if history.startswith("neg_")
                else words.gather(codes.cast(pl.UInt32))
            )
        frame = pl.DataFrame(table).with_columns(
            time=self.arrays.open("time", np.int64)[row],
            user_id=self.words["user_id"].gather(self.column("user_id")[row]),
        )
        return frame.with_columns(behaviour=behaviour) if self.is_shuffled else frame

    def log_table(self, names: list[str]) -> pl.DataFrame:
        """Return item, time and some columns of all rows of the sorted log."""
        columns = {name: self.words[name].gather(self.column(name)) for name in ("item_id", *names)}
        return pl.DataFrame(columns | {"time": self.arrays.open("time", np.int64)})

    def _table(self, split: str, sample: np.ndarray) -> pl.DataFrame:
        chosen = self.choose(split, sample)
        start, length = self.spans(chosen.row)
        columns = {
            name: self.words[name].gather(self.values(name, split, chosen))
            for name in ("user_id", *self.roles.of_samples)
        }
        return pl.DataFrame({"label": chosen.label} | columns | {"history_start": start}).with_columns(
            history_length=length.astype(np.int32)
        )
