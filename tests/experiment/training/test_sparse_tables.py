"""Sparse updates of tables, compared with dense Adam and a transcription."""

import numpy as np
import pytest
import torch
from made_dot import ALL, BATCHES, OOV, PAD, Batch, D, Dot, V, dot_batch, make_dot, table_of, train

from dien_fuxictr.experiment.training.trainer import Trainer


def adam(w, m, v, g, step, lr):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    return w - lr * m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8), m, v


def by_hand(model: Dot, batches: list[Batch], lazy: bool, l1: float, l2: float, net: float, max_norm: float):
    """Return table, weights of the price and bias after training, in NumPy.

    `lazy` selects the rows that change.
    """
    layers = model.embedding_layer.embedding_layers
    lr = model.optimizer.param_groups[0]["lr"]
    weights = {
        "table": table_of(model),
        "price": layers["price"].weight.detach().numpy()[:, 0].copy(),
        "bias": np.zeros(1),
    }
    weights = {name: w.astype(np.float64) for name, w in weights.items()}
    m, v = ({name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    for step, batch in enumerate(batches, start=1):
        x, history, price, y = (batch[name].numpy() for name in ("item", "history", "price", "label"))
        w = weights["table"]
        pooled = w[history].sum(axis=1)
        logit = (w[x] * pooled).sum(axis=1) + price * weights["price"].sum() + weights["bias"]
        delta = (1 / (1 + np.exp(-logit)) - y) / len(y)
        g = {"table": np.zeros_like(w), "price": np.full(D, delta @ price), "bias": np.array([delta.sum()])}
        np.add.at(g["table"], x, delta[:, None] * pooled)
        np.add.at(g["table"], history, np.repeat((delta[:, None] * w[x])[:, None], 4, axis=1))
        g["table"][PAD] = 0
        rows = np.union1d(x, history) if lazy else np.arange(V)
        rows = rows[rows != PAD]
        g["table"][rows] += l2 * w[rows] + l1 * np.sign(w[rows])
        g["price"] += l2 * weights["price"] + l1 * np.sign(weights["price"])
        g["bias"] += net * weights["bias"]
        norm = np.sqrt(sum((x**2).sum() for x in g.values()))
        scale = min(1, max_norm / (norm + 1e-6))
        for name in weights:
            at = rows if name == "table" else slice(None)
            weights[name][at], m[name][at], v[name][at] = adam(
                weights[name][at], m[name][at], v[name][at], scale * g[name][at], step, lr
            )
    return weights


@pytest.mark.parametrize("regularizer", [(0, 0), (0, 0.1), (0.02, 0), (0.02, 0.1)], ids=str)
@pytest.mark.parametrize("max_norm", [1e9, 0.05])
@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
def test_equals_the_transcription_by_hand(sparse: bool, max_norm: float, regularizer: tuple[float, float]) -> None:
    l1, l2 = regularizer
    form = {(True, True): f"l1_l2({l1},{l2})", (True, False): f"l1({l1})"}.get((l1 > 0, l2 > 0), float(l2))
    model = make_dot(embedding_regularizer=form, net_regularizer=0.3)
    expected = by_hand(model, BATCHES, sparse, l1, l2, 0.3, max_norm)
    other = by_hand(model, BATCHES, not sparse, l1, l2, 0.3, max_norm)
    train(model, BATCHES, sparse, max_norm)
    np.testing.assert_allclose(table_of(model), expected["table"], rtol=1e-4, atol=1e-5)
    price = model.embedding_layer.embedding_layers["price"].weight.detach().numpy()[:, 0]
    np.testing.assert_allclose(price, expected["price"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.bias.detach().numpy(), expected["bias"], rtol=1e-4, atol=1e-5)
    assert abs(expected["table"] - other["table"]).max() > 0.01


@pytest.mark.parametrize("max_norm", [1e9, 0.05])
@pytest.mark.parametrize("scale", [1, 1e-6], ids=["", "gradients as small as eps"])
def test_equals_dense_adam_where_every_row_is_touched(max_norm: float, scale: float) -> None:
    batches = [dot_batch(seed, ALL) for seed in range(20)]
    models = []
    for sparse in (True, False):
        model = make_dot(learning_rate=0.05 * scale)
        with torch.no_grad():
            model.embedding_layer.embedding_layers["item"].weight.mul_(scale)
        models.append(train(model, batches, sparse, max_norm))
    for (name, own), dense in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(own, dense, rtol=1e-4, atol=1e-6 * scale, msg=name)


def test_untouched_rows_and_padding_do_not_change() -> None:
    model = train(make_dot(embedding_regularizer="l1_l2(0.1,0.1)"), BATCHES[:1], sparse=True)
    table = model.embedding_layer.embedding_layers["item"].weight
    state = model.optimizer.lazy.state[table]
    before = [x.clone() for x in (table.detach(), state["exp_avg"], state["exp_avg_sq"])]
    trainer = Trainer(model)
    trainer.train_step(BATCHES[1])
    for old, new in zip(before, (table.detach(), state["exp_avg"], state["exp_avg_sq"]), strict=True):
        moved = (old != new).any(dim=1).nonzero().flatten()
        assert moved.tolist() == [1, 2, OOV]  # an unknown id is a row like any other
    assert state["step"] == 2
    assert not table[PAD].any() and not state["exp_avg"][PAD].any()


def test_a_batch_without_an_id_is_a_step_that_moves_no_row() -> None:
    model = train(make_dot(embedding_regularizer=0.1), BATCHES[:1], sparse=True)
    before = table_of(model)
    empty = {**BATCHES[1], "item": torch.zeros(6, dtype=torch.long), "history": torch.zeros(6, 4, dtype=torch.long)}
    Trainer(model).train_step(empty)
    assert np.array_equal(table_of(model), before)


def test_learning_rate_falls_for_both_optimizers() -> None:
    model = train(make_dot(), BATCHES[:1], sparse=True)
    assert model.lr_decay() == pytest.approx(0.005)
    assert [group["lr"] for group in model.optimizer.param_groups] == pytest.approx([0.005, 0.005])
    before = table_of(model)
    for group in model.optimizer.param_groups:
        group["lr"] = 0.0
    Trainer(model).train_step(BATCHES[1])
    assert np.array_equal(table_of(model), before)


def test_other_optimizers_keep_what_is_no_table() -> None:
    model = train(make_dot(optimizer="SGD"), BATCHES, sparse=True)
    assert isinstance(model.optimizer.dense, torch.optim.SGD)
    assert len(model.optimizer.dense.param_groups[0]["params"]) == 2  # the price's weights and the bias
