"""A reload, or the refusal of one: one line of the log, and one metric."""

import logging
import time

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.traceback_file import summary

from .bundle import Bundle
from .golden import Differs
from .metrics import Metrics

_UNKNOWN = "unknown"


class Attempt:
    """To load another bundle beside the one that answers.

    Args:
        old: digest of the model that answers.
        asked_by: what has asked for it.
        metrics: told what has become of it.

    Attributes:
        bundle: the other one; None while it is not read.
        golden: the largest difference from its golden scores; None while it is not known.
    """

    def __init__(self, old: str, asked_by: str, metrics: Metrics) -> None:
        self._old, self._asked_by, self._metrics = old, asked_by, metrics
        self._start = time.monotonic()
        self.bundle: Bundle | None = None
        self.golden: float | None = None

    def loaded(self, digest: str) -> None:
        """Say that it answers from now on."""
        self._say("loaded", f"reloaded, model {digest} replaces model {self._old}", digest)

    def refused(self, problem: Exception, stated: str) -> None:
        """Say why it does not.

        Args:
            problem: what loading has raised.
            stated: the digest that the bundle states, for one that could not be read.
        """
        if isinstance(problem, Differs):
            self.golden = problem.difference
        reason = problem if isinstance(problem, UserError) else summary(problem)
        digest = self.bundle.digest if self.bundle else stated or _UNKNOWN
        self._say("refused", f"not reloaded, model {self._old} goes on, model {digest} is refused: {reason}", digest)

    def _say(self, result: str, what: str, digest: str) -> None:
        seconds = time.monotonic() - self._start
        metric, value = next(iter(self.bundle.metrics.items() if self.bundle else ()), ("validation metric", None))
        known = {
            "validation": _UNKNOWN if value is None else f"{value:.6g}",
            "trained": (self.bundle and self.bundle.trained) or _UNKNOWN,
            "golden": _UNKNOWN if self.golden is None else f"{self.golden:.1e}",
        }
        line = (
            f"{what} ({metric} {known['validation']}, trained {known['trained']}, golden difference {known['golden']}, "
            f"{seconds:.1f} s, asked by {self._asked_by})"
        )
        logging.warning(" ".join(line.split()))
        self._metrics.reloaded(result, seconds, old=self._old, new=digest, asked_by=self._asked_by, **known)
