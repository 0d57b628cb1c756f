"""Tables of features are updated sparsely; what else holds, ties or reads one."""

import json

import numpy as np
import pytest
import torch
from made_dot import BATCHES, OOV, D, Dot, V, dot_features, make_dot, table_of, train
from torch import nn

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.training.optimizers import update_sparsely
from dien_fuxictr.experiment.training.weight_store import WeightStore


def test_own_embeddings_are_regularised_like_the_network() -> None:
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
            update_sparsely(WeightStore(model))
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
    update_sparsely(WeightStore(model))
    assert model.optimizer is optimizer
