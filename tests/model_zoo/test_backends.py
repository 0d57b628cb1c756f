"""Which code runs each operation."""

import pytest
import torch

from model_zoo.DIEN.src.attention import InterestAttention
from model_zoo.DIEN.src.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.auxiliary_loss import AuxiliaryLoss
from model_zoo.DIEN.src.kernels import backends
from model_zoo.DIEN.src.layers.packing import Packing

TABLES = ("RECURRENCE", "EVOLVE_CANDIDATES", "ATTENTION_SCORES", "CANDIDATE_SCORES", "NEXT_BEHAVIOUR_LOSS")
PACKING = Packing.of_lengths(torch.tensor([2, 1]))
H, E, A = torch.ones(3, 4), torch.ones(2, 4), torch.ones(3)


def run(table, backend):
    """Run the layer's method that looks up the table."""
    gru = AttentionalGRU(4, 4, backend=backend)
    attention = InterestAttention(4, 4, "din_attention", [3], "Sigmoid", backend=backend)
    loss = AuxiliaryLoss(4, 4, "net", [3], "Sigmoid", backend=backend)
    return {
        "RECURRENCE": lambda: gru(H, PACKING, A),
        "EVOLVE_CANDIDATES": lambda: gru.for_candidates(H, torch.ones(3, 2), E),
        "ATTENTION_SCORES": lambda: attention(H, E, PACKING),
        "CANDIDATE_SCORES": lambda: attention.for_candidates(H, E),
        "NEXT_BEHAVIOUR_LOSS": lambda: loss(H, H, PACKING, H.unsqueeze(1), torch.ones(3, 1, dtype=torch.bool)),
    }[table]()


@pytest.mark.parametrize("table", TABLES)
def test_every_backend_has_an_entry_that_runs_if_it_is_named(table, monkeypatch):
    operation = getattr(backends, table)
    assert set(operation) == set(backends.BACKENDS)
    for name in backends.BACKENDS:
        with monkeypatch.context() as patch:
            patch.setitem(operation, name, lambda *_: pytest.fail("it runs", pytrace=False))
            with pytest.raises(pytest.fail.Exception, match="it runs"):
                run(table, name)
            patch.setattr(backends, "automatic", lambda inputs, name=name: name)
            with pytest.raises(pytest.fail.Exception, match="it runs"):
                run(table, "auto")


@pytest.mark.parametrize("table", TABLES)
def test_an_unknown_backend_is_an_error(table):
    with pytest.raises(
        ValueError, match="backend='fast' is unknown; allowed: auto, reference, torch, compiled, triton"
    ):
        run(table, "fast")


@pytest.mark.parametrize(
    "dtype,device,fastest",
    [
        (torch.float32, "cpu", "compiled"),
        (torch.float64, "cpu", "compiled"),
        (torch.bfloat16, "cpu", "torch"),
        (torch.float32, "meta", "torch"),
    ],
)
def test_auto_is_the_fastest_that_there_is(dtype, device, fastest, monkeypatch, real_auto):
    inputs = torch.empty(0, dtype=dtype, device=device)
    for there in (True, False):
        monkeypatch.setattr(backends, "_has", lambda backend, there=there: there or backend == "torch")
        assert backends.automatic(inputs) == (fastest if there else "torch")
