"""Raw rows in memory: tokens, not yet ids."""

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
    """One sequence column of a split: row i holds tokens start[i] .. start[i] + length[i].

    Attributes:
        tokens: the stored behaviours; prefixes of one history share them.
        start: (N,) int64.
        length: (N,) int64.
        blank: (N,) bool, rows that may stand for "no behaviour" (delimited text has one empty token there).
    """

    tokens: Tokens
    start: np.ndarray
    length: np.ndarray
    blank: np.ndarray

    def last(self, count: int) -> "RawHistory":
        """The same with the latest `count` behaviours of each row."""
        length = np.minimum(self.length, count)
        return RawHistory(self.tokens, self.start + self.length - length, length, self.blank)


@dataclass
class RawSplit:
    """Raw rows in file order.

    Attributes:
        path: where the rows came from (for messages).
        frame: the columns that are no sequences, nulls filled.
        histories: the sequence columns.
        fitted_only: so many of the last rows are there for vocabularies and the catalogue of behaviours only.
        behaviour: (S,) number of each stored behaviour, where the histories store one more than once.
        latest: to how many of their latest behaviours histories were cut by what built the samples, None for other
            rows.
    """

    path: str
    frame: pl.DataFrame
    histories: dict[str, RawHistory]
    latest: int | None = None
    fitted_only: int = 0
    behaviour: np.ndarray | None = None

    def __len__(self) -> int:
        return self.frame.height or max((len(history.length) for history in self.histories.values()), default=0)
