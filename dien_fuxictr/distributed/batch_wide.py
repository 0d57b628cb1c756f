"""Batch-wide operations of layers, if each process has a part of the batch.

Not run yet: processes on GPUs. Tests run gloo, on the CPU of one machine.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from model_zoo.DIEN.src.layers import batch_scope

_DROPOUTS = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    F.multi_head_attention_forward,
    F.scaled_dot_product_attention,
)
"""Layers that draw masks."""


class Sum(Function):
    """Sum over all processes.

    The gradient is also a sum, as the losses of the processes are summed.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, d_total: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the sum of the gradients over all processes."""
        d_values = d_total.clone()
        dist.all_reduce(d_values)
        return d_values


class Part(batch_scope.FullBatch):
    """A part of a batch, for the layers that ask.

    Args:
        weight: its share of the rows, by which its loss is weighed.
        first_row: number in the batch of its first row.
        own_pool: whether negatives are drawn from this part's behaviours, not from all of the batch.
        rows: what batch normalisation does.
    """

    is_shard = True

    def __init__(self, weight: float, first_row: int, own_pool: bool, rows: "AllRows") -> None:
        self.weight, self.first_row, self.own_pool, self._rows = weight, first_row, own_pool, rows

    def divisor(self, count: int) -> float:
        """Return the sum of `count` over the processes, times the weight."""
        total = torch.tensor(count)
        dist.all_reduce(total)
        return max(int(total), 1) * self.weight

    def drawn(self, ids: Tensor, draw: batch_scope.Draw) -> tuple[Tensor, Tensor]:
        """Draw for all processes' columns as one process does; keep this one's part."""
        if self.own_pool:
            with _own_generator():
                return draw(ids)
        every = gathered(ids.T)
        first = sum(map(len, every[: dist.get_rank()]))
        drawn, valid = draw(torch.cat(every).T)
        own = slice(first, first + ids.size(1))
        return drawn[:, own], valid[own]

    def summed(self, sums: Tensor) -> Tensor:
        """Return the sums over all processes, unless each normalises by its own rows."""
        return self._rows.summed(sums)

    def follow_running(self, *running: Tensor) -> None:
        """Average running statistics after the step if each process has its own."""
        self._rows.follow_running(*running)

    def tie(self, normalised: Tensor) -> None:
        """Make the loss depend on a result; see `AllRows.tied`."""
        self._rows.tie(normalised)


def gathered(rows: Tensor) -> list[Tensor]:
    """Return the rows (N, ...) of each process, as many as each has."""
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(rows)]))
    counts = [int(size) for size in sizes]
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    every = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(every, padded)
    return [part[:count] for part, count in zip(every, counts, strict=True)]


class AllRows(TorchFunctionMode):
    """Mode in which batch normalisation uses the statistics of all rows.

    Each process draws its own masks for torch's dropout. The mode covers layers of torch, of the zoo and of users. The
    common generators advance equally on all processes.

    Args:
        own_statistics: whether each process normalises by its own rows instead.

    Attributes:
        summed: sum over all rows that are normalised together.
        normalised: results of batch normalisation; see `tied`.
        running: statistics that this process has updated by its own rows; see `agree`.
    """

    def __init__(self, own_statistics: bool) -> None:
        super().__init__()
        self.summed: Callable[[Tensor], Tensor] = (lambda values: values) if own_statistics else Sum.apply
        self._is_own = own_statistics
        self.normalised: list[Tensor] = []
        self.running: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if function in _DROPOUTS and _draws(function, args, kwargs):
            with _own_generator():
                return function(*args, **kwargs)
        return function(*args, **kwargs)

    def tied(self, loss: Tensor) -> Tensor:
        """Return the same loss, on which all normalised rows depend.

        A process whose rows lead nowhere, as those of empty histories do, must still take part in each sum of the
        backward pass: the others wait for it.
        """
        return sum((y[:0].sum() for y in self.normalised), loss)

    def tie(self, normalised: Tensor) -> None:
        """Add a result to those on which the loss depends."""
        if normalised.requires_grad:
            self.normalised.append(normalised)

    def follow_running(self, *running: Tensor) -> None:
        """Add statistics to those that `agree` averages, if each process has its own."""
        if self._is_own:
            self.running += running

    def agree(self, weight: float) -> None:
        """Average running statistics that each process has, weighted by rows."""
        if self.running:
            flat = weight * torch.cat([statistics.flatten().double() for statistics in self.running])
            dist.all_reduce(flat)
            for statistics, mean in zip(self.running, flat.split([s.numel() for s in self.running]), strict=True):
                statistics.copy_(mean.view_as(statistics))

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        y = _normalised(x, running_mean, running_var, weight, bias, momentum, eps, self.summed)
        self.tie(y)
        self.follow_running(*(statistics for statistics in (running_mean, running_var) if statistics is not None))
        return y


def _draws(function: Any, args: Any, kwargs: Any) -> bool:
    """Return whether masks are drawn; the answer is equal on all processes.

    This includes processes in which no row has behaviours.
    """
    if function is F.scaled_dot_product_attention:
        return (args[4] if len(args) > 4 else kwargs.get("dropout_p", 0)) > 0
    bound = signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    return given["training"] and given["p" if "p" in given else "dropout_p"] > 0


@contextmanager
def _own_generator() -> Iterator[None]:
    """Draw from this process's own generator within the context.

    The common generator advances by one number on all processes.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    seed = int(torch.randint(2**40, ())) * dist.get_world_size() + dist.get_rank()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def _normalised(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    total: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return `F.batch_norm` in training over all rows that `total` sums.

    Fewer than two rows are normalised by the running statistics. Count, Σx and Σx² take one sum.
    """
    others = [0, *range(2, x.dim())]
    wide = x.double()
    own = wide.new_full((1,), x.numel() // max(x.size(1), 1))
    sums = total(torch.cat([own, wide.sum(others), wide.square().sum(others)]))
    if sums[0] < 2:
        y = F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        return y + 0 * sums.sum().to(x.dtype)
    mean, var = batch_scope.take_moments(sums, running_mean, running_var, momentum)
    shape = [1, -1, *[1] * (x.dim() - 2)]
    y = (x - mean.to(x.dtype).view(shape)) * (var + eps).rsqrt().to(x.dtype).view(shape)
    if weight is not None:
        y = y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)
