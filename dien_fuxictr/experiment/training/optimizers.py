"""Set up a model's optimizer: fused steps, and `embedding_updates: sparse`.

With sparse updates no operation of a training step has the size of an embedding table. Tables get sparse gradients,
regularised in their non-zero rows, and a lazy Adam; other parameters are trained as configured.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from fuxictr.pytorch.torch_utils import get_regularizer
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from dien_fuxictr.common.errors import UserError

from .weight_store import WeightStore


def update_sparsely(store: WeightStore) -> None:
    """Make each step update only the embedding rows that its batch looks up.

    Tables are the trained weights of `nn.Embedding`, whatever the number of features that share one, or this process's
    rows of them. Frozen tables, the linear maps of numeric features, and weights tied to another layer are not changed.

    Args:
        store: store of a compiled model, before its first step. The model's optimizer, its regularisation and its
            tables' gradients change.
    """
    model = store.model
    tables = embedding_tables(model)
    if not tables:
        return
    for module in model.modules():
        if isinstance(module, nn.Embedding) and any(module.weight is table for table in tables.values()):
            module.sparse = True
    embeddings = {id(p) for m in model.modules() if type(m) is FeatureEmbeddingDict for p in m.parameters()}
    finish: dict[nn.Parameter, Callable[[nn.Parameter], None]] = {}
    for name, table in tables.items():
        of_embedding = id(table) in embeddings  # the zoo's criterion for embeddings
        terms = get_regularizer(model._embedding_regularizer if of_embedding else model._net_regularizer)
        finish[table] = partial(_finish_gradient, name, terms, store)
    model.regularization_loss = partial(_regularization_of_the_rest, model.regularization_loss, [*tables.values()])
    model.optimizer = JointOptimizer(
        optimizer=model.optimizer, tables=finish, shards=[table for table in finish if store.is_shard(table)]
    )


class JointOptimizer:
    """A model's optimizer without its tables, combined with a lazy Adam for them.

    Args:
        optimizer: has taken no step; the tables are removed from it.
        tables: parameters with sparse gradients -> function that completes the gradient after a backward pass.
        shards: see `LazyAdam`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        tables: dict[nn.Parameter, Callable[[nn.Parameter], None]],
        shards: Iterable[nn.Parameter] = (),
    ) -> None:
        self._tables = tables
        taken = set(map(id, tables))
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in taken]
        self.dense, self.lazy = optimizer, LazyAdam(tables=tables, lr=optimizer.param_groups[0]["lr"], shards=shards)

    def finish_gradients(self) -> None:
        """Complete the gradients between backward pass and step.

        They are then those of the whole batch. Shards of tables get theirs here, and all processes call it.
        """
        for table, finish in self._tables.items():
            finish(table)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return the groups of both optimizers, whose learning rates can be set."""
        return self.dense.param_groups + self.lazy.param_groups

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.dense.zero_grad()
        self.lazy.zero_grad()

    def step(self) -> None:
        """Take a step of both optimizers."""
        self.dense.step()
        self.lazy.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both optimizers, for `load_state_dict`."""
        return {"dense": self.dense.state_dict(), "lazy": self.lazy.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the states of both optimizers."""
        self.dense.load_state_dict(state["dense"])
        self.lazy.load_state_dict(state["lazy"])


class LazyAdam(Optimizer):
    """Adam on rows with a gradient; other rows keep their weights and moments.

    With g the row's gradient and t the table's number of steps, whether they touched the row or not:

            m = β_1 m + (1 - β_1) g,  v = β_2 v + (1 - β_2) g²
            w = w - lr m / (1 - β_1^t) / (sqrt(v / (1 - β_2^t)) + ε)

    If every step touches every row, this is `torch.optim.Adam`. `torch.optim.SparseAdam` is not: it adds ε to sqrt(v)
    instead, as if ε were thirty times as large in the first step, and gradients of tables that start near zero are no
    larger than that. Its sparse sums also take four times as long.

    Args:
        tables: (V, D) each, with sparse gradients.
        lr: learning rate.
        betas: β_1, β_2.
        eps: ε.
        shards: tables whose moments are left out of the state dict, since each process has those of its rows.
    """

    def __init__(
        self,
        tables: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        shards: Iterable[nn.Parameter] = (),
    ) -> None:
        self._shards = set(shards)
        super().__init__(tables, {"lr": lr, "betas": betas, "eps": eps})
        for table in self.param_groups[0]["params"]:  # created here, so that no step has the size of a table
            self.state[table] = {"step": 0, "exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table)}

    def state_dict(self) -> dict[str, Any]:
        """Return the state, without the moments of shards."""
        state = super().state_dict()
        for number, table in enumerate(self.param_groups[0]["params"]):
            if table in self._shards:
                state["state"][number] = {"step": self.state[table]["step"]}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state; shards keep their moments."""
        moments = {table: {**self.state[table]} for table in self._shards}
        super().load_state_dict(state_dict)
        for table, kept in moments.items():
            self.state[table] = {**kept, **self.state[table]}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move the rows that have a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for table in group["params"]:
                if table.grad is not None:
                    self._move(table, group["lr"], beta1, beta2, group["eps"])

    def _move(self, table: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> None:
        assert table.grad is not None
        gradient = table.grad.coalesce()  # a row that was looked up twice has one gradient
        rows, g = gradient.indices()[0], gradient.values()
        state = self.state[table]
        state["step"] += 1
        mean = state["exp_avg"].index_select(0, rows).lerp_(g, 1 - beta1)
        square = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(g, g, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        root = square.sqrt_().div_((1 - beta2 ** state["step"]) ** 0.5).add_(eps)
        moved = table.index_select(0, rows).addcdiv_(mean, root, value=-lr / (1 - beta1 ** state["step"]))
        table.index_copy_(0, rows, moved)


def fuse(optimizer: Optimizer | JointOptimizer) -> None:
    """Make Adam and AdamW update all parameters in one call.

    Weights only differ by rounding. Other optimizers are not changed: Adagrad has already created its state, and SGD
    may get sparse gradients.

    Args:
        optimizer: has taken no step. A state that it loads later has its own choice.
    """
    dense = optimizer.dense if isinstance(optimizer, JointOptimizer) else optimizer
    if isinstance(dense, Adam):
        for group in dense.param_groups:
            group["fused"] = all(torch.is_floating_point(parameter) for parameter in group["params"])


def embedding_tables(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trained parameters, by name, that only embeddings use."""
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    others = (module for module in model.modules() if not isinstance(module, nn.Embedding))
    held = {id(module.weight) for module in embeddings} - {id(p) for m in others for p in m.parameters(recurse=False)}
    return {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) in held}


def _finish_gradient(name: str, terms: list[tuple[int, float]], store: WeightStore, table: nn.Parameter) -> None:
    """Turn a table's gradient into one per looked-up row, with its regularisation.

    It is called after a backward pass.

    Args:
        name: name of the table.
        terms: (p, λ) of the zoo's (λ / p) ||w||_p^p, p 1 or 2.
        store: store of the model's weights.
        table: its gradient is complete, over all features that share it.

    Raises:
        UserError: the gradient is dense.
    """
    store.complete_gradient(table)
    if table.grad is None:
        return
    if not table.grad.is_sparse:
        raise UserError(
            f"embedding_updates = 'sparse' cannot be combined with this model: it reads the whole table {name}, "
            "not only the rows of a batch; choose dense"
        )
    gradient = table.grad.coalesce()
    for p, weight in terms:
        if weight:
            rows = table.detach().index_select(0, gradient.indices()[0])
            gradient.values().add_(rows if p == 2 else rows.sign_(), alpha=weight)
    table.grad = gradient


def _regularization_of_the_rest(regularization_loss: Any, tables: list[nn.Parameter]) -> Any:
    """Return the zoo's regularisation of all parameters except the tables.

    For a table it would read every row.
    """
    for table in tables:
        table.requires_grad_(False)
    try:
        return regularization_loss()
    finally:
        for table in tables:
            table.requires_grad_(True)
