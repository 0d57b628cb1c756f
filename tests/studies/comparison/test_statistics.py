import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dien_fuxictr.studies.comparison.statistics import WeightedAUC, auc_draws, interval, paired_interval, users_of


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


def test_interval_against_a_plain_bootstrap() -> None:
    label, user, rng = rows(80)
    base, other = [rng.normal(label), rng.normal(label)], [rng.normal(1.5 * label)]
    draws = np.random.default_rng(3).multinomial(80, np.full(80, 1 / 80), size=50)
    differences = []
    for drawn in draws:
        picked = np.concatenate([np.flatnonzero(user == u) for u in range(80) for _ in range(drawn[u])])
        auc = [[roc_auc_score(label[picked], score[picked]) for score in runs] for runs in (base, other)]
        differences.append(np.mean(auc[1]) - np.mean(auc[0]))
    expected = np.percentile(differences, [2.5, 97.5])
    ours = paired_interval(*(auc_draws(label, user, runs, draws=50, seed=3) for runs in (base, other)))
    assert ours == pytest.approx(tuple(expected), abs=1e-12)


def test_interval_tells_a_better_system_and_not_a_reseeded_one() -> None:
    label, user, rng = rows(2000)
    base, same, better = (auc_draws(label, user, [rng.normal(strength * label)]) for strength in (1, 1, 1.5))
    low, high = paired_interval(base, same)
    assert low < 0 < high
    assert paired_interval(base, better)[0] > 0
    assert paired_interval(base, base) == (0, 0)


def test_an_interval_holds_95_of_100_draws_and_leaves_out_those_without_a_value() -> None:
    draws = np.r_[np.arange(1001.0), np.nan, np.nan]
    assert interval(draws) == (25, 975)


def test_rows_without_groups_are_each_a_users_only_one() -> None:
    label = np.zeros(3)
    assert users_of({"label": label}).tolist() == [0, 1, 2]
    assert users_of({"label": label, "group": np.array([4, 4, 7])}).tolist() == [4, 4, 7]
