"""Rocket Launching (Zhou et al., AAAI 2018, arXiv 1708.04106): a light DIEN trained beside a booster, served alone."""

from contextlib import AbstractContextManager
from inspect import signature
from typing import Any, ClassVar

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from model_zoo.DIEN.src import DIEN, keywords
from model_zoo.DIEN.src.interest_sequence import Behaviours
from model_zoo.DIEN.src.validation import check_keywords
from model_zoo.parts import baseline_keywords as own

from .booster import KEYWORDS, check_booster, load_frozen


class DIENLight(DIEN):
    """The light net and its booster read the same embeddings, and the light net learns the booster's logits, too.

        L = L(light) + L(booster) + λ mean (z_light - z_booster)²

    with L of a net as DIEN has it, (7) of its paper, and z the logits. No gradient of the hint, the last term, reaches
    the booster. This model is the light net: it alone is evaluated, and the monitor, early stopping and the learning
    rate's plateau follow it. In training it draws its dropout and negatives apart, so that with `shared_gradient:
    booster` the booster is the DIEN that it would be alone, bit for bit.

    Args:
        feature_map: the zoo's FeatureMap.
        booster: one of `KEYWORDS` -> the booster's value.
        booster_checkpoint: with it the booster and its embeddings stay as they are, and the light net is distilled:
            L = L(light) + λ mean (z_light - z_booster)².
        kwargs: all of DIEN's keywords, for the light net.

    Raises:
        ValueError: a keyword's value that is not allowed, fields that do not fit the data set, or a checkpoint that
            does not fit the booster.
    """

    overrides: ClassVar[dict[str, frozenset[str]]] = {"booster": KEYWORDS}
    """Keyword -> the keywords that its mapping may hold."""

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "DIENLight",
        learning_rate: keywords.LearningRate = 1e-3,
        booster: own.Booster = None,
        hint_loss_weight: own.HintLossWeight = 1.0,
        shared_gradient: own.SharedGradient = "booster",
        booster_checkpoint: own.BoosterCheckpoint = None,
        **kwargs: Any,
    ) -> None:
        check_keywords(DIENLight.__init__, locals())
        check_booster(booster or {})
        if booster_checkpoint is not None and shared_gradient == "both":
            raise ValueError(
                "shared_gradient='both' would move the embeddings of the booster that booster_checkpoint "
                f"({booster_checkpoint!r}) freezes; allowed: booster"
            )
        of_both = {"model_id": model_id, "learning_rate": learning_rate}
        large = DIEN(feature_map, **of_both, **{**kwargs, **(booster or {})})
        with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
            super().__init__(feature_map, **of_both, **kwargs)
        self.hint_loss_weight = hint_loss_weight
        self.shared_gradient = shared_gradient
        self.is_distilled = booster_checkpoint is not None
        if booster_checkpoint is not None:
            load_frozen(large, booster_checkpoint)
        self.embedding_layer = large.embedding_layer
        self.booster = large
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)

    def train(self, mode: bool = True) -> "DIENLight":
        """As of any module; a frozen booster stays in evaluation."""
        super().train(mode)
        if self.is_distilled:
            self.booster.eval()
        return self

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """Scores a batch of the zoo's loaders by the light net.

        Returns:
            As of DIEN; in training beside it the booster's, each named `booster_...`.
        """
        if not self.training:
            return super().forward(inputs)
        of_booster = {f"booster_{name}": value for name, value in self.booster(inputs).items()}
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            return super().forward(inputs) | of_booster

    def embed_profile(self, X: dict[str, Tensor]) -> dict[str, Tensor]:
        """As of DIEN; the light net moves no embedding unless `shared_gradient` is `both`."""
        with self._shared():
            return super().embed_profile(X)

    def embed_behaviours(self, X: dict[str, Tensor], with_negatives: bool = False) -> list[Behaviours]:
        """As of DIEN; the light net moves no embedding unless `shared_gradient` is `both`."""
        with self._shared():
            return super().embed_behaviours(X, with_negatives)

    def add_loss(self, return_dict: dict[str, Any], y_true: Tensor) -> Tensor:
        """Return the class's loss without regularisation; of outputs in evaluation the light net's."""
        loss = super().add_loss(return_dict, y_true)
        of_booster = {
            name.removeprefix("booster_"): value for name, value in return_dict.items() if name.startswith("booster_")
        }
        if not of_booster:
            return loss
        if not self.is_distilled:
            loss = loss + self.booster.add_loss(of_booster, y_true)
        hint = F.mse_loss(return_dict["logits"], of_booster["logits"].detach())
        return loss + self.hint_loss_weight * hint

    def clip_groups(self) -> list[list[nn.Parameter]]:
        """The light net's parameters and the booster's, embeddings among them.

        One norm over both would let the light net scale the booster's gradient.
        """
        booster = list(self.booster.parameters())
        shared = set(map(id, booster))
        light = [parameter for parameter in self.parameters() if id(parameter) not in shared]
        return [light] if self.is_distilled else [light, booster]

    def light_state_dict(self) -> dict[str, Tensor]:
        """The light net's weights, which a DIEN with the light net's keywords loads."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("booster.")}

    def for_serving(self, params: dict[str, Any]) -> tuple[type[BaseModel], dict[str, Tensor], dict[str, Any]]:
        """Return those of the light net, a DIEN; as of DIEN."""
        of_booster = signature(DIENLight.__init__).parameters.keys() - signature(DIEN.__init__).parameters.keys()
        kept = {key: value for key, value in params.items() if key not in of_booster}
        return DIEN, self.light_state_dict(), {**kept, "model": DIEN.__name__, "aux_loss_alpha": 0}

    def _shared(self) -> AbstractContextManager[None]:
        return torch.set_grad_enabled(torch.is_grad_enabled() and self.shared_gradient == "both")
