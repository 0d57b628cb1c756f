"""The compiled attention unit without gradients, compared with torch in float64.

Its activations include those that it does not train.
"""

import itertools

import pytest
import torch
from made_recurrence import NARROW, as_if_trained, compiled, pairwise

from model_zoo.DIEN.src.kernels import in_torch
from model_zoo.DIEN.src.kernels.cpu import attention_scores, native_step_mlp
from model_zoo.DIEN.src.kernels.cpu.inference import as_network
from model_zoo.DIEN.src.kernels.cpu.net import Elementwise
from model_zoo.DIEN.src.layers.packing import Packing
from model_zoo.DIEN.src.layers.step_mlp import StepMLP

pytestmark = compiled

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = (torch.float32, torch.float64)
LENGTHS = ((), (0, 0), (1,), (3, 0, 5, 1, 0), (0, 32, 0), (100, 31, 64, 2), (1,) * 33, (33,) * 5, (4, 0, 7) * 60)
LAYERS = ((5,), (80, 40), (100, 50), (9, 20, 3))
SIZES = (1, 7, 36, 37)
ACTIVATIONS = ("Dice", "PReLU", "Tanh", "mixed")
OUTPUTS = (None, "Sigmoid", "Dice", "PReLU")


def made_net(size, layers, activation, output, dropout=0.3):
    """Return a net in evaluation mode, with statistics and slopes of a trained net."""
    torch.manual_seed(0)
    names = list(itertools.islice(itertools.cycle(("Dice", "ReLU", "PReLU")), len(layers)))
    net = StepMLP(4 * size, layers, names if activation == "mixed" else activation, dropout, output).double().eval()
    return as_if_trained(net)


def made_inputs(lengths, size):
    """Return steps, rows and their packing; the tensors are not contiguous."""
    packing = Packing.of_lengths(torch.tensor(lengths, dtype=torch.int64))
    draw = [torch.randn(size, rows, dtype=torch.float64).T for rows in (len(packing.row), len(lengths))]
    return draw[0], packing, draw[1]


@torch.no_grad()
def check(lengths, size, layers, activation, output, dtype):
    net = made_net(size, layers, activation, output)
    states, packing, query = made_inputs(lengths, size)
    net = net.to(dtype)
    states, query = states.to(dtype), query.to(dtype)
    got = (
        native_step_mlp.attention_scores(states, packing, query, net),
        native_step_mlp.candidate_scores(states, query, net),
    )
    net, states, query = net.double(), states.double(), query.double()
    expected = (
        in_torch.attention_scores(states, packing, query, net),
        in_torch.candidate_scores(states, query, net),
    )
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape and a.dtype == dtype
        if b.numel():
            error, bound = (a.double() - b).abs().max().item(), TOLERANCE[dtype] * max(1, b.abs().max().item())
            assert error <= bound, f"{error} > {bound}"  # false for NaN, too


@pytest.fixture
def kernels_alone(monkeypatch):
    """Make a net fail if the kernels leave it to torch."""
    monkeypatch.setattr(native_step_mlp, "in_torch", None)


@pytest.mark.parametrize(
    "lengths,size,layers,activation,output,dtype",
    pairwise([*itertools.product(LENGTHS, SIZES, LAYERS, ACTIVATIONS, OUTPUTS, DTYPES)]),
)
def test_scores(lengths, size, layers, activation, output, dtype, kernels_alone):
    check(lengths, size, layers, activation, output, dtype)


@pytest.mark.parametrize("flags", NARROW)
def test_narrow_vectors(monkeypatch, flags, kernels_alone):
    monkeypatch.setenv("DIEN_CXXFLAGS", flags)
    for dtype, activation, output in zip(DTYPES * 2, ACTIVATIONS, OUTPUTS, strict=True):
        check((3, 0, 70), 7, (9, 5), activation, output, dtype)


@pytest.mark.parametrize("activation", ["Tanh", ["ReLU", "ELU"]])
def test_with_gradients_the_unit_is_torchs(activation):
    net = StepMLP(8, (4, 3), activation)
    states, packing, query = (x if isinstance(x, Packing) else x.float() for x in made_inputs((3, 40), 2))
    for mode in (True, False):
        net.train(mode)
        scores = native_step_mlp.attention_scores(states, packing, query, net)
        assert torch.equal(scores, in_torch.attention_scores(states, packing, query, net)) and scores.requires_grad


def test_dice_in_training_takes_the_statistics_of_its_batch():
    net = StepMLP(8, (4,), "Dice")
    states, packing, query = (x if isinstance(x, Packing) else x.float() for x in made_inputs((3, 40), 2))
    with torch.no_grad():
        before = net.layers[1].running_mean.clone()
        in_training = native_step_mlp.attention_scores(states, packing, query, net)
        assert not torch.equal(net.layers[1].running_mean, before)
        assert (in_training - native_step_mlp.attention_scores(states, packing, query, net.eval())).abs().max() > 1e-3


@pytest.mark.parametrize(
    "net", [StepMLP(8, (4,), "GELU"), StepMLP(8, (4,), "ReLU", output_activation="GELU"), StepMLP(8, (), "ReLU")]
)
def test_other_nets_are_torchs(net):
    assert as_network(net.eval().layers) is None


ARGUMENTS = {
    "states": torch.ones(4, 2),
    "offsets": torch.tensor([0, 1, 4]),
    "query": torch.ones(2, 2),
    "weights": [torch.ones(3, 8), torch.ones(1, 3)],
    "biases": [torch.ones(3), torch.ones(1)],
}


@pytest.mark.parametrize(
    "activation,message",
    [
        ([Elementwise("gelu"), Elementwise()], "activation='gelu' is unknown; allowed: none, sigmoid, relu, tanh"),
        ([Elementwise("prelu", torch.ones(2)), Elementwise()], r"slope\[0\] must be \(3,\), torch.float32 on a CPU"),
        ([Elementwise("prelu", torch.ones(3).double()), Elementwise()], r"slope\[0\] must be .* is .* torch.float64"),
        (
            [Elementwise("sigmoid"), Elementwise("dice", torch.ones(1), torch.ones(1), torch.ones(2))],
            r"shift\[1\] must be \(1,\)",
        ),
    ],
)
def test_refuses_what_is_no_activation(activation, message):
    with pytest.raises(ValueError, match=message):
        attention_scores(**ARGUMENTS, activation=activation)


def test_refuses_gradients():
    arguments = {**ARGUMENTS, "query": torch.ones(2, 2, requires_grad=True)}
    for activation in ([Elementwise("tanh"), Elementwise()], [Elementwise("relu"), Elementwise("sigmoid")]):
        kinds = ", ".join(each.kind for each in activation)
        with pytest.raises(ValueError, match=f"^activations {kinds} have no gradients; .* have: sigmoid, relu, prelu"):
            attention_scores(**arguments, activation=activation)
