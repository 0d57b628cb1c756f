"""Final MLP of the models compared with DIEN."""

from fuxictr.pytorch.layers import MLP_Block
from torch import Tensor

from model_zoo.DIEN.src.layers.batch_norm import running_statistics


class ScoreMLP(MLP_Block):
    """The zoo's MLP with one output, which also trains on a batch of one row.

    Args:
        input_size: F.
        hidden_units: sizes of the hidden layers.
        activations: a name for all of them, or one each.
        dropout: rate after every hidden layer, or one each.
        batch_norm: whether batch normalisation precedes every activation.

    Raises:
        ValueError: the numbers of activations and hidden layers differ.
    """

    def __init__(
        self,
        input_size: int,
        hidden_units: list[int],
        activations: str | list[str],
        dropout: float | list[float],
        batch_norm: bool,
    ) -> None:
        if isinstance(activations, list) and len(activations) != len(hidden_units):
            raise ValueError(f"activations {activations} do not match hidden units {hidden_units}")
        super().__init__(
            input_dim=input_size,
            output_dim=1,
            hidden_units=hidden_units,
            hidden_activations=activations,  # pyright: ignore[reportArgumentType]
            dropout_rates=dropout,  # pyright: ignore[reportArgumentType]
            batch_norm=batch_norm,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, 1) of inputs (B, F)."""
        with running_statistics(self, when=self.training and len(inputs) == 1):
            return super().forward(inputs)
