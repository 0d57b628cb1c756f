"""The weights of a model whose tables are row shards.

Checkpoints are one file with all weights; a resume state is accompanied by shards.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.process_group import ProcessGroup
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.experiment.training.gradients import gradient_norm
from dien_fuxictr.experiment.training.optimizers import JointOptimizer
from dien_fuxictr.experiment.training.weight_store import WeightStore

from .row_shard import RowShard, all_names, row_shards
from .sharded_model import build_in_shards

_NAMES = {"0", "1"}
"""Names of the two folders: one that a state names, and one that is written."""
_ROWS = 1 << 16
"""Number of rows of a table that the leader holds at a time, to write them."""


class ShardedWeightStore(WeightStore):
    """The weights of a model of `build_in_shards`.

    `<expid>.model` is the plain state dict that any other run has, written and read some rows at a time. Beside
    `<expid>.resume` stands a folder of shards, one per process: its rows of each table, their moments and averages.

    Args:
        model: compiled.
        group: the processes that have the tables.

    Raises:
        UserError: safetensors is not installed.
    """

    is_sharded = True

    def __init__(self, model: BaseModel, group: ProcessGroup) -> None:
        from . import shard_files  # torch.distributed.checkpoint takes a second to import

        shard_files.require_safetensors()
        self._files = shard_files
        super().__init__(model, group)
        self._shards = row_shards(model)
        self._by_weight = {id(shard.weight): shard for shard in self._shards.values()}
        self._last = ""

    def is_shard(self, parameter: Tensor) -> bool:
        """Return whether it is the weight of a row shard."""
        return id(parameter) in self._by_weight

    def complete_gradient(self, table: nn.Parameter) -> None:
        """Set a shard's gradient to the sum over all processes; they call it together."""
        if self.is_shard(table) and table.grad is None:
            self._by_weight[id(table)].gather_gradient()

    def gradient_norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return the norm over the rows of all processes."""
        shards = [parameter for parameter in parameters if self.is_shard(parameter)]
        norm = gradient_norm([parameter for parameter in parameters if not self.is_shard(parameter)])
        if not shards:
            return norm
        squares = self.group.sum(gradient_norm(shards).double().square().to(shards[0].device))
        return (norm.double().square() + squares).sqrt()

    @torch.no_grad()
    def squared_norm(self, tables: Sequence[Tensor]) -> float:
        """Return the squared norm over the rows of all processes, which call it together."""
        shards = [torch.linalg.vector_norm(table).double().square() for table in tables if self.is_shard(table)]
        whole = super().squared_norm([table for table in tables if not self.is_shard(table)])
        return whole + (float(self.group.sum(torch.stack(shards).sum())) if shards else 0.0)

    def write_weights(self, path: Path) -> None:
        """Write all weights to one file.

        The processes send their rows to the leader, which collects them in a file.
        """
        files = {name: path.with_name(f".{path.name}.{i}.rows") for i, name in enumerate(self._shards)}
        try:
            for name, shard in self._shards.items():
                self._collect(shard, files[name])
            if self.group.leads:
                mapped = {id(shard): _mapped(shard, files[name]) for name, shard in self._shards.items()}
                tables = {name: mapped[id(shard)] for name, shard in all_names(self.model)}
                checkpoint.save({**self.model.state_dict(), **tables}, path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        finally:
            for file in files.values() if self.group.leads else ():
                file.unlink(missing_ok=True)
        self.group.wait()

    def read_weights(self, path: Path) -> None:
        """Load the file; each process reads its own rows."""
        checkpoint.require_intact(path)
        weights = checkpoint.load(path, mapped=True)
        found = {name: weights.pop(name, None) for name, _ in all_names(self.model)}
        for name, shard in all_names(self.model):
            whole = found[name]
            if not isinstance(whole, Tensor) or whole.shape != shard.shape:
                is_there = tuple(whole.shape) if isinstance(whole, Tensor) else "missing"
                raise UserError(
                    f"checkpoint {path} does not match the model: {name} is {is_there}, the model has {shard.shape}"
                )
        checkpoint.fit_weights(self.model, weights, path)
        for name, shard in self._shards.items():
            for ids in _ids(shard):
                shard.take(ids, found[name][int(ids[0]) : int(ids[-1]) + 1])

    def write_state(self, state: Path, averages: Mapping[str, Tensor]) -> str:
        """Write a folder of shards; returns its number."""
        self._last = "1" if self._last == "0" else "0"
        if self.group.leads:
            shutil.rmtree(_folder(state, self._last), ignore_errors=True)  # left by a run that was killed while writing
        self._files.write(self._rows(averages), _folder(state, self._last), self.group)
        return self._last

    def read_state(self, state: Path, name: str, averages: Mapping[str, Tensor]) -> None:
        """Read a folder of shards; any number of processes may have written it."""
        if name not in _NAMES:
            raise UserError(f"{state} is damaged: folder {name!r} of its shards must be one of {', '.join(_NAMES)}")
        self._files.read(self._rows(averages), _folder(state, name), self.group)
        self._last = name

    def remove(self, state: Path, kept: str = "") -> None:
        """Remove folders of shards."""
        for name in _NAMES - {kept}:
            shutil.rmtree(_folder(state, name), ignore_errors=True)

    def _collect(self, shard: RowShard, file: Path) -> None:
        """Let the leader write the rows of all ids to a file, in their order."""
        with torch.no_grad():
            if not self.group.leads:
                for ids in _ids(shard):
                    shard(ids[:0])
                return
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "wb") as rows:
                for ids in _ids(shard):
                    rows.write(shard(ids.to(shard.weight.device)).cpu().numpy().tobytes())

    def _rows(self, averages: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, tuple[int, int]]]:
        """Return the content of this process's file of shards: rows and table shapes."""
        optimizer = self.model.optimizer
        moments = optimizer.lazy.state if isinstance(optimizer, JointOptimizer) else {}
        every = {}
        for name, shard in self._shards.items():
            parts = {"weight": shard.weight.detach(), **moments.get(shard.weight, {}), "average": averages.get(name)}
            for part, rows in parts.items():
                if isinstance(rows, Tensor):
                    every[f"{name}/{part}"] = rows, shard.shape
        return every


def build_store(build: Callable[[], BaseModel], group: ProcessGroup) -> WeightStore:
    """Build a model whose embedding tables are row shards, and its weight store."""
    return store_of(build_in_shards(build, group), group)


def store_of(model: BaseModel, group: ProcessGroup) -> WeightStore:
    """Return the store of a model's weights, whether it has row shards or not."""
    return (ShardedWeightStore if row_shards(model) else WeightStore)(model=model, group=group)


def _folder(state: Path, name: str) -> Path:
    return state.with_name(f"{state.name}.{name}")


def _ids(shard: RowShard) -> Iterator[Tensor]:
    """Yield all ids, some at a time."""
    for start in range(0, shard.num_embeddings, _ROWS):
        yield torch.arange(start, min(start + _ROWS, shard.num_embeddings))


def _mapped(shard: RowShard, file: Path) -> Tensor:
    size = shard.shape[0] * shard.shape[1]
    return torch.from_file(str(file), shared=False, size=size, dtype=shard.weight.dtype).view(shard.shape)
