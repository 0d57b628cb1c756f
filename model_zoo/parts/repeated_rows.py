"""What exports the models whose forward pass needs no other form for it."""

from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn


class RepeatedRows(nn.Module):
    """The forward pass of a model as it is, on one row per candidate: for a model in which no size depends on values.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor], row: Tensor) -> Tensor:
        """Score N candidates of B users.

        Args:
            inputs: of each sequence (B, T); of any other feature (N,).
            row: (N,) int64, the user of each candidate.

        Returns:
            (N,), after the output activation.
        """
        features = self.model.feature_map.features
        rows = {name: x[row] if features[name]["type"] == "sequence" else x for name, x in inputs.items()}
        return self.model.forward(rows)["y_pred"].squeeze(1)
