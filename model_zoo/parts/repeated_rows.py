"""Export of models whose forward pass can be exported unchanged."""

from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn


class RepeatedRows(nn.Module):
    """Forward pass of a model on one row per candidate.

    No size in the model may depend on values.

    Args:
        model: a model in evaluation mode.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor], row: Tensor) -> Tensor:
        """Score N candidates of B users.

        Args:
            inputs: features by name: sequences (B, T), others (N,).
            row: (N,) int64, the user of each candidate.

        Returns:
            (N,), after the output activation.
        """
        features = self.model.feature_map.features
        rows = {name: x[row] if features[name]["type"] == "sequence" else x for name, x in inputs.items()}
        return self.model.forward(rows)["y_pred"].squeeze(1)
