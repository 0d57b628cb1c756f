"""What ONNX wants in its own way: its GRU, a Scan for recurrences that it has no operator for, the axes of sums."""

import torch
from torch import Tensor
from torch.export import ExportedProgram

from .loops import evolve

__all__ = ["OPSET", "count_axes_from_the_front", "evolve", "extract"]

OPSET = 20


def extract(inputs: Tensor, lengths: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """As `operators.extract` of `model_zoo.DIEN`; what is behind the rows' ends means nothing.

    The gate z of ONNX weighs the old state: with u = 1 - z, its weights are those of u with the other sign.
    """
    steps, rows, _ = inputs.shape
    size = weight_hh.size(1)

    def gates(weight: Tensor) -> Tensor:
        """[u, r, candidate] -> [z, r, candidate], with a leading axis for directions."""
        return torch.cat([-weight[:size], weight[size:]]).unsqueeze(0)

    both_biases = torch.cat([gates(bias), torch.zeros_like(bias).unsqueeze(0)], dim=1)
    states, _ = torch.onnx.ops.symbolic_multi_out(
        "GRU",
        [inputs, gates(weight_ih), gates(weight_hh), both_biases, lengths.to(torch.int32)],
        {"hidden_size": size, "linear_before_reset": 1},
        dtypes=[inputs.dtype] * 2,
        shapes=[(steps, 1, rows, size), (1, rows, size)],
        version=OPSET,
    )
    return states.squeeze(1)


def count_axes_from_the_front(program: ExportedProgram) -> ExportedProgram:
    """Sums along axis -1 become sums along the last axis: of no rows ONNX Runtime up to 1.26 computes only these."""
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.sum.dim_IntList):
        summed, axes, *more = node.args
        node.args = (summed, [axis % summed.meta["val"].dim() for axis in axes], *more)
    return program
