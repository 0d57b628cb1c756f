"""Attention unit against a loop, and its gradients in each recurrence."""

import pytest
import torch
from made_recurrence import FAST
from torch.autograd import gradcheck

from model_zoo.DIEN.src.attention import ATTENTION_TYPES, InterestAttention
from model_zoo.DIEN.src.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.layers.packing import Packing

LENGTHS = [3, 1, 0]
PACKING = Packing.of_lengths(torch.tensor(LENGTHS))


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("target_size", [4, 3])
@pytest.mark.parametrize("backend", FAST)
def test_attention_against_a_loop(attention_type, softmax, target_size, backend, double):
    torch.manual_seed(0)
    layer = InterestAttention(4, target_size, attention_type, [5], "Sigmoid", use_softmax=softmax, backend=backend)
    if attention_type == "din_dense_attention":
        assert layer.project[1].weight.tolist() == [0.1] * 4
        torch.nn.init.uniform_(layer.project[1].weight, -1, 1)
    h, target = torch.randn(4, 4), torch.randn(3, target_size)
    expected = []
    for row, steps in enumerate(torch.split(h, LENGTHS)):
        scores = []
        for step in steps:
            if attention_type == "bilinear_attention":
                score = step @ layer.weight @ target[row]
            else:
                if attention_type == "din_dense_attention":
                    dense, prelu = layer.project
                    q = torch.stack([w @ target[row] + b for w, b in zip(dense.weight, dense.bias, strict=True)])
                    q = torch.stack([x if x > 0 else alpha * x for x, alpha in zip(q, prelu.weight, strict=True)])
                else:
                    q = layer.project(target[row])
                score = step @ q
                if layer.unit:
                    score = torch.cat([q, step, q - step, q * step])
                    for part in layer.unit.layers:
                        score = part(score)
                    score = score[0]
            scores.append(score)
        if scores:
            expected.append(torch.softmax(torch.stack(scores), 0) if softmax else torch.stack(scores))
    torch.testing.assert_close(layer(h, target, PACKING), torch.cat(expected))


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
@pytest.mark.parametrize("kind", ["AIGRU", "AGRU", "AUGRU", "AUGRU-tensorflow"])
@pytest.mark.parametrize("activation", ["Dice", "Sigmoid"])
def test_gradients_of_every_gru_type_and_attention_type(kind, attention_type, activation, double):
    torch.manual_seed(1)
    attention = InterestAttention(3, 3, attention_type, [4], activation)
    gru = AttentionalGRU(3, 3, kind)
    pair = torch.nn.ModuleDict({"attention": attention, "gru": gru})
    names, parameters = zip(*pair.named_parameters(), strict=True)

    class Evolution(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = pair

        def forward(self, h, target):
            return self.pair["gru"](h, PACKING, self.pair["attention"](h, target, PACKING))[1]

    evolution = Evolution().eval()

    def run(h, target, *weights):
        state = {f"pair.{name}": w for name, w in zip(names, weights, strict=True)}
        return torch.func.functional_call(evolution, state, (h, target))

    inputs = [torch.randn(4, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)]
    assert gradcheck(run, [*inputs, *parameters])
