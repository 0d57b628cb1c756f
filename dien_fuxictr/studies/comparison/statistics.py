"""Whether two systems differ on the same test rows: a paired bootstrap over users.

The rows of a user belong together, so users are drawn, with replacement, as often as there are. Every run of every
system is scored on the same draws, and the difference of two systems is that of their mean AUC over the seeds. The
interval from the 2.5th to the 97.5th percentile holds the noise of the test users; that of the seeds shows in the
standard deviation.
"""

from collections.abc import Mapping, Sequence

import numpy as np

DRAWS = 1000
CHUNK = 50
"""Draws that are held at once."""


class WeightedAUC:
    """AUC of fixed scores under many weightings of the rows; ties count half.

    Args:
        label: (N,) 0 or 1. score: (N,).
    """

    def __init__(self, label: np.ndarray, score: np.ndarray) -> None:
        self.order = np.argsort(score, kind="stable")
        ordered = score[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self.positive = label[self.order] == 1

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        """weight: (R, N), one weighting a row. Returns (R,); NaN where one class has no weight."""
        weight = weight[:, self.order]
        positive = np.add.reduceat(weight * self.positive, self.starts, axis=1)
        negative = np.add.reduceat(weight * ~self.positive, self.starts, axis=1)
        below = negative.cumsum(axis=1) - negative
        with np.errstate(invalid="ignore"):
            return (positive * (below + negative / 2)).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))


def auc_draws(
    label: np.ndarray, user: np.ndarray, runs: Sequence[np.ndarray], draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Mean AUC of a system's runs on each draw of users; the same seed gives all systems the same draws.

    Args:
        label: (N,) labels of the test rows. user: (N,) whose they are.
        runs: (N,) scores of each seed's run.

    Returns:
        (draws,)
    """
    systems = [WeightedAUC(label, score) for score in runs]
    _, number = np.unique(user, return_inverse=True)
    users = int(number.max()) + 1
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, draws, CHUNK):
        drawn = rng.multinomial(users, np.full(users, 1 / users), size=min(CHUNK, draws - start))
        weight = drawn[:, number].astype(np.float64)
        means.append(np.mean([auc(weight) for auc in systems], axis=0))
    return np.concatenate(means)


def users_of(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whose each row of a predictions.npz is; (N,). Without groups each is a user's only one."""
    return rows.get("group", np.arange(len(rows["label"])))


def interval(draws: np.ndarray) -> tuple[float, float]:
    """From the 2.5th to the 97.5th percentile; draws that are NaN don't count."""
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def paired_interval(base: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """95 % interval of the AUC of `other` minus that of `base`, from the draws of both.

    Returns:
        Lower and upper end. Both above 0: `other` is better; 0 between them: the two are not to be ranked.
    """
    return interval(other - base)
