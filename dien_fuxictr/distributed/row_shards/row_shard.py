"""A process's rows of an embedding table; other rows are requested on look-up."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from dien_fuxictr.experiment.process_group import SINGLE_PROCESS, ProcessGroup

_GROUP = 1024
"""Rows that are drawn together, on whichever process: the number of processes does not change initial weights."""


class Initial(Protocol):
    """Rows that a table has at first."""

    def __call__(self, ids: Tensor, generator: Generator) -> Tensor:
        """Return rows (N, D) of ids (N,), drawn from the generator."""
        ...

    def pretrained(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield distinct ids (N,) and the rows (N, D) that replace theirs, in parts."""
        ...


class RowShard(nn.Embedding):
    """This process's rows of an `nn.Embedding`; a look-up finds all rows.

    The row of id i is at place i * m mod V, m the whole number next to V times the golden ratio that has no common
    factor with V: frequent ids, which are small numbers, spread evenly over the places of any table. A shard is a range
    of places. All shards but the last have equal sizes, so the number of processes only moves their borders.

    The forward pass is an exchange that all processes take part in: each must look up in its tables in the same order.
    Rows are sent once, however often a batch has their id. Gradients go back in `gather_gradient`, so that no process
    waits for another within a backward pass.

    Args:
        shape: (V, D) of the table.
        initial: its initial rows.
        group: the processes that have it.
        padding_idx: as of `nn.Embedding`.
        trained: whether it gets gradients.
        dtype, device: of its rows.

    Attributes:
        weight: (rows, D), those of this process; the state dict lacks it.
        shape: (V, D). first: the first place of this shard.
        initial: as given.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        initial: Initial,
        group: ProcessGroup = SINGLE_PROCESS,
        padding_idx: int | None = None,
        trained: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        size, dim = shape
        self._size = math.ceil(size / group.count)
        first = min(group.rank * self._size, size)
        rows = torch.empty(min(self._size, size - first), dim, dtype=dtype, device=device)
        super().__init__(len(rows), dim, _weight=rows)
        self.weight.requires_grad_(trained)
        self.num_embeddings, self.padding_idx = size, padding_idx
        self.shape, self.first, self.initial, self.group = shape, first, initial, group
        multiplier = round(size * (math.sqrt(5) - 1) / 2)
        while math.gcd(multiplier, size) > 1:
            multiplier += 1
        self._multiplier, self._inverse = multiplier, pow(multiplier, -1, size)
        self._looked_up: list[tuple[Tensor, Tensor]] = []

    def places(self, ids: Tensor) -> Tensor:
        """Return the places of the rows of ids."""
        return ids * self._multiplier % self.num_embeddings

    def ids(self, places: Tensor) -> Tensor:
        """Return the ids whose rows are at these places."""
        return places * self._inverse % self.num_embeddings

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Initialise all rows from the seed, with values that sharding does not change."""
        end = self.first + len(self.weight)
        for start in range(self.first // _GROUP * _GROUP, end, _GROUP):
            places = torch.arange(start, min(start + _GROUP, self.num_embeddings))
            generator = torch.Generator().manual_seed((seed + start // _GROUP) % 2**32)
            rows = self.initial(self.ids(places), generator)
            low, high = max(start, self.first), min(start + _GROUP, end)
            self.weight[low - self.first : high - self.first] = rows[low - start : high - start].to(self.weight)
        for ids, rows in self.initial.pretrained():
            self.take(ids, rows)

    @torch.no_grad()
    def take(self, ids: Tensor, rows: Tensor) -> None:
        """Set the rows (N, D) of ids (N,), of those that this process has; ids differ."""
        places = self.places(ids) - self.first
        mine = (places >= 0) & (places < len(self.weight))
        self.weight[places[mine]] = rows[mine].to(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Return the rows (..., D) of ids (...).

        Raises:
            IndexError: the table lacks an id.
        """
        flat = input.reshape(-1)
        if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < self.num_embeddings:
            raise IndexError(
                f"ids must be from 0 to {self.num_embeddings - 1}, are from {int(flat.min())} to {int(flat.max())}"
            )
        places, inverse = self.places(flat).unique(return_inverse=True)
        asked, counts = self.group.exchange(places, self._counts(places))
        rows, _ = self.group.exchange(self.weight.detach().index_select(0, asked - self.first), counts)
        if torch.is_grad_enabled() and self.weight.requires_grad:
            rows.requires_grad_()
            self._looked_up.append((places, rows))
        return rows.index_select(0, inverse).view(*input.shape, self.embedding_dim)

    @torch.no_grad()
    def gather_gradient(self) -> None:
        """Set this shard's sparse gradient to the sum over all processes.

        It is called by all processes after a backward pass, and leaves None if no process has a gradient.
        """
        looked_up, self._looked_up = self._looked_up, []
        found = [(places, rows.grad) for places, rows in looked_up if rows.grad is not None]
        if not self.group.largest(bool(found)):
            return
        none = self.weight.new_zeros(0, dtype=torch.int64), self.weight.new_zeros(0, self.embedding_dim)
        places, gradients = (torch.cat(parts) for parts in zip(none, *found, strict=True))
        if self.padding_idx is not None:
            real = places != self.padding_idx * self._multiplier % self.num_embeddings
            places, gradients = places[real], gradients[real]
        places, inverse = places.unique(return_inverse=True)
        summed = gradients.new_zeros(len(places), self.embedding_dim).index_add_(0, inverse, gradients)
        counts = self._counts(places)
        arrived, _ = self.group.exchange(places, counts)
        values, _ = self.group.exchange(summed, counts)
        here = (arrived - self.first).unsqueeze(0)
        self.weight.grad = torch.sparse_coo_tensor(here, values, self.weight.shape, check_invariants=False).coalesce()

    def _counts(self, places: Tensor) -> list[int]:
        """Return how many of the places, which ascend, each process has."""
        return torch.bincount(places // self._size, minlength=self.group.count).tolist()

    def _save_to_state_dict(self, destination: dict[str, object], prefix: str, keep_vars: bool) -> None:
        """Write nothing: each process has other rows."""

    def _load_from_state_dict(self, *_: Any, **__: Any) -> None:
        """Read nothing."""


def row_shards(model: nn.Module) -> dict[str, RowShard]:
    """Return the shards of a model by the name of their weight.

    A shard with several names has the first.
    """
    return {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, RowShard)}


def all_names(model: nn.Module) -> Iterator[tuple[str, RowShard]]:
    """Yield the shards of a model under all names of their weight."""
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, RowShard):
            yield f"{name}.weight", module
