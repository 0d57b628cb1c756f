"""A small MLP that is applied to every packed behaviour."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .activations import activation
from .dropout import Dropout, step_elements
from .packing import Packing


class StepMLP(nn.Module):
    """MLP with one output for the steps of packed rows.

    Args:
        input_size: F.
        hidden_units: sizes of the hidden layers.
        hidden_activation: a name for all of them, or one each.
        dropout: rate after every hidden layer.
        output_activation: a name, or None.

    Raises:
        ValueError: an activation is unknown, or there are not as many as hidden layers.
    """

    def __init__(
        self,
        input_size: int,
        hidden_units: Sequence[int],
        hidden_activation: str | Sequence[str],
        dropout: float = 0.0,
        output_activation: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(hidden_activation, str):
            hidden_activation = [hidden_activation] * len(hidden_units)
        if len(hidden_activation) != len(hidden_units):
            raise ValueError(f"activations {list(hidden_activation)} do not match hidden units {list(hidden_units)}")
        layers: list[nn.Module] = []
        for units, name in zip(hidden_units, hidden_activation, strict=True):
            layers += [nn.Linear(input_size, units), activation(name, units)]
            if dropout > 0:
                layers.append(Dropout(dropout))
            input_size = units
        layers.append(nn.Linear(input_size, 1))
        if output_activation is not None:
            layers.append(activation(output_activation, 1))
        self.layers = nn.ModuleList(layers)

    @property
    def first(self) -> nn.Linear:
        """Return the first layer.

        A caller that feeds a concatenation can multiply its parts separately, each as often as it differs.
        """
        layer = self.layers[0]
        assert isinstance(layer, nn.Linear)
        return layer

    def elements(self, packing: Packing, numbers: int = 1) -> Tensor | None:
        """Return the element of each step for masks of dropout, (N,) int64; None if none are drawn.

        Args:
            packing: packing of the steps.
            numbers: number of elements of a step; the result has the first one.
        """
        draws = any(layer.draws for layer in self.layers if isinstance(layer, Dropout))
        return step_elements(packing, numbers) if draws else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (N,) of x (N, F)."""
        return self.after_first(F.linear(x, self.first.weight, self.first.bias))

    def after_first(self, x: Tensor, elements: Tensor | None = None) -> Tensor:
        """Return the outputs (N,) of the first layer's results x (N, units).

        Args:
            x: the first layer's results.
            elements: (N,) int64, element of each step for masks of dropout; None: each is a row of the batch.
        """
        for layer in self.layers[1:]:
            x = layer(x, elements) if isinstance(layer, Dropout) else layer(x)
        return x.squeeze(1)
