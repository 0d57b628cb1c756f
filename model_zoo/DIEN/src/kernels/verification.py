"""Comparison of a kernel's recurrence with PyTorch's, run before `auto` uses it.

The kernels have not been measured on every GPU.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..layers.packing import Packing

Recurrence = Callable[[Tensor, Packing, Tensor, Tensor, Tensor, Tensor, Tensor, str], tuple[Tensor, Tensor]]

LENGTHS = [7 * row % 6 for row in range(40)]
"""Steps of each row, none in some; more rows than a program of the kernels takes."""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Allowed error relative to the largest number of a result; rounding errors are a tenth of it or less."""
TF32_TOLERANCE = 2e-2


def find_fault(
    kernel: Recurrence,
    trusted: Recurrence,
    kind: str,
    hidden: int,
    dtype: torch.dtype,
    device: torch.device,
    tolerance: float | None = None,
) -> str:
    """Return what is wrong with a kernel, in words; empty if its results are right.

    Outputs and gradients are compared.

    Args:
        kernel: recurrence to check, run in `dtype`.
        trusted: recurrence to compare with, run in float64 on the same numbers.
        kind: as in `attentional_gru.attentional_gru`.
        hidden: H.
        dtype: dtype of the kernel's tensors.
        device: device of all tensors.
        tolerance: relative tolerance; None: the default of the dtype.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        packing, tensors, weights = _batch(hidden, dtype, device)
        try:
            found = _outcome(kernel, packing, tensors, weights, kind)
        except Exception as error:  # any error, of a compiler or a driver for example, stops the kernel
            return f"fail with {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        expected = _outcome(trusted, packing, [x.double() for x in tensors], [x.double() for x in weights], kind)
    tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
    for name, right in expected.items():
        error = (found[name].double() - right).abs().max().item()
        allowed = tolerance * max(1.0, right.abs().max().item())
        if not error <= allowed:  # also true for NaN
            return f"differ from torch's in {name} by {error:.1e}, more than {allowed:.1e}"
    return ""


def _batch(hidden: int, dtype: torch.dtype, device: torch.device) -> tuple[Packing, list[Tensor], list[Tensor]]:
    """Return rows, tensors of a recurrence in order, and weights of its two results."""
    rows, steps, inputs = len(LENGTHS), sum(LENGTHS), 5
    numbers = torch.Generator().manual_seed(0)

    def made(*shape: int) -> Tensor:
        return torch.randn(shape, generator=numbers)

    attention = (made(steps) + 0.5).clamp(0, 1)  # exactly 0 and 1 at some steps
    weight_hh = made(3 * hidden, hidden) / hidden**0.5
    tensors = made(steps, inputs), attention, made(rows, hidden), made(3 * hidden, inputs), weight_hh, made(3 * hidden)
    weights = made(steps, hidden), made(rows, hidden)
    packing = Packing.of_lengths(torch.tensor(LENGTHS, device=device))
    return packing, [x.to(device, dtype) for x in tensors], [x.to(device, dtype) for x in weights]


def _outcome(
    recurrence: Recurrence, packing: Packing, tensors: list[Tensor], weights: list[Tensor], kind: str
) -> dict[str, Tensor]:
    """Return states, final states, and the gradient of each tensor, zero if none."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    inputs, attention, state, weight_ih, weight_hh, bias = leaves
    results = recurrence(inputs, packing, attention, state, weight_ih, weight_hh, bias, kind)
    gradients = torch.autograd.grad(results, leaves, weights, allow_unused=True)
    names = ("inputs", "attention", "state", "weight_ih", "weight_hh", "bias")
    return dict(zip(("states", "final"), results, strict=True)) | {
        f"the gradient of {name}": torch.zeros_like(leaf) if gradient is None else gradient
        for name, leaf, gradient in zip(names, leaves, gradients, strict=True)
    }
