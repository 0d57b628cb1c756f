"""What a running experiment has reached so far, from the log lines of its evaluations (the zoo's)."""

import re
from pathlib import Path

from fuxictr.utils import Monitor

from .runs import parse_metrics

_PLACE = re.compile(r"Evaluation @epoch (\d+) - batch (\d+)")
_METRICS = re.compile(r"\[Metrics\] (.+)")


class ValidationCurve:
    """The monitor at each evaluation during training.

    Args:
        log: all that the run prints, also that of its parts before interruptions.
        monitor: makes a value of the metrics.
    """

    def __init__(self, log: Path, monitor: Monitor) -> None:
        self._log, self._monitor = log, monitor
        self._values: dict[tuple[str, ...], float] = {}
        self._place: tuple[str, ...] | None = None
        self._offset = 0

    def read(self) -> list[float]:
        """The values so far, in order; one that a resumed run has repeated counts once."""
        if not self._log.exists():
            return []
        with open(self._log, "rb") as log:
            log.seek(self._offset)
            text = log.read()
        whole = text.rfind(b"\n") + 1  # the last line may be half written
        self._offset += whole
        for line in text[:whole].decode(errors="replace").split("\n"):
            if place := _PLACE.search(line):
                self._place = place.groups()
            elif self._place and (metrics := _METRICS.search(line)):
                self._values[self._place] = self._monitor.get_value(parse_metrics(metrics[1]))
                self._place = None
        return list(self._values.values())
