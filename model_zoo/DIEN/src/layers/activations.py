"""Activations by their names in the zoo's YAML files."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import batch_scope


class Dice(nn.Module):
    """Data-adaptive activation of DIN (Zhou et al., KDD 2018, eq. 3).

    A batch of fewer than two rows has no statistics, and uses the running ones.

    Args:
        units: C, the number of channels.
        eps: added to the variance.
        momentum: weight of a batch in the running statistics.
    """

    def __init__(self, units: int, eps: float = 1e-9, momentum: float = 0.01) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.alpha = nn.Parameter(torch.zeros(units))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(units))
        self.register_buffer("running_var", torch.ones(units))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations (N, C) of x (N, C)."""
        own = self.training and (len(x) > 1 or batch_scope.batch().is_shard)
        p = torch.sigmoid(
            F.batch_norm(x, self.running_mean, self.running_var, training=own, momentum=self.momentum, eps=self.eps)
        )
        return x * torch.lerp(self.alpha, torch.ones_like(self.alpha), p)

    @torch.no_grad()
    def take_statistics(self, rows: int, total: Tensor, square: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the statistics that `forward` takes in training; the running ones follow them.

        Args:
            rows: N, of this process.
            total: (C,) float64, Σx.
            square: (C,) float64, Σx².

        Returns:
            The number of rows of all processes, mean and variance, (C,) float64. If there are fewer than two rows, the
            number is 0 and the statistics are the running ones.
        """
        batch = batch_scope.batch()
        batch.follow_running(self.running_mean, self.running_var)
        sums = batch.summed(torch.cat([total.new_tensor([rows]), total, square]))
        rows_of_batch = sums[0].item()
        if rows_of_batch < 2:
            return 0, self.running_mean.double(), self.running_var.double()
        return rows_of_batch, *batch_scope.take_moments(sums, self.running_mean, self.running_var, self.momentum)


def activation(name: str, units: int) -> nn.Module:
    """Return the activation of a name: Dice, PReLU, or any of `torch.nn`.

    Case does not matter.

    Raises:
        ValueError: the name is unknown.
    """
    if name.lower() == "dice":
        return Dice(units)
    if name.lower() == "prelu":
        return nn.PReLU(units, init=0.1)
    for attribute in (name, *(a for a in dir(nn) if a.lower() == name.lower())):
        layer = getattr(nn, attribute, None)
        if isinstance(layer, type) and layer.__module__ == "torch.nn.modules.activation":
            return layer()
    raise ValueError(f"activation {name!r} is unknown; allowed: Dice, or an activation of torch.nn such as ReLU")
