"""Raw rows in memory, as tokens that are not encoded yet."""

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(eq=False)
class Tokens:
    """The behaviours of one sequence column, each stored once.

    Attributes:
        words: (V,) distinct tokens, String.
        codes: (S,) int32, the word of every stored behaviour.
    """

    words: pl.Series
    codes: np.ndarray


@dataclass
class RawHistory:
    """Sequence column of a split: row i has tokens start[i] .. start[i] + length[i].

    Attributes:
        tokens: the stored behaviours; prefixes of one history share them.
        start: (N,) int64.
        length: (N,) int64.
        blank: (N,) bool, rows that may mean "no behaviour" (delimited text has one empty token there).
    """

    tokens: Tokens
    start: np.ndarray
    length: np.ndarray
    blank: np.ndarray

    def last(self, count: int) -> "RawHistory":
        """Return the history with the last `count` behaviours of each row."""
        length = np.minimum(self.length, count)
        return RawHistory(self.tokens, self.start + self.length - length, length, self.blank)


@dataclass
class RawSplit:
    """Raw rows in file order.

    Attributes:
        path: source of the rows, for messages.
        frame: the columns that are not sequences, with nulls filled.
        histories: the sequence columns.
        latest: number of most recent behaviours that the build of the samples cut histories to; None for other rows.
        fitted_only: number of rows at the end that only count for vocabularies and the catalogue of behaviours.
        behaviour: (S,) number of each stored behaviour, if the histories store one more than once.
    """

    path: str
    frame: pl.DataFrame
    histories: dict[str, RawHistory]
    latest: int | None = None
    fitted_only: int = 0
    behaviour: np.ndarray | None = None

    def __len__(self) -> int:
        return self.frame.height or max((len(history.length) for history in self.histories.values()), default=0)
