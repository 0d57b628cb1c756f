"""Recurrences as torch operators: shapes without a run, values of the layers."""

import pytest
import torch

from model_zoo.DIEN.src import operators
from model_zoo.DIEN.src.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.kernels.reference import KINDS
from model_zoo.DIEN.src.layers.packing import Packing

LENGTHS = [4, 0, 2]


def made(kind: str, inputs: int) -> tuple[AttentionalGRU, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    layer = AttentionalGRU(inputs, 5, kind)
    return layer, (layer.weight_ih.detach(), layer.weight_hh.detach(), layer.bias.detach())


def test_extract() -> None:
    layer, weights = made("GRU", 3)
    padded, lengths = torch.randn(5, 3, 3), torch.tensor(LENGTHS)
    packing = Packing.of_lengths(lengths)
    got = torch.ops.dien.extract(padded, lengths, *weights)
    torch.testing.assert_close(got[packing.place, packing.row], layer(padded[packing.place, packing.row], packing)[0])
    assert got.shape == (5, 3, 5) and not got[lengths.max() :].any()
    torch.library.opcheck(operators.extract, (padded, lengths, *weights))


@pytest.mark.parametrize("lengths", [LENGTHS, [4], [0]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_evolve(kind: str, lengths: list[int]) -> None:
    layer, weights = made(kind, 5)
    rows = torch.arange(7) % len(lengths)
    states, attention = torch.randn(5, len(lengths), 5), torch.rand(5, 7)
    packing = Packing.of_lengths(torch.tensor(lengths)[rows])
    steps = states[packing.place, rows[packing.row]], packing, attention[packing.place, packing.row]
    arguments = states, torch.tensor(lengths), rows, attention, *weights, kind
    torch.testing.assert_close(torch.ops.dien.evolve(*arguments), layer(*steps)[1])
    torch.library.opcheck(operators.evolve, arguments)


def test_evolve_of_an_earlier_export() -> None:
    """A .pt2 file of `augru_sign: code` names the kind as it was called then."""
    _, weights = made("AUGRU", 5)
    for lengths, row in (([4, 2], [0, 1, 1]), ([4], [0, 0, 0])):
        states, attention = torch.randn(5, len(lengths), 5), torch.rand(5, 3)
        arguments = states, torch.tensor(lengths), torch.tensor(row), attention, *weights
        then, now, paper = (
            torch.ops.dien.evolve(*arguments, kind) for kind in ("AUGRU-code", "AUGRU-tensorflow", "AUGRU")
        )
        assert torch.equal(then, now) and not torch.allclose(now, paper)
