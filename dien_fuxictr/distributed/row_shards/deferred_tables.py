"""Run a model's constructor without memory for its embedding tables.

The operations that would have filled them are recorded.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from fuxictr.pytorch.layers import PretrainedEmbedding
from torch import Generator, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dien_fuxictr.common.errors import UserError

from .pretrained_rows import PretrainedRows

_aten = torch.ops.aten
_RANDOM = ("normal_", "uniform_")


@dataclass
class Filling:
    """Recorded operations that fill a table, in order.

    Attributes:
        dim: size of a row.
        dtype: dtype of the table.
        steps: functions that change rows in place, each with the first id, the one after the last, and its arguments.
        vectors: pretrained vectors, which replace the rows of their ids at the end.
    """

    dim: int
    dtype: torch.dtype
    steps: list[tuple[Any, int, int, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    vectors: PretrainedRows | None = None

    def __call__(self, ids: Tensor, generator: Generator) -> Tensor:
        """Return rows (N, D) of ids (N,), without pretrained ones."""
        rows = torch.zeros(len(ids), self.dim, dtype=self.dtype)
        for function, first, end, arguments, keywords in self.steps:
            draws = {"generator": generator} if _name(function) in _RANDOM else {}
            changed = function(rows.clone(), *arguments, **{**keywords, **draws})
            rows = torch.where(((ids >= first) & (ids < end)).unsqueeze(1), changed, rows)
        return rows

    def pretrained(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ids and vectors like `PretrainedRows.rows`."""
        yield from self.vectors.rows() if self.vectors else ()


class DeferredTables(TorchDispatchMode):
    """Mode in which `nn.Embedding` keeps its weight on the meta device.

    The weight stays there even if the model is moved. Each function that changes rows in place, independently per row,
    is recorded. A look-up returns zeros.

    Raises:
        UserError: a table is filled by an operation on all of its rows.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fillings: dict[int, tuple[torch.UntypedStorage, Filling]] = {}

    def filling(self, weight: Tensor) -> Filling:
        """Return what fills a table that was created in this mode."""
        return self._fillings[weight.untyped_storage()._cdata][1]

    @contextmanager
    def construct(self) -> Iterator[None]:
        """Record the constructor that runs in this block."""
        with ExitStack() as stack:
            stack.enter_context(_replaced(nn.Embedding, "__init__", self._without_memory))
            stack.enter_context(_replaced(PretrainedEmbedding, "load_pretrained_embedding", self._pretrained))
            stack.enter_context(_replaced(nn.init, "trunc_normal_", lambda _: _refuse_truncated))
            stack.enter_context(self)
            yield

    def _without_memory(self, init: Callable[..., None]) -> Callable[..., None]:
        def deferred(table: nn.Embedding, *arguments: Any, **keywords: Any) -> None:
            init(table, *arguments, **{**keywords, "device": "meta"})

        return deferred

    def _pretrained(self, _: Callable[..., nn.Embedding]) -> Callable[..., nn.Embedding]:
        """Record the zoo's pretrained matrix.

        It has the vectors of the file; its other rows are small random numbers, or zeros if frozen.
        """

        def load(
            layer: PretrainedEmbedding,
            vocab_size: int,
            pretrain_dim: int,
            pretrain_path: str,
            vocab_path: str,
            feature_name: str,
            freeze: bool = False,
            padding_idx: int | None = None,
        ) -> nn.Embedding:
            table = nn.Embedding(vocab_size, pretrain_dim, padding_idx=padding_idx)
            with torch.no_grad():
                table.weight.zero_() if freeze else table.weight.normal_(std=1e-4)
                if padding_idx and not freeze:
                    table.weight[padding_idx].zero_()
            table.weight.requires_grad_(not freeze)
            vocabulary, _ = layer.load_feature_vocab(vocab_path, feature_name)
            self.filling(table.weight).vectors = PretrainedRows(
                path=pretrain_path, dim=pretrain_dim, vocabulary=vocabulary
            )
            return table

        return load

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is _aten.scalar_tensor.default:
            return function(*args, **{**kwargs, "device": "cpu"})  # a value that is set must be known
        if function is _aten.empty.memory_format and str(kwargs.get("device")) == "meta" and len(args[0]) == 2:
            made = function(*args, **kwargs)
            self._note(made, Filling(dim=made.size(1), dtype=made.dtype))
            return made
        table = args[0] if args and isinstance(args[0], Tensor) and self._is_noted(args[0]) else None
        if table is None:
            return function(*args, **kwargs)
        if function is _aten.embedding.default:
            return torch.zeros(*args[1].shape, table.size(1), dtype=table.dtype)
        if function is _aten._to_copy.default:
            moved = function(table, **{**kwargs, "device": "meta"})
            filling = self.filling(table)
            self._note(moved, Filling(dim=filling.dim, dtype=moved.dtype, steps=filling.steps, vectors=filling.vectors))
            return moved
        if _name(function).endswith("_"):
            self._change(function, table, args[1:], kwargs)
            return table
        return function(*args, **kwargs)

    def _is_noted(self, tensor: Tensor) -> bool:
        return tensor.is_meta and tensor.untyped_storage()._cdata in self._fillings

    def _note(self, table: Tensor, filling: Filling) -> None:
        storage = table.untyped_storage()  # kept, so that no other storage gets its number
        self._fillings[storage._cdata] = storage, filling

    def _change(self, function: Any, rows: Tensor, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        filling = self.filling(rows)
        known = all(x.numel() <= filling.dim and not x.is_meta for x in arguments if isinstance(x, Tensor))
        whole = rows.dim() <= 2 and rows.is_contiguous() and rows.size(-1) == filling.dim
        if not known or not whole:
            raise UserError(
                f"embedding_sharding = rows cannot be combined with this model: its constructor fills an embedding "
                f"table by {_name(function)}, of which one process would need all rows"
            )
        first = int(rows.storage_offset()) // filling.dim
        count = rows.size(0) if rows.dim() == 2 else 1
        arguments = tuple(x.clone() if isinstance(x, Tensor) else x for x in arguments)
        filling.steps.append((function, first, first + count, arguments, keywords))


def _name(function: Any) -> str:
    return function._schema.name.removeprefix("aten::")


def _refuse_truncated(*_: Any, **__: Any) -> Any:
    raise UserError("embedding_sharding = rows cannot be combined with truncated normal initial weights")


@contextmanager
def _replaced(owner: Any, name: str, by: Callable[[Any], Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, by(before))
    try:
        yield
    finally:
        setattr(owner, name, before)
