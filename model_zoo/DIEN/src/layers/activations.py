import torch
from torch import Tensor, nn


class Dice(nn.Module):
    """Data-adaptive activation of DIN (Zhou et al., KDD 2018, eq. 3) over the real rows of a batch only.

    Padding takes no part in the batch statistics; fewer than two real rows have none, and use the running ones.

    Args:
        units: C, the number of channels.
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

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (N, C), mask: (N,) bool. Returns (N, C)."""
        mean, var = self._batch_statistics(x, mask) if self.training else (self.running_mean, self.running_var)
        p = torch.sigmoid((x - mean) / torch.sqrt(var + self.eps))
        return p * x + (1 - p) * self.alpha * x

    def _batch_statistics(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        real = mask.unsqueeze(1).to(x.dtype)
        count = real.sum()
        mean = (x * real).sum(0) / count.clamp(min=1)
        var = ((x - mean).square() * real).sum(0) / count.clamp(min=1)
        enough = count > 1
        with torch.no_grad():
            step = self.momentum * enough
            unbiased = var * count / (count - 1).clamp(min=1)
            self.running_mean += step * (mean - self.running_mean)
            self.running_var += step * (unbiased - self.running_var)
        # torch.where on the device: asking for the count would make the host wait.
        return torch.where(enough, mean, self.running_mean), torch.where(enough, var, self.running_var)


def activation(name: str, units: int) -> nn.Module:
    """The activation that the zoo's YAML names: Dice, PReLU, or any of ``torch.nn`` (case does not matter for these).

    Raises:
        ValueError: no such activation.
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
