"""Refusals of the compiled attention unit and auxiliary loss, with reasons."""

import pytest
import torch
from made_recurrence import compiled

from model_zoo.DIEN.src.kernels.cpu import attention_scores, next_behaviour_loss

pytestmark = compiled

WRONG_FOR_BOTH = [
    ({"activation": "tanh"}, "activation='tanh' is unknown; allowed: sigmoid, relu"),
    ({"weights": [torch.ones(1, 8)], "biases": [torch.ones(1)]}, "has 1 weights and 1 biases"),
    ({"biases": [torch.ones(3)]}, "has 2 weights and 1 biases"),
    ({"biases": [torch.ones(4), torch.ones(1)]}, r"biases\[0\] must be \(3,\), torch.float32 on a CPU, is \(4,\)"),
    ({"weights": [torch.ones(3, 7), torch.ones(1, 3)]}, r"weights\[0\] must be \(3, 8\)"),
    ({"weights": [torch.ones(3, 8), torch.ones(2, 3)]}, r"weights\[1\] must be \(1, 3\)"),
    ({"states": torch.ones(4, 2, dtype=torch.float16)}, "states is torch.float16; allowed: torch.float32"),
]
NET = {"weights": [torch.ones(3, 8), torch.ones(1, 3)], "biases": [torch.ones(3), torch.ones(1)], "activation": "relu"}


@pytest.mark.parametrize(
    "changed,message",
    [
        *WRONG_FOR_BOTH,
        ({"offsets": torch.tensor([0, 3, 2])}, "offsets must rise from 0"),
        ({"offsets": torch.tensor([0, 3, 5])}, "offsets must rise from 0"),
        ({"query": torch.ones(3, 2)}, r"query must be \(2, 2\)"),
        ({"query": torch.ones(2, 2, device="meta")}, "query must be .* on a CPU, is .* on meta"),
    ],
)
def test_attention_refuses(changed, message):
    arguments = {"states": torch.ones(4, 2), "offsets": torch.tensor([0, 1, 4]), "query": torch.ones(2, 2), **NET}
    with pytest.raises(ValueError, match=message):
        attention_scores(**{**arguments, **changed})


@pytest.mark.parametrize(
    "changed,message",
    [
        *WRONG_FOR_BOTH,
        ({"behaviours": torch.ones(3, 6)}, r"behaviours must be \(4, 6\)"),
        ({"negatives": torch.ones(4, 1, 6)}, r"negatives must be \(4, 2, 6\)"),
        ({"positive_weight": torch.ones(4, dtype=torch.float64)}, "positive_weight must be .* is .* torch.float64"),
        ({"negative_weight": torch.ones(3, 2)}, r"negative_weight must be \(4, 2\)"),
    ],
)
def test_auxiliary_loss_refuses(changed, message):
    arguments = {
        "states": torch.ones(4, 2),
        "behaviours": torch.ones(4, 6),
        "negatives": torch.ones(4, 2, 6),
        "positive_weight": torch.ones(4),
        "negative_weight": torch.ones(4, 2),
        **NET,
    }
    with pytest.raises(ValueError, match=message):
        next_behaviour_loss(**{**arguments, **changed})
