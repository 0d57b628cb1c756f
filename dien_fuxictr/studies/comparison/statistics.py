"""Intervals of the difference of two models: noise of test users and of runs.

A run's AUC has two kinds of noise. One is shared by the runs of a model: all of them are tested on the same users. The
other is the run's own: its seed, and its deviation for each user.

**Shared, V.** The derivative of an AUC with respect to the weight of a user is the user's influence. The sum of the
products of two runs' derivatives over the users is the covariance of their AUC (DeLong, DeLong & Clarke-Pearson,
Biometrics 44, 1988; for several rows per user: Obuchowski, Biometrics 53, 1997). It is exact arithmetic, not a
bootstrap, so that equal predictions always give equal intervals. V is the mean covariance of two runs of one model,
plus that of two runs of the other, minus twice that between the models. Test users are many, so V counts as known.

**Own, S.** Own noise is the difference between the n runs of a model: s²/n for the mean, with n - 1 degrees of freedom.
For a difference S is the sum of s²/n over both models. Its degrees of freedom m are Satterthwaite's, (sum of s²/n)² /
sum((s²/n)²/(n - 1)) (Biometrics Bulletin 2, 1946). If a model has two runs these intervals are too wide when both
models are equally noisy. In this case runs are paired in their order, which gives S exactly n - 1 degrees of freedom
for any two variances (Scheffé, Annals of Mathematical Statistics 14, 1943).

**The interval** is `difference ± sqrt(c (V + S))`. If runs had no noise of their own, c would be the square of the
normal quantile z; if users had none, the square of Student's quantile t for m degrees of freedom. Between these cases
`c = z² + (t² - z²) g(q)` with q = S / (V + S), the estimated share of the runs. Satterthwaite's degrees of freedom for
the whole variance, m / q², are too many if S is small by chance: coverage falls to .92 with three runs and .87 with
two. `g(q) = q^1.5` keeps it between .941 and .965 for two models of n >= 3 runs each, for any variances of users and
runs. For one degree of freedom `g(q) = min(1, (4 q)^5)` keeps it there. `python -m research.programs.coverage`
simulates it.

Runs on folds have test users of their own. All of their noise is in s², V is 0, and the interval is Student's. The
training sets of folds overlap, which no term accounts for.

With one run its own noise is unknown: the interval is that of the test users alone, and is marked accordingly. An
interval wider than `WIDEST` is not reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

METHOD = """It holds the noise of the test users, who are the same for both, and that of the runs, with a quantile
between the normal distribution's and Student's. If it would be wider than .5, there are not enough seeds, folds or
users."""
"""For readers of a report."""
WIDEST = 0.5
"""From an AUC of chance to that of a perfect order: a wider interval says nothing of an AUC."""


@dataclass(frozen=True)
class Scored:
    """Test AUC of the runs of a model.

    Attributes:
        auc: (n,) on the test rows.
        influence: of each run (U,), the derivative of its AUC with respect to the weight of each of its U test users.
        rows: what test rows each run is on, by a number.
    """

    auc: np.ndarray
    influence: tuple[np.ndarray, ...]
    rows: tuple[int, ...]

    @property
    def has_folds(self) -> bool:
        """Return whether each run has its own test rows."""
        return len(set(self.rows)) > 1

    def on(self, rows: Sequence[int]) -> "Scored":
        """Return the runs on these test rows, one each."""
        places = [self.rows.index(number) for number in rows]
        return Scored(
            auc=self.auc[places], influence=tuple(self.influence[place] for place in places), rows=tuple(rows)
        )


@dataclass(frozen=True)
class Interval:
    """An AUC, or the AUC of a model minus that of another.

    Attributes:
        mean: over the runs.
        low, high: ends of the 95 % interval; None where it would be wider than `WIDEST`. Of a difference, both above 0:
            the model is better; 0 between them: it is not ranked.
        too_few: what there is not enough of, if it is that wide.
        holds_runs: whether the interval has the noise of the runs; else that of the test users alone.
    """

    mean: float
    low: float | None
    high: float | None
    too_few: Literal["seeds", "folds", "users"] | None
    holds_runs: bool

    def text(self, form: str) -> str:
        """Return the mean and the interval, each number in a form as `+.4f`."""
        if self.low is None or self.high is None:
            return f"{self.mean:{form}} not enough {self.too_few}"
        ends = f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"
        return ends if self.holds_runs else f"{ends} of users alone"


def auc_by_users(label: np.ndarray, user: np.ndarray, score: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the AUC and its derivative by the weight of each user; ties count half.

    Args:
        label: (N,) 0 or 1.
        user: (N,) user of each row, of any type.
        score: (N,).

    Returns:
        The AUC; (U,) the derivatives, in the order in which users first appear. NaN if a class is missing.
    """
    is_positive = label == 1
    ranks, sizes = stats.rankdata(score), np.array([len(label) - is_positive.sum(), is_positive.sum()])
    won = np.empty(len(label))  # share of the other class that each row is ranked correctly against
    with np.errstate(divide="ignore", invalid="ignore"):
        for of_class, others in ((is_positive, sizes[0]), (~is_positive, sizes[1])):
            won[of_class] = (ranks[of_class] - stats.rankdata(score[of_class])) / others
        won[~is_positive] = 1 - won[~is_positive]
        auc = won[is_positive].sum() / sizes[1]
        per_row = (won - auc) / sizes[is_positive.astype(int)]
    _, first, number = np.unique(user, return_index=True, return_inverse=True)
    number = first.argsort().argsort()[number]
    return float(auc), np.bincount(number, per_row, minlength=len(first))


def score_runs(runs: Sequence[Mapping[str, np.ndarray]], rows: Sequence[int] | None = None) -> Scored:
    """Score the runs of a model on their test rows.

    Args:
        runs: predictions.npz of each.
        rows: a number that identifies the test rows of each; None: all have equal test rows.
    """
    found = [auc_by_users(run["label"], users_of(run), run["score"]) for run in runs]
    auc, influence = zip(*found, strict=True)
    return Scored(auc=np.array(auc), influence=influence, rows=tuple(rows or [0] * len(runs)))


def users_of(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the user of each row of a predictions.npz, (N,); else one user per row."""
    return rows.get("group", np.arange(len(rows["label"])))


def mean_auc(runs: Scored) -> Interval:
    """Return the mean AUC over the runs of a model with its interval, within 0 to 1."""
    found = _of_folds(runs.auc, runs.influence) if runs.has_folds else _of_seeds(runs)
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def paired_difference(base: Scored, other: Scored) -> Interval | None:
    """Return the difference of two models with its interval, on common test rows.

    Returns:
        None where they have none in common.
    """
    common = [number for number in dict.fromkeys(base.rows) if number in other.rows]
    if not common:
        return None
    if not base.has_folds and not other.has_folds:
        return _of_seeds(other, base)
    first, second = base.on(common), other.on(common)
    influence = [ours - theirs for theirs, ours in zip(first.influence, second.influence, strict=True)]
    return _of_folds(second.auc - first.auc, influence)


def _of_folds(values: np.ndarray, influence: Sequence[np.ndarray]) -> Interval:
    """Return the interval of the mean of values with different test users.

    Args:
        values: (n,) an AUC or a difference.
        influence: influence of the users on each value.
    """
    mean, n = float(values.mean()), len(values)
    users = sum(map(_variance, influence)) / n**2
    return _with_runs(mean, users, 0.0, _of_mean(values), n - 1, "folds") if n > 1 else _of_users(mean, users)


def _of_seeds(model: Scored, base: Scored | None = None) -> Interval:
    """Return the interval of a model's mean AUC, or of its difference to a base."""
    models = [model] if base is None else [model, base]
    mean = float(np.subtract.reduce([runs.auc.mean() for runs in models]))
    users = _variance(np.subtract.reduce([np.mean(runs.influence, axis=0) for runs in models]))
    sizes = [len(runs.auc) for runs in models]
    if min(sizes) == 1:
        return _of_users(mean, users)
    shared = max(0.0, users - sum(map(_luck_of_mean, models)))
    if base is not None and min(sizes) == 2:
        few, many = sorted((model.auc, base.auc), key=len)
        return _with_runs(mean, users, shared, _of_mean(few - np.sqrt(2 / len(many)) * many[:2]), 1, "seeds")
    owns = np.array([_of_mean(runs.auc) for runs in models])
    spread = float((owns**2 / (np.array(sizes) - 1)).sum())
    own = float(owns.sum())
    return _with_runs(mean, users, shared, own, own**2 / spread if spread else 1, "seeds")


def _of_users(mean: float, users: float) -> Interval:
    return _within_widest(mean, float(stats.norm.ppf(0.975) * np.sqrt(users)), users)


def _with_runs(
    mean: float, users: float, shared: float, own: float, freedom: float, runs: Literal["seeds", "folds"]
) -> Interval:
    """Return the interval by the formulas of this module's docstring.

    Args:
        mean: the mean of these runs.
        users: variance of this mean by the test users.
        shared: V.
        own: S.
        freedom: m.
        runs: what the runs differ by.
    """
    variance = shared + own
    normal, student = stats.norm.ppf(0.975) ** 2, stats.t.ppf(0.975, freedom) ** 2
    share = own / variance if own else 0.0
    weight = min(1.0, (4 * share) ** 5) if freedom == 1 else share**1.5
    half = float(np.sqrt((normal + (student - normal) * weight) * variance))
    return _within_widest(mean, half, users, runs)


def _within_widest(mean: float, half: float, users: float, runs: Literal["seeds", "folds"] | None = None) -> Interval:
    if 2 * half <= WIDEST:
        return Interval(mean=mean, low=mean - half, high=mean + half, too_few=None, holds_runs=bool(runs))
    are_few_users = not 2 * stats.norm.ppf(0.975) * np.sqrt(users) <= WIDEST
    too_few = "users" if are_few_users else runs
    return Interval(mean=mean, low=None, high=None, too_few=too_few, holds_runs=bool(runs))


def _variance(influence: np.ndarray) -> float:
    """Return the variance of an AUC or difference by test users; NaN for one user."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return len(influence) / np.float64(len(influence) - 1) * float(influence @ influence)


def _luck_of_mean(runs: Scored) -> float:
    """Return the variance of the mean by each run's own luck with the users."""
    influence = np.array(runs.influence)
    n = len(influence)
    return sum(map(_variance, influence - influence.mean(axis=0))) / (n - 1) / n


def _of_mean(values: np.ndarray) -> float:
    """Return the variance of the mean of independent values, from their spread."""
    return float(values.var(ddof=1)) / len(values)
