"""Tables whose rows lie on the workers: one file of all weights, and shards beside a resume state."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor

from dien_fuxictr.common.errors import UserError

from ..process_group import ProcessGroup
from ..row_blocks import RowBlocks, names, row_blocks
from ..training import checkpoint
from ..training.callbacks import Callback
from ..training.optimizers import JointOptimizer
from ..training.weight_store import Tables

_NAMES = {"0", "1"}
"""Of folders: one that a state names, and one that is written."""
_ROWS = 1 << 16
"""Of a table that the leader has at a time, to write them."""


class ShardedTables(Tables):
    """Of a model of `build_in_blocks`.

    `<expid>.model` is the plain state dict that any other run has, written and read some rows at a time. Beside
    `<expid>.resume` stands a folder of shards, one a worker: its rows of each table, their moments and their average.

    Args:
        model: compiled.
        workers: who have the tables.
        callback: may have an average of them.

    Raises:
        UserError: safetensors is not installed.
    """

    def __init__(self, model: BaseModel, workers: ProcessGroup, callback: Callback | None = None) -> None:
        from . import shards  # torch.distributed.checkpoint takes a second to import

        shards.require_safetensors()
        self._shards = shards
        super().__init__(model, workers)
        self.are_apart = workers.count > 1
        self._blocks = row_blocks(model)
        self._callback = callback or Callback()
        self._last = ""

    def write_weights(self, path: Path) -> None:
        """All workers give the leader their rows, which it keeps in a file until all are there."""
        files = {name: path.with_name(f".{path.name}.{i}.rows") for i, name in enumerate(self._blocks)}
        try:
            for name, table in self._blocks.items():
                self._collect(table, files[name])
            if self.workers.leads:
                mapped = {id(table): _mapped(table, files[name]) for name, table in self._blocks.items()}
                of_tables = {name: mapped[id(table)] for name, table in names(self.model)}
                checkpoint.save({**self.model.state_dict(), **of_tables}, path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        finally:
            for file in files.values() if self.workers.leads else ():
                file.unlink(missing_ok=True)
        self.workers.wait()

    def read_weights(self, path: Path) -> None:
        """Each worker takes its own rows out of the file."""
        checkpoint.require_intact(path)
        weights = checkpoint.load(path, mapped=True)
        found = {name: weights.pop(name, None) for name, _ in names(self.model)}
        for name, table in names(self.model):
            whole = found[name]
            if not isinstance(whole, Tensor) or whole.shape != table.shape:
                is_there = tuple(whole.shape) if isinstance(whole, Tensor) else "not there"
                raise UserError(
                    f"checkpoint {path} does not fit the model: {name} is {is_there}, the model's {table.shape}"
                )
        checkpoint.fit_weights(self.model, weights, path)
        for name, table in self._blocks.items():
            for ids in _ids(table):
                table.take(ids, found[name][int(ids[0]) : int(ids[-1]) + 1])

    def write_state(self, state: Path) -> str:
        """The folder's number."""
        self._last = "1" if self._last == "0" else "0"
        if self.workers.leads:
            shutil.rmtree(_folder(state, self._last), ignore_errors=True)  # of a run that was killed while it wrote
        self._shards.write(self._state(), _folder(state, self._last), self.workers)
        return self._last

    def read_state(self, state: Path, name: str) -> None:
        """With any number of workers."""
        if name not in _NAMES:
            raise UserError(f"{state} names no folder of shards: {name!r}")
        self._shards.read(self._state(), _folder(state, name), self.workers)
        self._last = name

    def remove(self, state: Path, kept: str = "") -> None:
        """Folders."""
        for name in _NAMES - {kept}:
            shutil.rmtree(_folder(state, name), ignore_errors=True)

    def _collect(self, table: RowBlocks, file: Path) -> None:
        """The leader writes the rows to a file, those of all ids in their order."""
        with torch.no_grad():
            if not self.workers.leads:
                for ids in _ids(table):
                    table(ids[:0])
                return
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "wb") as rows:
                for ids in _ids(table):
                    rows.write(table(ids.to(table.weight.device)).cpu().numpy().tobytes())

    def _state(self) -> dict[str, tuple[Tensor, tuple[int, int]]]:
        """What this worker's shard has: rows, and the shape of the whole."""
        optimizer = self.model.optimizer
        moments = optimizer.lazy.state if isinstance(optimizer, JointOptimizer) else {}
        every = {}
        for name, table in self._blocks.items():
            parts = {"weight": table.weight.detach(), **moments.get(table.weight, {})}
            parts["average"] = self._callback.blocks().get(name)
            for part, rows in parts.items():
                if isinstance(rows, Tensor):
                    every[f"{name}/{part}"] = rows, table.shape
        return every


def tables_of(model: BaseModel, workers: ProcessGroup, callback: Callback | None = None) -> Tables:
    """How the model's tables get to files."""
    return ShardedTables(model, workers, callback) if row_blocks(model) else Tables(model, workers)


def _folder(state: Path, name: str) -> Path:
    return state.with_name(f"{state.name}.{name}")


def _ids(table: RowBlocks) -> Iterator[Tensor]:
    """All, some at a time."""
    for start in range(0, table.num_embeddings, _ROWS):
        yield torch.arange(start, min(start + _ROWS, table.num_embeddings))


def _mapped(table: RowBlocks, file: Path) -> Tensor:
    size = table.shape[0] * table.shape[1]
    return torch.from_file(str(file), shared=False, size=size, dtype=table.weight.dtype).view(table.shape)
