"""`embedding_updates: sparse`: nothing in a training step has the size of an embedding table.

Tables get sparse gradients, regularised where they have rows, and a lazy Adam; all else is trained as configured.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from fuxictr.pytorch.layers import FeatureEmbeddingDict
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import get_regularizer
from torch import Tensor, nn
from torch.optim import Optimizer

from dien_fuxictr.common.errors import UserError

from ..row_blocks import RowBlocks
from .lazy_adam import LazyAdam


def update_sparsely(model: BaseModel) -> None:
    """Let each step update only the rows of the embedding tables that its batch looks up.

    Tables are the trained weights of `nn.Embedding`, however many features share one, or this worker's block of them.
    Frozen ones, the linear maps of numeric features, and weights tied to another layer stay as they are.

    Args:
        model: compiled, before its first step. Its optimizer, its regularisation and its tables' gradients change.
    """
    tables = embedding_tables(model)
    if not tables:
        return
    for module in model.modules():
        if isinstance(module, nn.Embedding) and any(module.weight is table for table in tables.values()):
            module.sparse = True
    embeddings = {id(p) for m in model.modules() if type(m) is FeatureEmbeddingDict for p in m.parameters()}
    blocks = {id(layer.weight): layer for layer in model.modules() if isinstance(layer, RowBlocks)}
    finish: dict[nn.Parameter, Callable[[Tensor], None]] = {}
    for name, table in tables.items():
        of_embedding = id(table) in embeddings  # as the zoo tells them apart
        terms = get_regularizer(model._embedding_regularizer if of_embedding else model._net_regularizer)
        finish[table] = partial(_finish_gradient, name, terms, blocks.get(id(table)))
    model.regularization_loss = partial(_regularization_of_the_rest, model.regularization_loss, [*tables.values()])
    model.optimizer = JointOptimizer(model.optimizer, finish)


class JointOptimizer:
    """A model's optimizer without its tables, and a lazy Adam for these, handled as one.

    Args:
        optimizer: has taken no step; the tables are taken out of it.
        tables: parameters with sparse gradients, each with what finishes its gradient after a backward pass.
    """

    def __init__(self, optimizer: Optimizer, tables: dict[nn.Parameter, Callable[[Tensor], None]]) -> None:
        self._tables = tables
        taken = set(map(id, tables))
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in taken]
        self.dense, self.lazy = optimizer, LazyAdam(tables, optimizer.param_groups[0]["lr"])

    def finish_gradients(self) -> None:
        """Between the backward pass and the step; the gradients are those of the whole batch.

        Where rows lie on several workers these get theirs here, and all workers call it.
        """
        for table, finish in self._tables.items():
            finish(table)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both: a learning rate that is set there is set."""
        return self.dense.param_groups + self.lazy.param_groups

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.dense.zero_grad()
        self.lazy.zero_grad()

    def step(self) -> None:
        """A step of both."""
        self.dense.step()
        self.lazy.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both, for `load_state_dict`."""
        return {"dense": self.dense.state_dict(), "lazy": self.lazy.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the states of both."""
        self.dense.load_state_dict(state["dense"])
        self.lazy.load_state_dict(state["lazy"])


def embedding_tables(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trained parameters, by name, that embeddings alone hold."""
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    others = (module for module in model.modules() if not isinstance(module, nn.Embedding))
    held = {id(module.weight) for module in embeddings} - {id(p) for m in others for p in m.parameters(recurse=False)}
    return {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) in held}


def _finish_gradient(name: str, terms: list[tuple[int, float]], blocks: RowBlocks | None, table: Tensor) -> None:
    """After a backward pass: one gradient for each row that was looked up, with its share of the regularisation.

    Args:
        name: of the table.
        terms: (p, λ) of the zoo's (λ / p) ||w||_p^p, p 1 or 2.
        blocks: whose weight the table is, where its rows lie on the workers.
        table: its gradient is complete, of all features that share it.

    Raises:
        UserError: the gradient is dense.
    """
    if blocks is not None and table.grad is None:
        blocks.gather_gradient()
    if table.grad is None:
        return
    if not table.grad.is_sparse:
        raise UserError(
            f"embedding_updates = 'sparse' does not fit the model: it reads the whole table {name}, "
            "not only the rows of a batch; choose dense"
        )
    gradient = table.grad.coalesce()
    for p, weight in terms:
        if weight:
            rows = table.detach().index_select(0, gradient.indices()[0])
            gradient.values().add_(rows if p == 2 else rows.sign_(), alpha=weight)
    table.grad = gradient


def _regularization_of_the_rest(regularization_loss: Any, tables: list[nn.Parameter]) -> Any:
    """The zoo's sum over all parameters that have a gradient, without the tables: it would read every row."""
    for table in tables:
        table.requires_grad_(False)
    try:
        return regularization_loss()
    finally:
        for table in tables:
            table.requires_grad_(True)
