"""Whether two systems differ on the same test rows: an interval that holds the noise of users and of runs.

**Users.** The rows of a user belong together, so users are drawn, with replacement, as often as there are: a bootstrap.
Every run of every system is scored on the same draws, and the variance over the draws of the difference of two systems,
that of their mean AUC over the runs, is `V_users`.

**Runs.** Another seed gives another AUC on the same users. A bootstrap of three runs would be too narrow: its variance
is (n - 1)/n of what it should be, and its percentiles are those of three values. So this part is a variance component
(Searle, Casella & McCulloch, Variance Components, 1992). With s² the variance of the AUC over the n runs of a system,
and v what users alone would make the runs differ by (over the draws, as each run has its own luck with each user), the
runs of both systems add

    V_runs = max(0, (s_a² - v_a)/n_a + (s_b² - v_b)/n_b).

Runs on folds are paired: s² is that of the difference over the folds, whose users differ, and v the mean over the folds
of its variance by users, the only term. So `V_users + V_runs` is s²/n there, but never less than the users alone.

**The interval** is `difference ± t sqrt(V_users + V_runs)`, where t is the 97.5 % quantile of Student's distribution
with the degrees of freedom of Satterthwaite (Biometrics Bulletin 2, 1946), V² / sum((s²/n)² / (n - 1)): many where
users are the greater part, up to n_a + n_b - 2 where seeds are. Where runs differ by users alone it is a little too
wide. With one run of a system nothing is known of V_runs: then the interval is that of the users alone, and says so.
The training sets of folds overlap, which no term accounts for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

DRAWS = 1000
CHUNK = 50
"""Draws that are held at once."""


class WeightedAUC:
    """AUC of fixed scores under many weightings of the rows; ties count half.

    Args:
        label: (N,) 0 or 1. score: (N,).
    """

    def __init__(self, label: np.ndarray, score: np.ndarray) -> None:
        order = np.argsort(score, kind="stable")
        is_positive = label[order] == 1
        self.positive, self.negative = order[is_positive], order[~is_positive]
        self.below = np.searchsorted(score[self.negative], score[self.positive], side="left")
        self.not_above = np.searchsorted(score[self.negative], score[self.positive], side="right")

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        """weight: (R, N), one weighting a row; several times as fast where it is the transpose of a contiguous (N, R).
        Returns (R,); NaN where one class has no weight."""
        positive, negative = weight.T[self.positive], weight.T[self.negative]
        up_to = np.pad(negative.cumsum(axis=0, dtype=weight.dtype), ((1, 0), (0, 0)))
        won = np.einsum("nr,nr->r", positive, up_to[self.below] + up_to[self.not_above], dtype=np.float64) / 2
        with np.errstate(invalid="ignore"):
            return won / (positive.sum(axis=0) * up_to[-1])


def auc_draws(
    label: np.ndarray, user: np.ndarray, runs: Sequence[np.ndarray], draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """AUC of each run on each draw of users; the same seed gives all systems the same draws.

    Args:
        label: (N,) labels of the test rows. user: (N,) whose they are; what a user is called does not matter.
        runs: (N,) scores of each run.

    Returns:
        (runs, draws)
    """
    systems = [WeightedAUC(label, score) for score in runs]
    _, first, number = np.unique(user, return_index=True, return_inverse=True)
    number = first.argsort().argsort()[number]
    users = len(first)
    rng = np.random.default_rng(seed)
    aucs = []
    for start in range(0, draws, CHUNK):
        drawn = rng.multinomial(users, np.full(users, 1 / users), size=min(CHUNK, draws - start))
        weight = drawn.T.astype(np.int32)[number].T
        aucs.append([auc(weight) for auc in systems])
    return np.concatenate(aucs, axis=1)


@dataclass(frozen=True)
class Draws:
    """AUC of the runs of a system.

    Attributes:
        auc: (n,) on the test rows.
        draws: (n, draws) on draws of their users.
        rows: what test rows each run is on, by a number.
    """

    auc: np.ndarray
    draws: np.ndarray
    rows: tuple[int, ...]

    @property
    def has_folds(self) -> bool:
        """Whether each run is on test rows of its own."""
        return len(set(self.rows)) > 1

    def on(self, rows: Sequence[int]) -> "Draws":
        """The runs on these test rows, one each."""
        places = [self.rows.index(number) for number in rows]
        return Draws(self.auc[places], self.draws[places], tuple(rows))


@dataclass(frozen=True)
class Difference:
    """The AUC of a system minus that of another.

    Attributes:
        mean: over the runs.
        low, high: ends of the 95 % interval. Both above 0: the system is better; 0 between them: it is not ranked.
        holds_runs: whether the interval has the noise of the runs; else that of the users alone.
    """

    mean: float
    low: float
    high: float
    holds_runs: bool


def draw_runs(runs: Sequence[Mapping[str, np.ndarray]], rows: Sequence[int] | None = None, draws: int = DRAWS) -> Draws:
    """Score the runs of a system on draws of users.

    Args:
        runs: predictions.npz of each.
        rows: a number for the test rows of each; None: all are on the same.

    Returns:
        On the same test rows all systems have the same draws.
    """
    rows = tuple(rows or [0] * len(runs))
    auc, drawn = np.empty(len(runs)), np.empty((len(runs), draws))
    for number in set(rows):
        places = [place for place, of_run in enumerate(rows) if of_run == number]
        label, user = runs[places[0]]["label"], users_of(runs[places[0]])
        scores = [runs[place]["score"] for place in places]
        drawn[places] = auc_draws(label, user, scores, draws, number)
        auc[places] = [WeightedAUC(label, score)(np.ones((1, len(label))))[0] for score in scores]
    return Draws(auc, drawn, rows)


def users_of(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whose each row of a predictions.npz is; (N,). Without groups each is a user's only one."""
    return rows.get("group", np.arange(len(rows["label"])))


def interval(draws: np.ndarray) -> tuple[float, float]:
    """From the 2.5th to the 97.5th percentile; draws that are NaN don't count."""
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def paired_difference(base: Draws, other: Draws) -> Difference | None:
    """The difference of two systems with its interval, of the runs on test rows that both have.

    Returns:
        None where they have none in common.
    """
    common = [number for number in dict.fromkeys(base.rows) if number in other.rows]
    if not common:
        return None
    if base.has_folds or other.has_folds:
        first, second = base.on(common), other.on(common)
        return of_one(Draws(second.auc - first.auc, second.draws - first.draws, tuple(common)), has_folds=True)
    mean = float(other.auc.mean() - base.auc.mean())
    users = _variance(other.draws.mean(axis=0) - base.draws.mean(axis=0))
    return _with_interval(mean, users, [(runs.auc, _variance_of_runs(runs.draws)) for runs in (base, other)])


def of_one(runs: Draws, has_folds: bool | None = None) -> Difference:
    """The mean of the runs of one system with its interval, by the same two kinds of noise.

    Args:
        has_folds: whether each run is on users of its own; None: as its test rows tell.
    """
    mean, users = float(runs.auc.mean()), _variance(runs.draws.mean(axis=0))
    if runs.has_folds if has_folds is None else has_folds:
        by_users = float(np.mean([_variance(fold) for fold in runs.draws]))
    else:
        by_users = _variance_of_runs(runs.draws)
    return _with_interval(mean, users, [(runs.auc, by_users)])


def _with_interval(mean: float, users: float, parts: Sequence[tuple[np.ndarray, float]]) -> Difference:
    """The formulas at the top of this module.

    Args:
        users: V_users.
        parts: the values of the runs whose variance counts, and what of it comes of users.
    """
    holds_runs = all(len(values) > 1 for values, _ in parts)
    variance, quantile = users, float(stats.norm.ppf(0.975))
    if holds_runs:
        squares = [(values.var(ddof=1), by_users, len(values)) for values, by_users in parts]
        variance += max(0.0, sum((square - by_users) / n for square, by_users, n in squares))
        spread = sum((square / n) ** 2 / (n - 1) for square, _, n in squares)
        quantile = float(stats.t.ppf(0.975, variance**2 / spread)) if spread else quantile
    half = quantile * float(np.sqrt(variance))
    return Difference(mean, mean - half, mean + half, holds_runs)


def _variance(draws: np.ndarray) -> float:
    """Over draws of users; those that are NaN don't count."""
    return float(np.nanvar(draws, ddof=1))


def _variance_of_runs(draws: np.ndarray) -> float:
    """What users alone make the n runs of a system differ by. draws: (n, draws)."""
    return sum(_variance(run) for run in draws - draws.mean(axis=0)) / max(1, len(draws) - 1)
