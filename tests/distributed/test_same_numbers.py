"""One model trained by several workers is the model that one process trains."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from made import DEFAULTS, TWO, features, make_batch, make_feature_map
from made_float64 import SETTINGS, assert_an_ulp_matters_little, assert_same, train
from made_training import training_options
from made_workers import together

from dien_fuxictr.distributed.batch_wide import _draws
from dien_fuxictr.experiment.process_group import SINGLE_PROCESS, ProcessGroup
from dien_fuxictr.experiment.training.weight_store import WeightStore
from dien_fuxictr.experiment.training_setup import prepare_training
from model_zoo.DIEN.src import DIEN

REGULARIZED = {"embedding_regularizer": "l1_l2(0.001,0.01)", "net_regularizer": 0.01}
STEPS = 60
FEW = 20
"""Every kind of batch three times."""


CASES: dict[str, dict[str, Any]] = {
    "dense": {},
    "dense, regularised": REGULARIZED,
    "sparse": {"embedding_updates": "sparse"},
    "sparse, regularised": {"embedding_updates": "sparse", **REGULARIZED},
    "regularised where looked up": {"embedding_regularization": "mini_batch_aware", "embedding_regularizer": 0.1},
    "two sequences": {**TWO, "aux_negatives": "popularity"},
    "mixed negatives, in torch": {"aux_negatives": "mixed", "recurrence_backend": "torch"},
    "dropout": {"attention_dropout": 0.5, "net_dropout": 0.2},
    "dropout, in torch": {"attention_dropout": 0.5, "net_dropout": 0.2, "recurrence_backend": "torch"},
    "weighed auxiliary loss of ReLU": {"aux_loss_weighting": "target_attention"},
}


LONG = ["dense", "sparse, regularised"]


@pytest.mark.parametrize(
    ("count", "steps", "cases"),
    [(2, STEPS, LONG), (3, FEW, [*CASES])],
    ids=["two", "three"],
)
def test_losses_and_weights_are_those_of_one_process(count, steps, cases, tmp_path, data_dir):
    every = together(
        count, tmp_path, lambda workers: [train(data_dir, steps, workers, **CASES[case]) for case in cases]
    )
    for place, case in enumerate(cases):
        alone = train(data_dir, steps, **CASES[case])
        for its in every:
            assert_same(its[place], alone, case)
            for name, value in every[0][place][1].items():
                assert torch.equal(its[place][1][name], value), (case, name)


@pytest.mark.parametrize("case", CASES)
def test_an_ulp_in_the_weights_matters_little(case, data_dir):
    steps = STEPS if case in LONG else FEW
    assert_an_ulp_matters_little(lambda seed: train(data_dir, steps, nudged=seed, **CASES[case]), case)


def gradients(
    workers: ProcessGroup, rows: int, sparse: bool
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the float32 gradients of one batch, and the running statistics.

    The first half of the batch has no behaviours.
    """
    torch.manual_seed(0)
    model = DIEN(make_feature_map(features()), **{**DEFAULTS, **SETTINGS, **REGULARIZED})
    prepare_training(WeightStore(model), training_options({"embedding_updates": "sparse" if sparse else "dense"}))
    batch = make_batch([0 if i < (rows + 1) // 2 else i % 7 for i in range(rows)])
    torch.manual_seed(1)
    shard = workers.shard(batch, rows)
    with shard.computed():
        loss = model.train().compute_loss(model(shard.batch), model.get_labels(shard.batch))
    shard.backward(loss, [*model.parameters()])
    if sparse:
        model.optimizer.finish_gradients()
    found = {name: p.grad.to_dense() for name, p in model.named_parameters() if p.grad is not None}
    return found, dict(model.named_buffers())


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_gradients_of_uneven_batches_in_float32(sparse, tmp_path):
    sizes = (128, 127, 5, 1)
    every = together(2, tmp_path, lambda workers: [gradients(workers, rows, sparse) for rows in sizes])
    for place, rows in enumerate(sizes):
        whole, statistics = gradients(SINGLE_PROCESS, rows, sparse)
        for its in every:
            found, its_statistics = its[place]
            assert found.keys() == whole.keys()
            error = torch.cat([(found[name] - whole[name]).flatten() for name in whole]).norm()
            assert error < 1e-6 * torch.cat([gradient.flatten() for gradient in whole.values()]).norm(), rows
            for name, value in statistics.items():
                torch.testing.assert_close(its_statistics[name], value, atol=1e-6, rtol=1e-5, msg=f"{rows}: {name}")


def dropped(workers: ProcessGroup) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Return a dropout mask, the common generator after it, and whether it moved.

    The last value is for dropout of an empty tensor.
    """
    torch.manual_seed(1)
    with workers.shard({"label": torch.ones(4)}, 4).computed():
        mask = F.dropout(torch.ones(100), 0.5)
        state = torch.get_rng_state()
        F.dropout(torch.ones(100), 0.0)
        return mask, state, torch.equal(state, torch.get_rng_state())


def test_each_worker_has_its_own_dropout(tmp_path):
    (mask, state, stays), (other, its_state, _) = together(2, tmp_path, dropped)
    assert not torch.equal(mask, other)
    assert set(mask.tolist()) == set(other.tolist()) == {0, 2}
    assert torch.equal(state, its_state) and stays


def test_workers_without_behaviours_keep_the_common_generator(tmp_path, data_dir):
    """Else the negatives of the next steps would differ."""

    def state(workers: ProcessGroup) -> torch.Tensor:
        train(data_dir, 20, workers, attention_dropout=0.5, net_dropout=0.5)
        return torch.get_rng_state()

    first, second = together(2, tmp_path, state)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("function", "more", "draws"),
    [
        (F.dropout, {}, True),
        (F.dropout, {"p": 0.0}, False),
        (F.dropout, {"training": False}, False),
        (F.feature_alpha_dropout, {"p": 0.1}, False),  # only if it is told to train
        (F.scaled_dot_product_attention, {}, False),
        (F.scaled_dot_product_attention, {"dropout_p": 0.1}, True),
    ],
)
def test_masks_are_drawn_as_the_arguments_say(function, more, draws):
    inputs = [torch.ones(0, 4)] * (3 if function is F.scaled_dot_product_attention else 1)
    assert _draws(function, inputs, more) == draws
    assert not _draws(F.scaled_dot_product_attention, [*inputs[:1] * 3, None, 0.0], {})


def test_attention_of_torch_is_masked_apart(tmp_path):
    def attended(workers: ProcessGroup) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(1)
        layer, x = torch.nn.MultiheadAttention(4, 2, dropout=0.5), torch.ones(1, 3, 4)
        with workers.shard({"label": torch.ones(4)}, 4).computed():
            return layer(x, x, x)[0].detach(), torch.get_rng_state()

    (one, state), (other, its_state) = together(2, tmp_path, attended)
    assert not torch.equal(one, other) and torch.equal(state, its_state)
