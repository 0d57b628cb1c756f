"""The MLP that ends the models compared with DIEN."""

from fuxictr.pytorch.layers import MLP_Block
from torch import Tensor

from model_zoo.DIEN.src.layers.batch_norm import running_statistics


class ScoreMLP(MLP_Block):
    """The zoo's MLP with one output, which trains on a batch of one row too.

    Args:
        input_size: F.
        hidden_units: sizes of the hidden layers.
        activations: a name for all of them, or one each.
        dropout: rate after every hidden layer, or one each.
        batch_norm: batch normalisation before every activation.

    Raises:
        ValueError: not as many activations as hidden layers.
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
        """inputs: (B, F). Returns logits (B, 1)."""
        with running_statistics(self, when=self.training and len(inputs) == 1):
            return super().forward(inputs)
