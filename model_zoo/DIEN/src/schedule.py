"""Which losses an epoch of training has."""

from collections.abc import Sequence
from dataclasses import dataclass

from .keywords import check_weight

Alpha = float | list[float]


@dataclass(frozen=True)
class LossSchedule:
    """L = L_target + α L_aux, (7), with an α for each epoch; the first epochs may be of L_aux alone.

    Attributes:
        alphas: α of each epoch from 0, the last of all that follow.
        pretrain_epochs: in so many epochs the loss is α L_aux.
    """

    alphas: Sequence[float]
    pretrain_epochs: int

    @classmethod
    def of(cls, aux_loss_alpha: Alpha, aux_pretrain_epochs: int) -> "LossSchedule":
        """By the keywords.

        Raises:
            ValueError: an α that is no weight, none at all, an epoch without any loss, or a number of epochs below 0.
        """
        alphas = aux_loss_alpha if isinstance(aux_loss_alpha, (list, tuple)) else [aux_loss_alpha]
        for alpha in alphas:
            check_weight(aux_loss_alpha=alpha)
        if not alphas:
            raise ValueError(
                "aux_loss_alpha=[] has no entry; a list has one for each epoch, the last for all that follow"
            )
        if not isinstance(aux_pretrain_epochs, int) or isinstance(aux_pretrain_epochs, bool) or aux_pretrain_epochs < 0:
            raise ValueError(f"aux_pretrain_epochs={aux_pretrain_epochs!r} must be a whole number, 0 or more")
        made = cls(alphas, aux_pretrain_epochs)
        if made.has_auxiliary and not all(map(made.alpha, range(aux_pretrain_epochs))):
            raise ValueError(
                f"aux_pretrain_epochs={aux_pretrain_epochs} with aux_loss_alpha={aux_loss_alpha!r} has epochs without "
                "a loss: where the auxiliary loss is alone its weight must be above 0"
            )
        return made

    @property
    def has_auxiliary(self) -> bool:
        """Whether any epoch has an auxiliary loss."""
        return any(self.alphas)

    def alpha(self, epoch: int) -> float:
        """Of an epoch, from 0."""
        return self.alphas[min(epoch, len(self.alphas) - 1)]

    def is_of_auxiliary_alone(self, epoch: int) -> bool:
        """Whether an epoch, from 0, has no target loss."""
        return self.has_auxiliary and epoch < self.pretrain_epochs
