from collections.abc import Sequence

from torch import Tensor, nn

from .activations import Dice, activation


class MaskedMLP(nn.Module):
    """Hidden layers and one output over the steps of padded rows.

    Args:
        input_size: F.
        hidden_units: sizes of the hidden layers.
        hidden_activation: a name for all of them, or one each.
        dropout: rate after every hidden layer.
        output_activation: a name, or None.

    Raises:
        ValueError: an unknown activation, or not as many as hidden layers.
    """

    def __init__(self, input_size: int, hidden_units: Sequence[int], hidden_activation: str | Sequence[str],
                 dropout: float = 0.0, output_activation: str | None = None) -> None:
        super().__init__()
        if isinstance(hidden_activation, str):
            hidden_activation = [hidden_activation] * len(hidden_units)
        if len(hidden_activation) != len(hidden_units):
            raise ValueError(f"activations {list(hidden_activation)} do not match hidden units {list(hidden_units)}")
        layers: list[nn.Module] = []
        for units, name in zip(hidden_units, hidden_activation, strict=True):
            layers += [nn.Linear(input_size, units), activation(name, units)]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            input_size = units
        layers.append(nn.Linear(input_size, 1))
        if output_activation is not None:
            layers.append(activation(output_activation, 1))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (..., F), mask: (...) bool, True at real steps. Returns (...); what stands at padding means nothing."""
        if x.device.type == "cpu":  # where finding the real steps costs nothing, only they are computed
            real = mask.flatten().nonzero().squeeze(1)
            rows = self._run(x.flatten(0, -2)[real], mask.new_ones(len(real)))
            return x.new_zeros(mask.numel()).index_copy(0, real, rows).view(mask.shape)
        return self._run(x.flatten(0, -2), mask.flatten()).view(mask.shape)

    def _run(self, rows: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            rows = layer(rows, mask) if isinstance(layer, Dice) else layer(rows)
        return rows.squeeze(1)
