"""Data of drawn explanations, and messages for models that lack a method."""

import numpy as np
import pytest
from made_models import MODELS
from sklearn.decomposition import PCA

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.model_methods import describe_paths, principal_components, require_method
from model_zoo.DIEN.src import DIEN


@pytest.mark.parametrize("hidden", [2, 3, 8])
def test_principal_components(hidden: int) -> None:
    states = np.random.default_rng(0).normal(size=(3, 6, hidden)) * np.arange(1, hidden + 1)
    points, shares = principal_components(states)
    expected = PCA(2).fit(states.reshape(-1, hidden))
    np.testing.assert_allclose(shares, expected.explained_variance_ratio_)
    np.testing.assert_allclose(abs(points.reshape(-1, 2)), abs(expected.transform(states.reshape(-1, hidden))))
    distances = np.linalg.norm(np.diff(points, axis=1), axis=2)
    assert (distances <= np.linalg.norm(np.diff(states, axis=1), axis=2) + 1e-9).all()
    mirrored, _ = principal_components(-states)
    np.testing.assert_allclose(mirrored, -points)  # the axes keep their direction


def test_principal_components_of_one_dimension_and_of_one_point() -> None:
    states = np.array([[[0.0], [1.0], [3.0]]])
    points, shares = principal_components(states)
    np.testing.assert_allclose(points[0, :, 0], states[0, :, 0] - states.mean())
    assert not points[..., 1].any() and shares.tolist() == [1, 0]
    points, shares = principal_components(np.ones((2, 3, 4)))
    assert not points.any() and not shares.any()


def test_paths_begin_at_zero_and_move_by_each_step() -> None:
    states = np.array([[[3.0, 4.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 1.0]]])
    drawn = describe_paths(None, states)
    assert drawn["attention"] is None and drawn["movement"].tolist() == [[5, 0], [0, 1]]
    np.testing.assert_allclose(drawn["path"][0, 0], drawn["path"][1, 1])
    np.testing.assert_allclose(np.linalg.norm(np.diff(drawn["path"], axis=1), axis=2), drawn["movement"], atol=1e-12)
    assert describe_paths(states[0], None).keys() == {"attention"}


def test_a_model_that_lacks_a_method() -> None:
    require_method(DIEN, "explain", "has no picture")
    with pytest.raises(UserError, match=r"^PNN has no picture: it offers no explain\(\); models that do: DIEN, D"):
        require_method(MODELS["PNN"], "explain", "has no picture")
