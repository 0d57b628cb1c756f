"""The two ways in which the progress of a study is shown on stderr."""

import os
import sys
from itertools import count
from time import monotonic
from typing import Any

from tqdm import tqdm


class Lines:
    """For a file or a pipe: a line for all that happens.

    Args:
        total: number of runs.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.notes: dict[str, object] = {}

    def show(self, expid: str, text: str) -> None:
        """What a running run has reached."""
        self.write(f"{expid}: {text}")

    def end(self, expid: str, how: str, finished: int, notes: dict[str, object]) -> None:
        """It has ended, and so many of the study have by now; `notes` go on to be shown."""
        self.notes |= notes
        listed = "".join(f", {name} {value}" for name, value in self.notes.items())
        self.write(f"{expid}: {how}; {finished}/{self.total} runs{listed}")

    def write(self, text: str) -> None:
        """Lines that stay."""
        print(text, file=sys.stderr, flush=True)

    def tick(self) -> None:
        """Called again and again."""

    def close(self) -> None:
        """The study is over."""


class Terminal(Lines):
    """For a terminal: a bar over the runs and, below it, a row for each running one.

    Args:
        total: number of runs.
        finished: of which so many are there already.
    """

    def __init__(self, total: int, finished: int) -> None:
        super().__init__(total)
        self._bar = tqdm(total=max(total, finished), initial=finished, unit="run", **_size())
        self._rows: dict[str, tuple[int, tqdm]] = {}
        self._refreshed = monotonic()

    def show(self, expid: str, text: str) -> None:
        if expid not in self._rows:
            taken = [place for place, _ in self._rows.values()]
            place = next(place for place in count(1) if place not in taken)
            self._rows[expid] = place, tqdm(bar_format="{desc}", position=place, leave=False, **_size())
        self._rows[expid][1].set_description_str(f"  {expid}: {text}"[: self._bar.format_dict["ncols"]])

    def end(self, expid: str, how: str, finished: int, notes: dict[str, object]) -> None:
        self._rows.pop(expid)[1].close()
        self.notes |= notes
        self._bar.set_postfix(self.notes, refresh=False)
        self._bar.update(finished - self._bar.n)
        self._bar.refresh()

    def write(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def tick(self) -> None:
        if monotonic() > self._refreshed + 1:  # the bar's clock goes on between the ends of runs
            self._refreshed = monotonic()
            self._bar.refresh()

    def close(self) -> None:
        for _, row in self._rows.values():
            row.close()
        self._bar.close()


def _size() -> dict[str, Any]:
    """For tqdm, which shows nothing where a terminal says that it has no rows (`script` in a pipe says so)."""
    try:
        is_known = all(os.get_terminal_size(sys.stderr.fileno()))
    except OSError:
        is_known = False
    return {"dynamic_ncols": True} if is_known else {"ncols": 80, "nrows": 24}
