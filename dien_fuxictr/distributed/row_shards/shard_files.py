"""Rows of tables in files: each process writes a file, any number reads them.

The files are safetensors files of torch.distributed.checkpoint. Of its storages this is the one that neither writes nor
reads a pickle: the place of a shard in the table is in the header of its file.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.process_group import ProcessGroup

Rows = dict[str, tuple[Tensor, tuple[int, int]]]
"""Name -> this process's rows, and the shape (V, D) of the table: shards of equal size, but for the last ones."""


def require_safetensors() -> None:
    """Raise UserError if safetensors is not installed."""
    try:
        import safetensors  # noqa: F401
    except ImportError as error:
        raise UserError(
            "embedding_sharding = rows needs a package that is not installed: pip install safetensors"
        ) from error


def write(rows: Rows, folder: Path, group: ProcessGroup) -> None:
    """Write the rows of all processes, which call this together.

    Args:
        rows: rows of this process.
        folder: new or empty.
        group: the processes.

    Raises:
        UserError: the folder cannot be written.
    """
    storage = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        with _quiet():
            save(_of_all(rows, group), storage_writer=storage, no_dist=group.count == 1)
    except CheckpointException as error:
        raise UserError(f"cannot write {folder}: {_reason(error)}") from error


def read(rows: Rows, folder: Path, group: ProcessGroup) -> None:
    """Read the rows of all processes, in place; they call this together.

    Args:
        rows: rows of this process.
        folder: folder that `write` has written, with any number of processes.
        group: the processes.

    Raises:
        UserError: a shard is missing or broken, or belongs to another table.
    """
    storage = HuggingFaceStorageReader(str(folder))
    _check({name: shape for name, (_, shape) in rows.items()}, storage, folder)
    try:
        with _quiet():
            load(_of_all(rows, group), storage_reader=storage, no_dist=group.count == 1)
    except CheckpointException as error:
        raise UserError(f"{folder} is not readable: {_reason(error)}") from error


def _check(shapes: dict[str, tuple[int, int]], storage: Any, folder: Path) -> None:
    """Raise UserError unless all shards exist and belong to these tables."""
    from safetensors import SafetensorError

    if not folder.is_dir():
        raise UserError(f"the shards of the embedding tables are missing: {folder} does not exist")
    try:
        found = storage.read_metadata().state_dict_metadata
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"a shard in {folder} is not readable: {error}") from error
    if found and found.keys() != shapes.keys():
        name = min(found.keys() ^ shapes.keys())
        raise UserError(
            f"the shards in {folder} do not match the model: {name} is only in the "
            f"{'model' if name in shapes else 'shards'}"
        )
    for name, (size, dim) in shapes.items():
        chunks = sorted((chunk.offsets[0], *chunk.sizes) for chunk in found[name].chunks) if found else []
        end = 0
        for first, count, width in chunks:
            if width != dim or first + count > size:
                raise UserError(f"the shards in {folder} do not match the model: its {name} is {(size, dim)}")
            if first != end:
                break
            end += count
        if end != size:
            raise UserError(f"a shard in {folder} is missing: row {end} of the {size} rows of {name} is in none")


def _of_all(rows: Rows, group: ProcessGroup) -> dict[str, Tensor]:
    """Return the rows as tensors of torch that are distributed over the processes."""
    if group.count == 1:
        return {name: own for name, (own, _) in rows.items()}
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard

    mesh = init_device_mesh(next(iter(rows.values()))[0].device.type, (group.count,))
    return {
        name: DTensor.from_local(own, mesh, [Shard(0)], run_check=False, shape=torch.Size(shape), stride=(shape[1], 1))
        for name, (own, shape) in rows.items()
    }


def _reason(error: CheckpointException) -> str:
    """Return the reason of the first process that has one."""
    first = next(iter(error.failures.values()))[0]
    return f"{getattr(first, 'strerror', None) or first}".splitlines()[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's own remarks within the context."""
    log = logging.getLogger("torch.distributed.checkpoint")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
