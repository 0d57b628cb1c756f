"""Networks over steps: the zoo's Dice, activations by name, and kernels."""

import pytest
import torch
from fuxictr.pytorch.layers import Dice as ZooDice

from model_zoo.DIEN.src.kernels.cpu.native_step_mlp import with_gradients
from model_zoo.DIEN.src.layers.activations import Dice, activation
from model_zoo.DIEN.src.layers.dropout import step_elements
from model_zoo.DIEN.src.layers.packing import Packing
from model_zoo.DIEN.src.layers.step_mlp import StepMLP

PACKING = Packing.of_lengths(torch.tensor([2, 0, 1]))


@pytest.mark.parametrize("rows", [2, 20])
def test_dice_equals_the_zoos(rows):
    torch.manual_seed(0)
    x = torch.randn(rows, 3)
    ours, zoo = Dice(3), ZooDice(3)
    with torch.no_grad():
        ours.alpha.fill_(0.3)
        zoo.alpha.fill_(0.3)
    torch.testing.assert_close(ours(x), zoo(x))
    torch.testing.assert_close(ours.running_mean, zoo.bn.running_mean)
    torch.testing.assert_close(ours.running_var, zoo.bn.running_var)
    ours.eval()
    zoo.eval()
    torch.testing.assert_close(ours(x), zoo(x))


@pytest.mark.parametrize("rows", [0, 1])
def test_dice_uses_running_statistics_below_two_rows(rows):
    layer = Dice(3)
    x = torch.randn(rows, 3, requires_grad=True)
    before = layer.running_mean.clone()
    trained = layer(x)
    trained.sum().backward()
    assert torch.equal(layer.running_mean, before) and torch.isfinite(x.grad).all()
    torch.testing.assert_close(trained, layer.eval()(x))


def test_activations_by_the_zoos_names():
    assert isinstance(activation("ReLU", 2), torch.nn.ReLU) and isinstance(activation("relu", 2), torch.nn.ReLU)
    assert isinstance(activation("Dice", 2), Dice) and activation("PReLU", 5).num_parameters == 5
    with pytest.raises(ValueError, match="activation 'Linear' is unknown"):
        activation("Linear", 2)
    with pytest.raises(ValueError, match="do not match hidden units"):
        StepMLP(2, [3, 4], ["ReLU"])


@pytest.mark.parametrize(
    "activations,dropout,output,expected",
    [
        ("Sigmoid", 0, None, ["sigmoid", "sigmoid", "none"]),
        (["ReLU", "PReLU"], 0, None, ["relu", "prelu", "none"]),
        ("Dice", 0, None, ["dice", "dice", "none"]),
        (["ReLU", "ReLU"], 0.5, None, ["relu", "relu", "none"]),
        (["ReLU", "Tanh"], 0, None, None),
        ("Sigmoid", 0, "Sigmoid", None),
    ],
)
def test_which_nets_the_kernels_train(activations, dropout, output, expected):
    net = StepMLP(3, [4, 2], activations, dropout, output)
    found = with_gradients(net, net.elements(PACKING))
    assert (found and [activation.kind for activation in found.activations]) == expected
    if found:
        assert [tuple(weight.shape) for weight in found.weights] == [(4, 3), (2, 4), (1, 2)] and len(found.biases) == 3
        assert (found.masking is not None) == (dropout > 0)
        assert found.dices == {i // 2: layer for i, layer in enumerate(net.layers) if isinstance(layer, Dice)}


def test_dropout_and_statistics_count_only_in_training():
    net = StepMLP(3, [4], "Dice", dropout=0.5)
    trained = with_gradients(net, net.elements(PACKING))
    assert [*trained.dices] == [0]
    assert trained.masking.layers[0][1] == 2**15 and torch.equal(trained.masking.elements, step_elements(PACKING))
    net.eval()
    assert net.elements(PACKING) is None and with_gradients(net, None).dices == {}
