"""Sparse updates of embedding tables: against dense Adam, a transcription by hand, and what a step may touch."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from fuxictr.pytorch.models import BaseModel
from made import DEFAULTS, features, make_batch, make_feature_map
from made_models import MODELS, make_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.training.gradients import gradient_norm
from dien_fuxictr.experiment.training.sparse_tables import update_sparsely
from dien_fuxictr.experiment.training.trainer import Trainer

V, D = 12, 3
PAD, OOV = 0, V - 1
Batch = dict[str, Tensor]


class Dot(BaseModel):
    """logit = e_item · Σ_t e_history,t + price Σ a + b: its gradients are short by hand."""

    def __init__(self, feature_map, embedding_dim=D, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbeddingDict(
            feature_map, embedding_dim, embedding_initializer="partial(nn.init.normal_, std=0.5)"
        )
        self.bias = nn.Parameter(torch.zeros(1))
        self.compile(kwargs["optimizer"], kwargs["loss"], kwargs["learning_rate"])
        self.reset_parameters()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs))
        logits = (e["item"] * e["history"].sum(dim=1)).sum(-1) + e["price"].sum(-1) + self.bias
        return {"y_pred": logits.sigmoid().unsqueeze(-1)}


def dot_features(**item) -> dict[str, dict]:
    ids = {"source": "", "padding_idx": 0, "vocab_size": V, "oov_idx": OOV}
    return {
        "item": {**ids, "type": "categorical", **item},
        "price": {"source": "", "type": "numeric"},
        "history": {**ids, "type": "sequence", "share_embedding": "item", "max_len": 4},
    }


def make_dot(model_class: type[Dot] = Dot, spec: dict | None = None, data_dir="", **keywords) -> Dot:
    torch.manual_seed(0)
    settings = {**DEFAULTS, "embedding_dim": D, "learning_rate": 0.05, **keywords}
    return model_class(make_feature_map(spec or dot_features(), data_dir), **settings)


def dot_batch(seed: int, ids: list[int], rows: int = 6) -> Batch:
    """Items and histories of these ids, each of them at least once."""
    rng = np.random.default_rng(seed)
    cells = np.concatenate([ids, rng.choice([*ids, PAD], rows * 5 - len(ids))])
    rng.shuffle(cells)
    return {
        "item": torch.from_numpy(cells[:rows]),
        "history": torch.from_numpy(cells[rows:].reshape(rows, 4)),
        "price": torch.from_numpy(rng.random(rows)),
        "label": torch.from_numpy(rng.integers(0, 2, rows)).float(),
    }


ALL = list(range(1, V))
BATCHES = [
    dot_batch(seed, ids)
    for seed, ids in enumerate([ALL, [1, 2, OOV], [3, 4, 5], [1, 2, 3, OOV], [2], [6, 7, 8, 9], ALL, [5, 6]])
]


def train(model: BaseModel, batches: list[Batch], sparse: bool, max_norm: float = 1e9) -> BaseModel:
    if sparse:
        update_sparsely(model)
    trainer = Trainer(model, max_norm)
    model.train()
    for batch in batches:
        trainer.train_step(batch)
    return model


def table_of(model: BaseModel) -> np.ndarray:
    return model.embedding_layer.embedding_layers["item"].weight.detach().numpy().copy()


def adam(w, m, v, g, step, lr):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    return w - lr * m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8), m, v


def by_hand(model: Dot, batches: list[Batch], lazy: bool, l1: float, l2: float, net: float, max_norm: float):
    """The table, the weights of the price and the bias after training, in NumPy; `lazy` picks which rows move."""
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


def test_untouched_rows_keep_weights_and_moments_and_the_padding_row_is_zero() -> None:
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


@pytest.mark.parametrize("name", [*MODELS, "DIEN"])
def test_gradients_and_their_norm_equal_the_dense_ones(name: str, make_any: Callable[..., BaseModel]) -> None:
    batch = make_batch([3, 0, 6, 2, 5])
    gradients, norms = [], []
    for sparse in (True, False):
        model = make_any(name)
        if sparse:
            update_sparsely(model)
        torch.manual_seed(1)
        model.train()
        model.compute_loss(model(batch), model.get_labels(batch)).backward()
        if sparse:
            model.optimizer.finish_gradients()
        norms.append(gradient_norm([*model.parameters()]).item())
        gradients.append({key: p.grad.to_dense() for key, p in model.named_parameters() if p.grad is not None})
        tables = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.is_sparse}
        of_ids = {key for key in gradients[0] if "embedding_layers" in key and "price" not in key}
        assert tables == (of_ids if sparse else set())
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.fixture
def make_any() -> Callable[..., BaseModel]:
    from model_zoo.DIEN.src import DIEN

    def make(name: str, spec: dict | None = None, **keywords) -> BaseModel:
        if name != "DIEN":
            return make_model(name, spec, **keywords)
        torch.manual_seed(0)
        return DIEN(make_feature_map(spec or features()), **{**DEFAULTS, "aux_loss_alpha": 1, **keywords})

    return make


class LargeOperations(TorchDispatchMode):
    """Notes each operation that has a tensor of at least `size` elements, but for those that read or write given rows.

    Attributes:
        found: names of the operations.
    """

    BY_ROW = ("aten::embedding", "aten::index_select", "aten::index_copy_", "aten::detach")

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.found = size, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        sizes = [x._values().numel() if x.is_sparse else x.numel() for x in tensors]
        if max(sizes, default=0) >= self.size and func.name().split(".")[0] not in self.BY_ROW:
            self.found.add(func.name())
        return result


@pytest.mark.parametrize("name", [*MODELS, "DIEN"])
def test_no_operation_of_a_step_has_the_size_of_a_table(name: str, make_any: Callable[..., BaseModel]) -> None:
    ids = 100_000
    spec = make_any(name).feature_map.features
    for feature in spec.values():
        if "vocab_size" in feature:
            feature["vocab_size"] = ids
    form = "l1_l2(1e-3,1e-2)"
    regularizer = {"regularizer": form} if name == "FM" else {"embedding_regularizer": form}
    found = []
    for sparse in (True, False):
        model = make_any(name, spec, **regularizer)
        if sparse:
            update_sparsely(model)
        trainer = Trainer(model, max_gradient_norm=1e-3)
        model.train()
        with LargeOperations(ids) as seen:  # a table of one column has as many elements
            for seed in range(2):
                trainer.train_step(make_batch([3, 0, 6, 2], seed=seed))
        found.append(seen.found)
    assert found[0] == set()
    assert {"aten::embedding_dense_backward", "aten::linalg_vector_norm"} <= {op.split(".")[0] for op in found[1]}


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


def test_embeddings_of_the_models_own_are_regularised_as_its_net() -> None:
    class Positions(Dot):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.positions = nn.Embedding(4, 1)
            self.compile(kwargs["optimizer"], kwargs["loss"], kwargs["learning_rate"])

        def forward(self, inputs):
            result = super().forward(inputs)
            return {"y_pred": result["y_pred"] * self.positions(torch.tensor([1, 2])).sum().sigmoid()}

    gradients = []
    for sparse in (True, False):
        model = make_dot(Positions, embedding_regularizer=0.1, net_regularizer="l2(0.5)")
        if sparse:
            update_sparsely(model)
        model.compute_loss(model(BATCHES[0]), model.get_labels(BATCHES[0])).backward()
        if sparse:
            model.optimizer.finish_gradients()
        gradients.append(model.positions.weight.grad.to_dense())
    torch.testing.assert_close(gradients[0][1:3], gradients[1][1:3])
    assert not gradients[0][[0, 3]].any() and gradients[1][[0, 3]].any()


class Tied(Dot):
    """Scores with the table itself, too: as a layer's weight, or read whole."""

    tied = True

    def __init__(self, feature_map, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.output = nn.Linear(D, V, bias=False)
        if self.tied:
            self.output.weight = self.embedding_layer.embedding_layers["item"].weight

    def forward(self, inputs):
        table = self.embedding_layer.embedding_layers["item"].weight
        all_items = self.output(table[:1] + 1) if self.tied else (table[:1] + 1) @ table.T
        return {"y_pred": super().forward(inputs)["y_pred"] * all_items.mean().sigmoid()}


def test_a_table_tied_to_another_layer_stays_dense() -> None:
    models = [train(make_dot(Tied, embedding_regularizer=0.1), BATCHES, sparse) for sparse in (True, False)]
    assert np.array_equal(table_of(models[0]), table_of(models[1]))


def test_a_table_that_is_read_whole_is_a_clear_error() -> None:
    class Whole(Tied):
        tied = False

    with pytest.raises(UserError, match=r"reads the whole table embedding_layer.embedding_layers.item.weight"):
        train(make_dot(Whole), BATCHES, sparse=True)


def test_tables_of_two_embeddings_tied_to_each_other_are_one() -> None:
    class Pair(Dot):
        def __init__(self, feature_map, **kwargs):
            super().__init__(feature_map, **kwargs)
            self.embedding_layer.embedding_layers["history"] = nn.Embedding(V, D, padding_idx=0)
            self.embedding_layer.embedding_layers["history"].weight = table_parameter(self)

    def table_parameter(model):
        return model.embedding_layer.embedding_layers["item"].weight

    tied = train(make_dot(Pair, embedding_regularizer=0.1), BATCHES, sparse=True)
    assert np.array_equal(table_of(tied), table_of(train(make_dot(embedding_regularizer=0.1), BATCHES, sparse=True)))


@pytest.mark.parametrize("usage", ["init", "sum"])
@pytest.mark.parametrize("freeze", [True, False])
def test_pretrained_tables(tmp_path, freeze: bool, usage: str) -> None:
    """Frozen ones stay as they are, others are updated sparsely."""
    keys = [f"i{i}" for i in range(V)]
    np.savez(tmp_path / "pretrained.npz", key=np.array(keys), value=np.random.default_rng(0).random((V, D)))
    vocabulary = {key: i for i, key in enumerate(keys)}
    (tmp_path / "feature_vocab.json").write_text(json.dumps({"item": vocabulary, "history": vocabulary}))
    spec = dot_features(pretrained_emb="pretrained.npz", freeze_emb=freeze, pretrain_dim=D, pretrain_usage=usage)
    model = make_dot(spec=spec, data_dir=tmp_path, embedding_regularizer=0.1)
    layer = model.embedding_layer.embedding_layers["item"]
    before = layer.pretrain_embedding.weight.detach().clone()
    train(model, BATCHES[1:2], sparse=True)
    moved = (layer.pretrain_embedding.weight != before).any(dim=1).nonzero().flatten()
    assert moved.tolist() == ([] if freeze else [1, 2, OOV])
    assert layer.pretrain_embedding.weight.requires_grad == (not freeze)
    if usage == "sum":
        assert layer.id_embedding.weight.grad.is_sparse


def test_a_model_without_trained_tables_is_left_alone() -> None:
    model = make_dot()
    model.embedding_layer.embedding_layers["item"].weight.requires_grad_(False)
    optimizer = model.optimizer
    update_sparsely(model)
    assert model.optimizer is optimizer
