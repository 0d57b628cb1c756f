from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from dien_fuxictr.studies.comparison.statistics import (
    Draws,
    WeightedAUC,
    auc_draws,
    draw_runs,
    interval,
    paired_difference,
    users_of,
)

STUDIES = 300
USERS = 80


def rows(users: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), 2)
    return np.tile([1, 0], users), user, rng


def test_weighted_auc_equals_scikit_learn_with_ties() -> None:
    label, _, rng = rows()
    score = rng.integers(0, 6, len(label)).astype(float)
    weight = rng.integers(0, 4, (5, len(label))).astype(float)
    expected = [roc_auc_score(label, score, sample_weight=w) for w in weight]
    np.testing.assert_allclose(WeightedAUC(label, score)(weight), expected, atol=1e-12)


def test_weighted_auc_of_one_class_is_nan() -> None:
    assert np.isnan(WeightedAUC(np.ones(3), np.arange(3.0))(np.ones((1, 3)))).all()


def test_draws_are_those_of_a_plain_bootstrap() -> None:
    label, user, rng = rows(80)
    runs = [rng.normal(label), rng.normal(1.5 * label)]
    drawn = np.random.default_rng(3).multinomial(80, np.full(80, 1 / 80), size=5)
    expected = np.empty((2, 5))
    for number, times in enumerate(drawn):
        picked = np.concatenate([np.flatnonzero(user == u) for u in range(80) for _ in range(times[u])])
        expected[:, number] = [roc_auc_score(label[picked], score[picked]) for score in runs]
    np.testing.assert_allclose(auc_draws(label, user, runs, draws=5, seed=3), expected, atol=1e-12)


def test_another_name_of_each_user_changes_no_draw() -> None:
    label, user, rng = rows(80)
    score = rng.normal(label)
    renamed = rng.permutation(80)[user]
    assert np.array_equal(auc_draws(label, user, [score], 9), auc_draws(label, renamed, [score], 9))


def scored(strengths: list[float], seed: int, users: int = 2000) -> Draws:
    label, user, rng = rows(users, seed)
    return draw_runs([{"label": label, "score": rng.normal(strength * label), "group": user} for strength in strengths])


def test_with_one_run_the_interval_is_that_of_the_users_and_says_so() -> None:
    base, same, better = scored([1], 0), scored([1], 1), scored([1.5], 2)
    equal, other = paired_difference(base, same), paired_difference(base, better)
    assert equal.low < 0 < equal.high and other.low > 0 and not equal.holds_runs and not other.holds_runs
    assert (other.low, other.high) == pytest.approx(interval((better.draws - base.draws)[0]), abs=2e-3)
    assert not paired_difference(base, scored([1, 1], 3)).holds_runs


def test_seeds_without_noise_of_their_own_leave_the_interval_of_the_users() -> None:
    base, other = scored([1, 1, 1], 0), scored([1.2, 1.2, 1.2], 1)
    other = Draws(other.auc.mean() + 0 * other.auc, other.draws, other.rows)
    base = Draws(base.auc.mean() + 0 * base.auc, base.draws, base.rows)
    found = paired_difference(base, other)
    by_users = (other.draws.mean(axis=0) - base.draws.mean(axis=0)).std(ddof=1)
    assert found.holds_runs and (found.high - found.low) / 2 == pytest.approx(1.96 * by_users, rel=1e-3)


def test_where_users_have_no_noise_it_is_welchs_interval() -> None:
    first, second = np.array([0.70, 0.72, 0.71]), np.array([0.75, 0.71, 0.78, 0.74])
    found = paired_difference(
        *(Draws(auc, np.repeat(auc[:, None], 5, axis=1), (0,) * len(auc)) for auc in (first, second))
    )
    expected = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(second.mean() - first.mean())


def test_folds_are_paired_by_their_number() -> None:
    auc = np.array([0.6, 0.7, 0.8])
    base = Draws(auc, np.repeat(auc[:, None], 5, axis=1), (1, 2, 3))
    other = Draws(auc[::-1] + 0.01, np.repeat(auc[::-1, None] + 0.01, 5, axis=1), (3, 2, 1))
    found = paired_difference(base, other)
    assert (found.mean, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01)) and found.holds_runs
    assert not paired_difference(base, Draws(auc[:1], other.draws[:1], (1,))).holds_runs


def on_seeds(rng: np.random.Generator, runs: int) -> list[Draws]:
    """Two systems of equal true quality: each has its luck with each user, and each run its own quality."""
    label, user, _ = rows(USERS)
    systems = []
    for _ in range(2):
        luck = 0.7 * rng.normal(size=USERS)[user] * label
        scores = [rng.normal(label * (1 + 0.3 * rng.normal()) + luck) for _ in range(runs)]
        systems.append(draw_runs([{"label": label, "group": user, "score": score} for score in scores], draws=50))
    return systems


def on_folds(rng: np.random.Generator, runs: int) -> list[Draws]:
    """The same on folds: the users of each are others, and some folds are harder for both systems."""
    label, user, _ = rows(USERS)
    hard = rng.normal(size=runs) * 0.2
    systems = []
    for _ in range(2):
        predictions = []
        for of_fold in hard:
            luck = 0.7 * rng.normal(size=USERS)[user] * label
            score = rng.normal(label * (1 + of_fold + 0.3 * rng.normal()) + luck)
            predictions.append({"label": label, "group": user, "score": score})
        systems.append(draw_runs(predictions, range(runs), draws=50))
    return systems


def coverage(study: Callable[[np.random.Generator, int], list[Draws]], runs: int) -> tuple[float, float]:
    """In how many simulated studies the interval, and that of the users alone, holds the true difference, 0."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(STUDIES):
        base, other = study(rng, runs)
        found = paired_difference(base, other)
        low, high = interval(other.draws.mean(axis=0) - base.draws.mean(axis=0))
        held.append((found.low <= 0 <= found.high, low <= 0 <= high))
    of_both, of_users = np.mean(held, axis=0)
    return of_both, of_users


@pytest.mark.parametrize(("study", "runs"), [(on_seeds, 3), (on_seeds, 5), (on_folds, 5)])
def test_the_interval_holds_the_truth_in_95_of_100_studies_and_that_of_the_users_alone_does_not(
    study: Callable, runs: int
) -> None:
    of_both, of_users = coverage(study, runs)
    assert 0.92 <= of_both <= 0.98
    assert of_users < 0.92


def test_an_interval_holds_95_of_100_draws_and_leaves_out_those_without_a_value() -> None:
    draws = np.r_[np.arange(1001.0), np.nan, np.nan]
    assert interval(draws) == (25, 975)


def test_rows_without_groups_are_each_a_users_only_one() -> None:
    label = np.zeros(3)
    assert users_of({"label": label}).tolist() == [0, 1, 2]
    assert users_of({"label": label, "group": np.array([4, 4, 7])}).tolist() == [4, 4, 7]
