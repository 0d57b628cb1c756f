"""Masks of dropout: known answers of the generator, statistics, equal masks of all backends and processes."""

import math

import pytest
import torch
from made_recurrence import NARROW, compiled
from torch import nn

from model_zoo.DIEN.src.kernels import backends
from model_zoo.DIEN.src.kernels.cpu import dropout_masks as compiled_masks
from model_zoo.DIEN.src.layers import batch_scope, dropout
from model_zoo.DIEN.src.layers.dropout import Dropout, dropout_masks, replace_dropout, step_elements
from model_zoo.DIEN.src.layers.packing import Packing

ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0A4093822


@pytest.mark.parametrize(
    "counter,key,expected",
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES, ONES, ONES, ONES), (ONES << 32) + ONES, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (*PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_known_answers_of_the_generator(counter, key, expected):
    """The answers are those that the authors of Philox publish with their code (kat_vectors of Random123)."""
    words = dropout._philox([torch.tensor([word]) for word in counter], key)
    assert tuple(int(word) for word in words) == expected


def philox(counter, key):
    """Return the words of a counter, in Python's own numbers."""
    for _ in range(10):
        one, two = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(two >> 32) ^ counter[1] ^ key[0], two & ONES, (one >> 32) ^ counter[3] ^ key[1], one & ONES]
        key = [(key[0] + 0x9E3779B9) & ONES, (key[1] + 0xBB67AE85) & ONES]
    return counter


def test_bits_of_a_unit():
    elements, key, dropped = [5, (3 << 32) + 7, 2**62 - 1], 2**63 - 2, 20_000
    masks = dropout_masks(key, dropped, torch.tensor(elements), 21, torch.float64)
    for row, element in enumerate(elements):
        for unit in range(21):
            words = philox([element & ONES, element >> 32, unit // 8, 0], [key & ONES, key >> 32])
            bits = words[unit % 4] >> 16 * (unit // 4 % 2) & 0xFFFF
            assert masks[row, unit].item() == (0 if bits < dropped else 65536 / (65536 - dropped))


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows,units", [(0, 3), (1, 1), (31, 8), (32, 9), (33, 16), (200, 203)])
def test_compiled_masks_are_those_of_torch(rows, units, dtype):
    torch.manual_seed(rows)
    elements, key = torch.randint(2**62, (rows,)), dropout.draw_key()
    for dropped in (0, 1, 13_107, 65_535):
        expected = dropout_masks(key, dropped, elements, units, dtype)
        assert torch.equal(compiled_masks(key, dropped, elements, units, dtype), expected)


@compiled
@pytest.mark.parametrize("flags", NARROW)
def test_compiled_masks_with_narrow_vectors(monkeypatch, flags):
    monkeypatch.setenv("DIEN_CXXFLAGS", flags)
    elements = torch.arange(70) * 2**31
    for dtype in (torch.float32, torch.float64):
        expected = dropout_masks(1, 30_000, elements, 11, dtype)
        assert torch.equal(compiled_masks(1, 30_000, elements, 11, dtype), expected)


def within(count, number, chance):
    """Return whether a binomial count is within five standard deviations; beyond in one of two million."""
    return abs(count - number * chance) <= 5 * math.sqrt(number * chance * (1 - chance))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_statistics_of_masks(rate):
    """Rates, and pairs of units, of elements, of steps of a row and of keys."""
    torch.manual_seed(0)
    rows = (torch.arange(100) << 32).repeat_interleave(20) + torch.arange(20).repeat(100)
    dropped = round(rate * 65536)
    first, second = (
        dropout_masks(dropout.draw_key(), dropped, rows, 64, torch.float64).view(100, 20, 64) == 0 for _ in range(2)
    )
    chance = dropped / 65536
    assert within(first.sum().item(), first.numel(), chance)
    for unit in range(64):
        assert within(first[..., unit].sum().item(), 2000, chance), unit
    pairs = {
        "units": first[..., 1:] & first[..., :-1],
        "units of a counter and the next": first[..., 8:] & first[..., :-8],
        "halves of a word": first[..., 4:] & first[..., :-4],
        "steps": first[:, 1:] & first[:, :-1],
        "rows": first[1:] & first[:-1],
        "keys": first & second,
    }
    for name, both in pairs.items():
        # Neighbouring pairs share units: the variance is at most three times that of independent pairs.
        assert abs(both.sum().item() - both.numel() * chance**2) <= 5 * math.sqrt(3 * both.numel() * chance**2), name


@pytest.mark.parametrize("rate", [0.2, 0.999999])
def test_layer_keeps_the_mean(rate):
    torch.manual_seed(0)
    layer = Dropout(rate)
    x = torch.ones(500, 40, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    kept = 1 - layer.dropped / 65536
    assert set(y.unique().tolist()) <= {0, 1 / kept}
    assert within((y > 0).sum().item(), y.numel(), kept)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y)
    assert torch.equal(layer.eval()(x), x)


def test_masks_differ_by_layer_and_step_and_follow_the_seed():
    layer, x = Dropout(0.5), torch.ones(4, 40)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first) and torch.equal(layer(x), second)


@pytest.mark.parametrize("layer", [Dropout(0.0), Dropout(0.5).eval()])
def test_without_masks_the_generator_stays(layer):
    state, x = torch.get_rng_state(), torch.ones(2, 3)
    assert torch.equal(layer(x), x) and torch.equal(torch.get_rng_state(), state)


def test_masks_of_a_shard_are_those_of_its_rows():
    lengths, x = torch.tensor([3, 0, 2, 4]), torch.ones(4, 40)
    layer, packing = Dropout(0.5), Packing.of_lengths(lengths)

    def masks(packing, rows):
        torch.manual_seed(3)
        return layer(torch.ones(len(packing.row), 40), step_elements(packing, 3)), layer(x[:rows])

    steps, rows = masks(packing, 4)
    shard = batch_scope.FullBatch()
    shard.first_row = 2
    with batch_scope.use_shard(shard):
        its_steps, its_rows = masks(Packing.of_lengths(lengths[2:]), 2)
    assert torch.equal(its_steps, steps[3:]) and torch.equal(its_rows, rows[2:])


def test_elements_are_all_different():
    packing = Packing.of_lengths(torch.tensor([3, 0, 2]))
    every = (step_elements(packing, 4).unsqueeze(1) + torch.arange(4)).flatten()
    assert len(every.unique()) == 20


def test_every_dropout_of_a_module_is_replaced():
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.25), nn.Sequential(nn.Dropout(0.5)))
    replace_dropout(module, dropout_masks)
    assert [layer.p for layer in module.modules() if type(layer) is Dropout] == [0.25, 0.5]
    assert not any(type(layer) is nn.Dropout for layer in module.modules())


def test_every_backend_has_the_same_masks():
    arguments = 7, 20_000, torch.arange(40) << 32, 11, torch.float32
    expected = dropout_masks(*arguments)
    for backend in ("auto", "reference", "torch", "triton"):
        assert torch.equal(backends.dropout_masks(backend, *arguments), expected)
