"""Rocket Launching (Zhou et al., AAAI 2018, arXiv 1708.04106) with DIEN.

A light DIEN is trained together with a booster, and served alone.
"""

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
    """DIEN with a light network that is trained with a booster and served alone.

    Both networks read the same embeddings, and the light network also learns the booster's logits:

            L = L(light) + L(booster) + λ mean (z_light - z_booster)²

    with L of a network as in DIEN, (7) of its paper, and z the logits. No gradient of the hint, the last term, reaches
    the booster. This model is the light network: only the light network is evaluated, and the monitor, early stopping
    and the learning rate's plateau follow it. In training the light network draws its dropout and negatives separately,
    so that with `shared_gradient: booster` the booster equals a DIEN that is trained alone, bit for bit.

    Args:
        feature_map: the zoo's FeatureMap.
        booster: keywords of `KEYWORDS` -> the booster's value.
        booster_checkpoint: weights of a trained booster. The booster and its embeddings then stay unchanged, and the
            light network is distilled: L = L(light) + λ mean (z_light - z_booster)².
        kwargs: all of DIEN's keywords, for the light network.

    Raises:
        ValueError: the value of a keyword is not allowed, fields do not match the data set, or a checkpoint does not
            match the booster.
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
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn on the CPU
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
        """Set the mode of all modules; a frozen booster stays in evaluation mode."""
        super().train(mode)
        if self.is_distilled:
            self.booster.eval()
        return self

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """Score a batch of the zoo's loaders by the light network.

        Returns:
            The outputs of DIEN; in training also the booster's, each named `booster_...`.
        """
        if not self.training:
            return super().forward(inputs)
        of_booster = {f"booster_{name}": value for name, value in self.booster(inputs).items()}
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            return super().forward(inputs) | of_booster

    def embed_profile(self, X: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what `DIEN.embed_profile` returns.

        The light network changes no embedding unless `shared_gradient` is `both`.
        """
        with self._shared():
            return super().embed_profile(X)

    def embed_behaviours(self, X: dict[str, Tensor], with_negatives: bool = False) -> list[Behaviours]:
        """Return what `DIEN.embed_behaviours` returns.

        The light network changes no embedding unless `shared_gradient` is `both`.
        """
        with self._shared():
            return super().embed_behaviours(X, with_negatives)

    def add_loss(self, return_dict: dict[str, Any], y_true: Tensor) -> Tensor:
        """Return the class's loss without regularisation.

        For outputs in evaluation it is the loss of the light network.
        """
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
        """Return the light network's parameters and the booster's, with the embeddings.

        With a single norm over both, the light network would scale the booster's gradient.
        """
        booster = list(self.booster.parameters())
        shared = set(map(id, booster))
        light = [parameter for parameter in self.parameters() if id(parameter) not in shared]
        return [light] if self.is_distilled else [light, booster]

    def light_state_dict(self) -> dict[str, Tensor]:
        """Return the light network's weights, for a DIEN with its keywords."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("booster.")}

    def for_serving(self, params: dict[str, Any]) -> tuple[type[BaseModel], dict[str, Tensor], dict[str, Any]]:
        """Return class, weights and keywords of the light network, a DIEN."""
        of_booster = signature(DIENLight.__init__).parameters.keys() - signature(DIEN.__init__).parameters.keys()
        kept = {key: value for key, value in params.items() if key not in of_booster}
        return DIEN, self.light_state_dict(), {**kept, "model": DIEN.__name__, "aux_loss_alpha": 0}

    def _shared(self) -> AbstractContextManager[None]:
        return torch.set_grad_enabled(torch.is_grad_enabled() and self.shared_gradient == "both")
