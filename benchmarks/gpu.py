"""Measure the recurrence on a GPU against cuDNN's nn.GRU and a loop in Python.

Times are of forward and backward with every gradient. All have equal sizes and rows, all rows are full, and TF32 is on
or off for all. The program needs only torch and triton, so that it runs on a bare machine.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from dien_fuxictr.common.markdown import padded_table

from .clock import interleaved

# The model's folder as a package without its `__init__`, which needs the zoo.
dien = ModuleType("dien")
dien.__path__ = [str(Path(__file__).parents[1] / "model_zoo" / "DIEN" / "src")]
sys.modules["dien"] = dien
attentional_gru = import_module("dien.attentional_gru").attentional_gru
Packing = import_module("dien.layers.packing").Packing

CUDNN = "cuDNN's nn.GRU"
PRECISIONS = {
    "float32, no TF32": (torch.float32, False),
    "float32, TF32": (torch.float32, True),
    "bfloat16": (torch.bfloat16, True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return an exit code, 2 without a GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4096, metavar="N", help="rows per batch, B; default 4096")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="steps per row, T; default 100")
    parser.add_argument(
        "--hidden",
        type=int,
        nargs="+",
        default=[36, 64, 128],
        metavar="N",
        help="sizes of inputs and states; default 36 64 128",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=10,
        metavar="N",
        help="number of interleaved measurements of each task; the best is reported; default 10",
    )
    parser.add_argument("--device", default="cuda", help="device; default cuda; cpu needs TRITON_INTERPRET=1")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: torch finds no GPU; --device cpu with TRITON_INTERPRET=1 needs none", file=sys.stderr)
        return 2
    for hidden in options.hidden:
        for name, (dtype, tf32) in PRECISIONS.items():
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            tasks = make_tasks(options.rows, options.steps, hidden, dtype, options.device)
            best = {task: min(seconds) for task, seconds in interleaved(tasks, options.rounds).items()}
            print(f"### B = {options.rows}, T = {options.steps}, H = I = {hidden}, {name}\n")
            print(
                padded_table(
                    ["", "ms", "/ cuDNN"],
                    [[task, f"{1000 * seconds:.3f}", f"{seconds / best[CUDNN]:.2f}"] for task, seconds in best.items()],
                )
                + "\n"
            )
    card = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{card}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    return 0


def make_tasks(rows: int, steps: int, hidden: int, dtype: torch.dtype, device: str) -> dict[str, Callable[[], Any]]:
    """Return name -> function that runs one forward and backward pass."""
    torch.manual_seed(0)
    gru = torch.nn.GRU(hidden, hidden, device=device, dtype=dtype)
    packing = Packing.of_lengths(torch.full((rows,), steps, device=device))
    x = torch.randn(rows * steps, hidden, device=device, dtype=dtype, requires_grad=True)
    attention = torch.rand(rows * steps, device=device, dtype=dtype, requires_grad=True)
    weights = [gru.get_parameter(name) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")]
    of_states = torch.randn_like(x)
    padded, of_padded = (t.detach().view(rows, steps, hidden).transpose(0, 1).contiguous() for t in (x, of_states))
    padded.requires_grad_()

    def ours(kind: str, backend: str) -> None:
        states, _ = attentional_gru(x, packing, *weights, attention, kind=kind, backend=backend)
        torch.autograd.grad(states, [x, *weights, *([] if kind == "GRU" else [attention])], of_states)

    def cudnn() -> None:
        torch.autograd.grad(gru(padded)[0], [padded, *gru.parameters()], of_padded)

    return {
        CUDNN: cudnn,
        **{
            f"{kind}, {backend}": partial(ours, kind, backend)
            for kind, backend in (("GRU", "triton"), ("AUGRU", "triton"), ("AUGRU", "torch"), ("AUGRU", "reference"))
        },
    }


if __name__ == "__main__":
    sys.exit(main())
