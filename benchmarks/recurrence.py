"""Measure the recurrence alone: this project's backends and nn.GRU.

Times are of forward and backward with every gradient, over packed rows. nn.GRU gets a packed sequence that was made
beforehand. The share is relative to the rate of a product of two 1024 x 1024 float32 matrices by torch, measured in
turn; only products of real steps count as work, 18 N H (I + H) FLOP.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from dien_fuxictr.experiment.device import keep_freed_memory
from model_zoo.DIEN.src.attentional_gru import attentional_gru
from model_zoo.DIEN.src.layers.packing import Packing

from .clock import interleaved
from .entries import add_backends
from .report import Row, make_parser, publish
from .synthetic_batches import AMAZON, LENGTHS, make_lengths

PRODUCT, SQUARE = "SGEMM", 1024


def main(arguments: Sequence[str] | None = None, max_len: int = AMAZON.max_len) -> None:
    """Measure and print; a `max_len` other than the default is for trying out."""
    parser = make_parser("benchmarks.recurrence", __doc__ or "", rounds=5)
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[128, 1024], metavar="N", help="rows per batch; default 128 1024"
    )
    parser.add_argument(
        "--hidden",
        type=int,
        default=AMAZON.behaviour,
        metavar="N",
        help=f"size of inputs and states; default {AMAZON.behaviour}",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        metavar="N",
        help="number of torch's threads; default all",
    )
    notes = add_backends(parser)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    tables = {
        f"{kind}, B = {rows}, lengths {lengths}, H = I = {options.hidden}, {options.threads} threads": measure(
            kind, rows, lengths, options.hidden, max_len, options.backends, options.rounds
        )
        for kind in ("GRU", "AUGRU")
        for rows in options.batch_sizes
        for lengths in LENGTHS
    }
    publish("benchmarks.recurrence", tables, notes, json_file=options.json, arguments=arguments)


def measure(
    kind: str, rows: int, lengths: str, hidden: int, max_len: int, backends: Sequence[str], rounds: int
) -> list[Row]:
    """Return the row of the matrix product, then one row per backend."""
    counts = torch.from_numpy(make_lengths(lengths, rows, max_len))
    tasks = make_tasks(kind, counts, hidden, backends)
    flops = dict.fromkeys(tasks, 18 * int(counts.sum()) * hidden * 2 * hidden)
    a, b = torch.rand(SQUARE, SQUARE), torch.rand(SQUARE, SQUARE)
    tasks, flops = {PRODUCT: partial(torch.mm, a, b), **tasks}, {PRODUCT: 2 * SQUARE**3, **flops}
    times = interleaved(tasks, rounds)
    rate = {name: flops[name] / min(seconds) for name, seconds in times.items()}
    return [
        {
            "": name,
            "ms": 1000 * min(seconds),
            "GFLOP/s": rate[name] / 1e9,
            "share": f"{rate[name] / rate[PRODUCT]:.1%}",
            "seconds": seconds,
        }
        for name, seconds in times.items()
    ]


def make_tasks(kind: str, lengths: Tensor, hidden: int, backends: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """Return name -> function that runs one forward and backward pass.

    Args:
        kind: kind of the recurrence.
        lengths: (B,), lengths of the rows.
        hidden: size of inputs and states.
        backends: names of the backends.
    """
    torch.manual_seed(0)
    packing = Packing.of_lengths(lengths)
    inputs = torch.randn(len(packing.row), hidden, requires_grad=True)
    attention = torch.rand(len(inputs), requires_grad=True)
    state, d_states = torch.zeros(len(lengths), hidden), torch.randn(len(inputs), hidden)
    gru = torch.nn.GRU(hidden, hidden)
    W, U, b = (cast(Tensor, getattr(gru, name)) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"))

    def backend(name: str) -> None:
        states, _ = attentional_gru(inputs, packing, W, U, b, attention, state, kind, name)
        torch.autograd.grad(states, [inputs, W, U, b] if kind == "GRU" else [inputs, attention, W, U, b], d_states)

    def torch_gru() -> None:
        states, _ = gru(sequence)
        torch.autograd.grad(states.data, [sequence.data, *gru.parameters()], d_states)

    tasks: dict[str, Callable[[], Any]] = {name: partial(backend, name) for name in backends}
    if kind == "GRU":
        sequence = pack_padded_sequence(packing.pad(inputs.detach()), lengths, batch_first=True, enforce_sorted=False)
        sequence.data.requires_grad_()
        tasks["nn.GRU"] = torch_gru
    return tasks


if __name__ == "__main__":
    main()
