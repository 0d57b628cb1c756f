"""Steps with sparse tables: the dense gradients, without tensors of table size."""

import pytest
import torch
from fuxictr.pytorch.models import BaseModel
from made import DEFAULTS, features, make_batch, make_feature_map
from made_models import MODELS, make_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dien_fuxictr.experiment.training.gradients import gradient_norm
from dien_fuxictr.experiment.training.optimizers import update_sparsely
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.weight_store import WeightStore
from model_zoo.DIEN.src import DIEN


def make_any(name: str, spec: dict | None = None, **keywords) -> BaseModel:
    if name != "DIEN":
        return make_model(name, spec, **keywords)
    torch.manual_seed(0)
    return DIEN(make_feature_map(spec or features()), **{**DEFAULTS, "aux_loss_alpha": 1, **keywords})


@pytest.mark.parametrize("name", [*MODELS, "DIEN"])
def test_gradients_and_their_norm_equal_the_dense_ones(name: str) -> None:
    batch = make_batch([3, 0, 6, 2, 5])
    gradients, norms = [], []
    for sparse in (True, False):
        model = make_any(name)
        if sparse:
            update_sparsely(WeightStore(model))
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


class LargeOperations(TorchDispatchMode):
    """Recorder of operations with a tensor of at least `size` elements.

    Operations that read or write given rows are left out.

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
def test_no_operation_of_a_step_has_the_size_of_a_table(name: str) -> None:
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
            update_sparsely(WeightStore(model))
        trainer = Trainer(model, max_gradient_norm=1e-3)
        model.train()
        with LargeOperations(ids) as seen:  # a table with one column has as many elements
            for seed in range(2):
                trainer.train_step(make_batch([3, 0, 6, 2], seed=seed))
        found.append(seen.found)
    assert found[0] == set()
    assert {"aten::embedding_dense_backward", "aten::linalg_vector_norm"} <= {op.split(".")[0] for op in found[1]}
