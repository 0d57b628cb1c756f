"""Adam for embedding tables: only the rows of a batch are read and written."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..row_blocks import Block


class LazyAdam(Optimizer):
    """Adam on the rows that have a gradient; all others keep their weights and their moments.

    With g the row's gradient and t the table's number of steps, whether they touched the row or not:
        m = β_1 m + (1 - β_1) g,  v = β_2 v + (1 - β_2) g²
        w = w - lr m / (1 - β_1^t) / (sqrt(v / (1 - β_2^t)) + ε)
    Where every step touches every row, this is `torch.optim.Adam`.

    `torch.optim.SparseAdam` is not: it adds ε to sqrt(v) instead, as if ε were thirty times as large in the first step,
    and tables that start near zero have gradients no larger than that. Its sparse sums also take four times as long.

    Args:
        tables: (V, D) each, with sparse gradients.
        lr: learning rate.
        betas: β_1, β_2. eps: ε.
    """

    def __init__(
        self, tables: Iterable[nn.Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(tables, {"lr": lr, "betas": betas, "eps": eps})
        for table in self.param_groups[0]["params"]:  # now, so that no step has the size of a table
            self.state[table] = {"step": 0, "exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table)}

    def state_dict(self) -> dict[str, Any]:
        """The state; of a `Block` without the moments, which are other ones on each worker."""
        state = super().state_dict()
        for number, table in enumerate(self.param_groups[0]["params"]):
            if isinstance(table, Block):
                state["state"][number] = {"step": self.state[table]["step"]}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state; blocks keep their moments."""
        moments = {table: {**self.state[table]} for table in self.state if isinstance(table, Block)}
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
