import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from dien_fuxictr.studies.comparison.statistics import (
    WIDEST,
    Interval,
    Scored,
    auc_by_users,
    mean_auc,
    paired_difference,
    score_runs,
    users_of,
)

Z = stats.norm.ppf(0.975)


def rows(users: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Labels and users, a user's rows apart, and what to draw scores with."""
    return np.tile([1, 0], users), np.tile(np.arange(users), 2), np.random.default_rng(seed)


def scored(strengths: list[float], seed: int, users: int = 2000) -> Scored:
    label, user, rng = rows(users, seed)
    return score_runs(
        [{"label": label, "score": rng.normal(strength * label), "group": user} for strength in strengths]
    )


def without_users(*auc: float, rows: tuple[int, ...] = ()) -> Scored:
    """Return runs whose test users make no noise."""
    return Scored(np.array(auc), (np.zeros(4),) * len(auc), rows or (0,) * len(auc))


def half(found: Interval | None) -> float:
    assert found and found.low is not None and found.high is not None
    assert found.mean == pytest.approx((found.low + found.high) / 2)
    return (found.high - found.low) / 2


def squared(users: np.ndarray) -> float:
    """Return the variance by the users, computed by its definition."""
    return len(users) / (len(users) - 1) * float((users**2).sum())


def test_auc_equals_scikit_learn_with_ties() -> None:
    label, user, rng = rows()
    score = rng.integers(0, 6, len(label)).astype(float)
    assert auc_by_users(label, user, score)[0] == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_influence_is_the_derivative_by_a_users_weight() -> None:
    """Compare with central differences, which are off by step² times a constant.

    The constant, a third derivative, is below 1 for 20 users.
    """
    label, user, rng = rows(20)
    score, step = rng.integers(0, 9, len(label)).astype(float), 1e-4

    def weighted(of_user: int, change: float) -> float:
        return float(roc_auc_score(label, score, sample_weight=1 + change * (user == of_user)))

    expected = [(weighted(each, step) - weighted(each, -step)) / (2 * step) for each in range(20)]
    np.testing.assert_allclose(auc_by_users(label, user, score)[1], expected, atol=step**2)


def test_equal_predictions_have_equal_intervals() -> None:
    """Compare intervals for another order of rows and other names of users."""
    label, user, rng = rows(80)
    scores = [rng.normal(label) for _ in range(6)]
    order, names = rng.permutation(len(label)), rng.permutation(80)
    runs = [{"label": label, "group": user, "score": score} for score in scores]
    moved = [{"label": label[order], "group": names[user[order]], "score": score[order]} for score in scores]
    first = paired_difference(score_runs(runs[:3]), score_runs(runs[3:]))
    second = paired_difference(score_runs(moved[:3]), score_runs(moved[3:]))
    assert first and second and (first.mean, half(first)) == pytest.approx((second.mean, half(second)), rel=1e-12)


def test_one_run_has_the_interval_of_the_users_and_says_so() -> None:
    base, same, better = scored([1], 0), scored([1], 1), scored([1.5], 2)
    equal, other = paired_difference(base, same), paired_difference(base, better)
    assert equal and other and equal.low and other.low and other.low > 0 > equal.low
    assert half(other) == pytest.approx(Z * squared(better.influence[0] - base.influence[0]) ** 0.5)
    assert half(mean_auc(base)) == pytest.approx(Z * squared(base.influence[0]) ** 0.5)
    for found in (equal, other, mean_auc(base), paired_difference(base, scored([1, 1], 3))):
        assert found and not found.holds_runs and found.text(".2f").endswith("] of users alone")
    assert mean_auc(scored([1, 1], 3)).holds_runs


def test_equal_runs_leave_the_interval_of_the_users() -> None:
    base, other = scored([1], 0), scored([1.2], 1)
    base, other = (Scored(np.repeat(runs.auc, 3), runs.influence * 3, (0, 0, 0)) for runs in (base, other))
    found = paired_difference(base, other)
    assert found and found.holds_runs
    assert half(found) == pytest.approx(Z * squared(other.influence[0] - base.influence[0]) ** 0.5)


def test_without_noise_of_users_it_is_welchs_interval() -> None:
    first, second = np.array([0.70, 0.72, 0.71]), np.array([0.75, 0.71, 0.78, 0.74])
    found = paired_difference(without_users(*first), without_users(*second))
    expected = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert found and (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(second.mean() - first.mean())


def test_without_noise_of_users_two_runs_are_paired() -> None:
    first, second = np.array([0.700, 0.702]), np.array([0.750, 0.749])
    found = paired_difference(without_users(*first), without_users(*second))
    expected = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert found and (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_two_against_five_runs_have_scheffes_interval() -> None:
    first, second = np.array([0.700, 0.702]), np.array([0.750, 0.749, 0.752, 0.748, 0.751])
    ratio = (2 / 5) ** 0.5
    scheffe = first - ratio * second[:2] + ratio / 2 * second[:2].sum() - second.mean()
    expected = stats.ttest_1samp(scheffe, 0).confidence_interval(0.95)
    found = paired_difference(without_users(*second), without_users(*first))
    assert found and (found.low, found.high) == pytest.approx((expected.low, expected.high))
    found = paired_difference(without_users(*first), without_users(*second))
    assert found and (found.low, found.high) == pytest.approx((-expected.high, -expected.low))


def test_one_systems_mean_has_students_interval() -> None:
    auc = np.array([0.70, 0.72, 0.71])
    expected = stats.ttest_1samp(auc, 0).confidence_interval(0.95)
    found = mean_auc(without_users(*auc))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_luck_with_users_that_no_run_shares_is_counted_once(runs: int) -> None:
    """Leave own noise with users out of the shared part, which is known here.

    The differences between runs contain it already.
    """
    basis = np.linalg.qr(np.c_[np.ones(12), np.random.default_rng(0).normal(size=(12, 11))])[0].T[1:]
    shared, own = 0.004 * basis[0], 0.003 * basis[1 : runs + 1]
    auc = 0.7 + 0.002 * np.arange(runs)
    found = mean_auc(Scored(auc, tuple(shared + own), (0,) * runs))
    by_users, by_runs = squared(shared), auc.var(ddof=1) / runs
    share = by_runs / (by_users + by_runs)
    weight = min(1, (4 * share) ** 5) if runs == 2 else share**1.5
    factor = Z**2 + (stats.t.ppf(0.975, runs - 1) ** 2 - Z**2) * weight
    assert half(found) == pytest.approx((factor * (by_users + by_runs)) ** 0.5)


def test_folds_have_students_interval_of_their_differences() -> None:
    """Whatever their users are: s² of the folds has their noise."""
    first, second = scored([1], 0, 200), scored([1.1], 1, 200)
    base = Scored(np.array([0.6, 0.7, 0.8]), first.influence * 3, (1, 2, 3))
    other = Scored(np.array([0.83, 0.72, 0.61]), second.influence * 3, (3, 2, 1))
    found = paired_difference(base, other)
    expected = stats.ttest_1samp([0.01, 0.02, 0.03], 0).confidence_interval(0.95)
    assert found and found.holds_runs and (found.low, found.high) == pytest.approx((expected.low, expected.high))
    expected = stats.ttest_1samp(base.auc, 0).confidence_interval(0.95)
    assert (mean_auc(base).low, mean_auc(base).high) == pytest.approx((expected.low, min(1, expected.high)))


def test_one_common_fold_has_the_interval_of_its_users() -> None:
    base, other = scored([1, 1.1], 0), scored([1.2], 1)
    base = Scored(base.auc, base.influence, (1, 2))
    found = paired_difference(base, Scored(other.auc, other.influence, (2,)))
    assert found and not found.holds_runs and found.mean == pytest.approx(other.auc[0] - base.auc[1])
    assert half(found) == pytest.approx(Z * squared(other.influence[0] - base.influence[1]) ** 0.5)
    assert paired_difference(base, Scored(other.auc, other.influence, (3,))) is None


def test_an_interval_wider_than_the_metric_is_refused() -> None:
    found = paired_difference(without_users(0.5, 0.9), without_users(0.9, 0.5))
    assert found == Interval(0, None, None, "seeds", True) and found.text("+.1f") == "+0.0 not enough seeds"
    widest = WIDEST / 2 / stats.t.ppf(0.975, 1)
    for change, is_refused in ((0.999, False), (1.001, True)):
        found = mean_auc(without_users(0.75 - change * widest, 0.75 + change * widest))
        assert (found.low is None, found.too_few) == ((True, "seeds") if is_refused else (False, None))


def test_few_users_are_told_from_few_runs() -> None:
    alone, many = scored([0.5], 0, users=4), scored([1, 1, 1], 0)
    few = Scored(np.repeat(alone.auc, 3), alone.influence * 3, (0, 0, 0))
    assert mean_auc(few).too_few == "users" and mean_auc(many).too_few is None
    apart = Scored(np.array([0.5, 0.9, 0.7]), many.influence, many.rows)
    assert mean_auc(apart).too_few == "seeds"
    single = score_runs([{"label": np.array([1, 0]), "group": np.zeros(2), "score": np.array([0.1, 0.2])}])
    assert mean_auc(single).text(".1f") == "0.0 not enough users"


def test_users_of_folds_are_others_each() -> None:
    """Refuse the interval of one run, and accept that of four folds.

    Four folds have a quarter of the variance of one: 2 x 1.96 x .2 / 2 is narrow enough, 2 x 1.96 x .2 is not.
    """
    influence = (np.array([0.1, 0.1, -0.1, -0.1]) * 3**0.5,) * 4
    assert squared(influence[0]) == pytest.approx(0.4**2)
    found = mean_auc(Scored(np.array([0.1, 0.9, 0.1, 0.9]), tuple(users / 2 for users in influence), (1, 2, 3, 4)))
    assert found.too_few == "folds"
    assert mean_auc(Scored(np.array([0.1, 0.9]), influence[:2], (1, 2))).too_few == "users"


def test_a_mean_stays_within_what_an_auc_can_be() -> None:
    found = mean_auc(without_users(0.98, 0.99, 1))
    assert found.high == 1 and found.low and found.low < 0.98
    found = mean_auc(without_users(0, 0.01, 0.02))
    assert found.low == 0 and found.high and found.high > 0.02


def test_auc_of_one_class_is_not_a_number() -> None:
    found = mean_auc(score_runs([{"label": np.ones(3), "score": np.arange(3.0)}]))
    assert np.isnan(found.mean) and found.low is None


def test_rows_without_groups_are_each_a_users_only_one() -> None:
    label = np.zeros(3)
    assert users_of({"label": label}).tolist() == [0, 1, 2]
    assert users_of({"label": label, "group": np.array([4, 4, 7])}).tolist() == [4, 4, 7]
