"""Interface of training to a model's weights: gradients, norms and files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from ..process_group import SINGLE_PROCESS, ProcessGroup
from . import checkpoint
from .gradients import gradient_norm


class WeightStore:
    """The weights of a model that each process holds whole; the leader writes them.

    Training knows embedding tables by this interface alone. Where each process has some rows of each table, another
    implementation does the same: `dien_fuxictr/distributed/row_shards/`.

    Args:
        model: compiled.
        group: the processes that train it.

    Attributes:
        is_sharded: whether tables have row shards.
    """

    is_sharded = False

    def __init__(self, model: BaseModel, group: ProcessGroup = SINGLE_PROCESS) -> None:
        self.model = model
        self.group = group

    @property
    def is_collective(self) -> bool:
        """Return whether using weights needs all processes at once.

        This applies to look-ups, reading and writing.
        """
        return self.is_sharded and self.group.count > 1

    def is_shard(self, parameter: Tensor) -> bool:
        """Return whether a parameter has only some rows of a table.

        Other processes have the rest.
        """
        return False

    def complete_gradient(self, table: nn.Parameter) -> None:
        """Set a table's gradient to the sum over all processes.

        All processes call it after a backward pass. A whole table has this gradient from `BatchShard.backward`.
        """

    def gradient_norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return the total norm of the gradients, a scalar on the device.

        Sparse gradients are coalesced.
        """
        return gradient_norm(parameters)

    @torch.no_grad()
    def squared_norm(self, tables: Sequence[Tensor]) -> float:
        """Return the squared Frobenius norm of all tables; all processes call it."""
        return float(sum(float(torch.linalg.vector_norm(table).double().square()) for table in tables))

    def write_weights(self, path: Path) -> None:
        """Write all weights, a plain state dict; the other processes may read it then."""
        if self.group.leads:
            checkpoint.save(self.model.state_dict(), path)
        self.group.wait()

    def read_weights(self, path: Path) -> None:
        """Load weights of `write_weights`; raise UserError as `checkpoint.load_weights`."""
        checkpoint.load_weights(self.model, path)

    def write_state(self, state: Path, averages: Mapping[str, Tensor]) -> str:
        """Write the weights and moments that the resume state lacks.

        Args:
            state: file of the resume state.
            averages: result of `Callback.averages_of_shards`, which the resume state lacks too.

        Returns:
            The name by which `read_state` and `remove` know it; empty where there is nothing.
        """
        return ""

    def read_state(self, state: Path, name: str, averages: Mapping[str, Tensor]) -> None:
        """Load, in place, the state that was written under a name.

        Raises:
            UserError: it is missing or does not match.
        """

    def remove(self, state: Path, kept: str = "") -> None:
        """Remove the files that belong to a resume state, except those to keep."""
