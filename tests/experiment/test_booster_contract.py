"""Unknown keywords and wrong values of a booster and its light network."""

import pytest
from made_parameters import GOOD

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.contract import check_configuration

LIGHT = {**GOOD, "model": "DIENLight", "dnn_hidden_units": [8, 4], "dnn_activations": "ReLU"}


def check_booster(booster, **changes):
    params = {**LIGHT, "booster": booster, **changes}
    assert check_configuration(params, lambda key: "a.yaml [X]", strict=True) == []
    return params["booster"]


def test_a_boosters_keywords_are_checked_as_the_models():
    assert check_booster(None) is None
    assert check_booster({"gru_hidden_size": "108", "net_dropout": 0.1}) == {"gru_hidden_size": 108, "net_dropout": 0.1}
    check_booster({"dnn_hidden_units": [9, 8, 7], "dnn_activations": ["ReLU", "Dice", "ReLU"]})


@pytest.mark.parametrize(
    ("booster", "message"),
    [
        ("large", "booster = 'large' in a.yaml [X] must be a mapping or null"),
        ({5: 1}, "booster = {5: 1} in a.yaml [X] must be a mapping or null"),
        (
            {"gru_hiden_size": 5},
            "unknown key 'gru_hiden_size' in booster of a.yaml [X]; did you mean 'gru_hidden_size'?",
        ),
        ({"hidden": 5}, "unknown key 'hidden' in booster of a.yaml [X]; nearest: "),
        ({"xyzzy": 5}, "unknown key 'xyzzy' in booster of a.yaml [X]; allowed: attention_activation, "),
        ({"gru_hidden_size": 0}, "gru_hidden_size = 0 in booster of a.yaml [X] must be a whole number from 1 to 65536"),
        ({"gru_type": "LSTM"}, "gru_type = 'LSTM' in booster of a.yaml [X] must be GRU, AIGRU, AGRU"),
        ({"net_dropout": 1}, "net_dropout = 1 in booster of a.yaml [X] must be a number from 0 to below 1"),
        ({"learning_rate": 1e-3}, "unknown key 'learning_rate' in booster of a.yaml [X]; "),
        (
            {"dnn_activations": ["ReLU"]},
            "dnn_activations = ['ReLU'] in booster of a.yaml [X] must be one value, or one for each of the 2 layers",
        ),
    ],
)
def test_bad_boosters(booster, message):
    with pytest.raises(UserError) as error:
        check_booster(booster)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hint_loss_weight": -1}, "hint_loss_weight = -1 in a.yaml [X] must be a finite number, 0 or more"),
        ({"shared_gradient": "light"}, "shared_gradient = 'light' in a.yaml [X] must be booster or both"),
        ({"booster_checkpoint": 5}, "booster_checkpoint = 5 in a.yaml [X] must be text or null"),
    ],
)
def test_bad_keywords_of_the_light_net(changes, message):
    with pytest.raises(UserError) as error:
        check_booster({}, **changes)
    assert message in str(error.value)
