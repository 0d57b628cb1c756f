"""Deep Interest Evolution Network (Zhou et al., AAAI 2019, arXiv 1809.03672)."""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from . import keywords
from .aux_negatives import ZOO_COLUMNS, negative_source
from .candidate_scoring import Arrays, CandidateScorer, make_scorer
from .changed_keywords import refuse_changed
from .explanation import explain
from .fields import check_pooled_sizes, embedding_sizes, profile_fields, sequence_fields, total_size
from .interest_sequence import (
    AttentionOptions,
    AuxiliaryOptions,
    Behaviours,
    Evolution,
    Interests,
    InterestSequence,
)
from .kernels.backends import dropout_masks
from .layers.batch_norm import running_statistics
from .layers.dropout import replace_dropout
from .validation import check_backend, check_keywords, check_layers


class DIEN(BaseModel):
    """Model of interests: one GRU extracts them, a second evolves them to the target.

    Every keyword of the zoo's DIEN keeps its meaning and default; the keywords from `gru_hidden_size` on are new.

    Fields are a feature's name, a tuple of names (one behaviour of several fields), or a list of either (several
    sequences, each with its own target tuple and its own auxiliary loss). Methods take and return lists with one entry
    per sequence.

    Args:
        feature_map: the zoo's FeatureMap.
        the keywords: see `keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, or fields do not match the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "DIEN",
        gpu: keywords.Gpu = -1,
        dnn_hidden_units: keywords.DnnHiddenUnits = [200, 80],
        dnn_activations: keywords.DnnActivations = "ReLU",
        learning_rate: keywords.LearningRate = 1e-3,
        embedding_dim: keywords.EmbeddingDim = 16,
        net_dropout: keywords.NetDropout = 0,
        batch_norm: keywords.BatchNorm = True,
        dien_target_field: keywords.DienTargetField = [("item_id", "cate_id")],
        dien_sequence_field: keywords.DienSequenceField = [("click_history", "cate_history")],
        dien_neg_seq_field: keywords.DienNegSeqField = ZOO_COLUMNS,
        gru_type: keywords.GruType = "AUGRU",
        enable_sum_pooling: keywords.EnableSumPooling = False,
        attention_dropout: keywords.AttentionDropout = 0,
        attention_type: keywords.AttentionType = "bilinear_attention",
        attention_hidden_units: keywords.AttentionHiddenUnits = [80, 40],
        attention_activation: keywords.AttentionActivation = "Dice",
        use_attention_softmax: keywords.UseAttentionSoftmax = True,
        aux_hidden_units: keywords.AuxHiddenUnits = [100, 50],
        aux_activation: keywords.AuxActivation = "ReLU",
        aux_loss_alpha: keywords.AuxLossAlpha = 0,
        embedding_regularizer: keywords.EmbeddingRegularizer = None,
        net_regularizer: keywords.NetRegularizer = None,
        gru_hidden_size: keywords.GruHiddenSize = None,
        augru_gate: keywords.AugruGate = "paper",
        aux_scorer: keywords.AuxScorer = "net",
        aux_negatives: keywords.AuxNegatives = None,
        aux_num_negatives: keywords.AuxNumNegatives = 1,
        aux_fixed_negatives: keywords.AuxFixedNegatives = False,
        aux_loss_weighting: keywords.AuxLossWeighting = "uniform",
        recurrence_backend: keywords.RecurrenceBackend = "auto",
        **kwargs: Any,
    ) -> None:
        refuse_changed(kwargs)
        check_keywords(DIEN.__init__, locals())
        check_layers("dnn_activations", dnn_activations, dnn_hidden_units)
        check_backend(recurrence_backend)
        super().__init__(
            feature_map,
            model_id=model_id,
            gpu=gpu,
            embedding_regularizer=embedding_regularizer,
            net_regularizer=net_regularizer,
            **kwargs,
        )
        if gpu >= 0 and self.device.type == "cpu":
            logging.warning("gpu: %s: no CUDA device is available, running on the CPU", gpu)
        kind = evolution_kind(gru_type, augru_gate)
        has_auxiliary = aux_loss_alpha > 0
        features = feature_map.features
        every = sequence_fields(features, dien_target_field, dien_sequence_field, dien_neg_seq_field)
        self.aux_loss_alpha = aux_loss_alpha
        self.gru_type = gru_type
        self.enable_sum_pooling = enable_sum_pooling
        self.aux_negatives = negative_source(aux_negatives, every[0], dien_neg_seq_field if has_auxiliary else [])

        self.embedding_layer = FeatureEmbeddingDict(feature_map, embedding_dim)
        sizes = embedding_sizes(features, self.embedding_layer)
        column_negatives = has_auxiliary and self.aux_negatives == "column"
        self.profile_fields = profile_fields(features, sizes, every, column_negatives)
        mlp_size = total_size(sizes, self.profile_fields)
        self.sequences: list[InterestSequence] = cast(Any, nn.ModuleList())
        attention = AttentionOptions(
            attention_type=attention_type,
            hidden_units=attention_hidden_units,
            activation=attention_activation,
            dropout=attention_dropout,
            use_softmax=use_attention_softmax,
        )
        auxiliary = AuxiliaryOptions(
            scorer=aux_scorer,
            hidden_units=aux_hidden_units,
            activation=aux_activation,
            dropout=net_dropout,
            weighting=aux_loss_weighting,
            source=self.aux_negatives,
            negatives=aux_num_negatives,
            fixed=aux_fixed_negatives,
        )
        for fields in every:
            item, behaviour = total_size(sizes, fields.target), total_size(sizes, fields.behaviours)
            hidden = gru_hidden_size or behaviour
            mlp_size += hidden + 2 * behaviour * enable_sum_pooling
            if enable_sum_pooling:
                check_pooled_sizes(fields, item, behaviour)
            sequence = InterestSequence.build(
                feature_map=feature_map,
                fields=fields,
                behaviour_size=behaviour,
                target_size=item,
                hidden_size=hidden,
                kind=kind,
                attention=attention,
                auxiliary=auxiliary if has_auxiliary else None,
                backend=recurrence_backend,
            )
            self.sequences.append(sequence)
        self.dnn = MLP_Block(
            input_dim=mlp_size,
            output_dim=1,
            hidden_units=dnn_hidden_units,
            hidden_activations=dnn_activations,  # pyright: ignore[reportArgumentType]
            output_activation=None,
            dropout_rates=net_dropout,
            batch_norm=batch_norm,
        )
        replace_dropout(self.dnn, partial(dropout_masks, recurrence_backend))
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """Score a batch of the zoo's loaders.

        Returns:
            `y_pred` (B, 1), `logits` (B, 1), and in training with α > 0 the scalar `aux_loss`.
        """
        X = self.get_inputs(inputs)
        auxiliary = self.training and self.aux_loss_alpha > 0
        profile = self.embed_profile(X)
        targets = self.embed_targets(profile)
        behaviours = self.embed_behaviours(X, with_negatives=auxiliary)
        interests = self.extract(behaviours)
        evolutions = self.trace(interests, targets)
        logits = self.predict_logits(profile, targets, interests, [evolution.final for evolution in evolutions])
        result = {"y_pred": self.output_activation(logits), "logits": logits}
        if auxiliary:
            result["aux_loss"] = self.auxiliary_loss(interests, evolutions)
        return result

    def embed_profile(self, X: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return embeddings (B, size) of all features that have one vector per row.

        These are the target, user and context features, and pooled sequences.
        """
        return self.embedding_layer({name: X[name] for name in self.profile_fields})

    def embed_targets(self, profile: dict[str, Tensor]) -> list[Tensor]:
        """Return the target embeddings e_a from the profile, one (B, D) per sequence."""
        return [torch.cat([profile[name] for name in sequence.fields.target], dim=-1) for sequence in self.sequences]

    def embed_behaviours(self, X: dict[str, Tensor], with_negatives: bool = False) -> list[Behaviours]:
        """Embed the real steps e_t of each sequence.

        Args:
            X: the sequence features, each (B, T).
            with_negatives: also draws the negatives that `auxiliary_loss` needs; only for a model with α > 0.
        """
        return [sequence.embed(X, self.embedding_layer, with_negatives) for sequence in self.sequences]

    def extract(self, behaviours: list[Behaviours], states: list[Tensor] | None = None) -> list[Interests]:
        """Extract the interests of each sequence, (2)-(5).

        The result does not depend on a target, so that one call per user is enough for many candidates.

        Args:
            behaviours: embedded behaviours, one per sequence.
            states: initial states, one (B, H) per sequence: the `final` of the interests of earlier steps; zeros if
                None.
        """
        return [sequence.extract(*parts) for sequence, *parts in self._each(behaviours, states)]

    def trace(
        self, interests: list[Interests], targets: list[Tensor], states: list[Tensor] | None = None
    ) -> list[Evolution]:
        """Evolve the interests of each sequence towards the target, (8)-(12).

        Args:
            interests: interests of B users, or of one user for B candidates.
            targets: target embeddings, one (B, D) per sequence.
            states: initial states, one (B, H) per sequence: the `final` of earlier steps; zeros if None. The result
                equals the evolution over all steps only without a softmax or with the plain GRU, since a softmax over
                the later steps alone gives other weights.
        """
        return [sequence.trace(*parts) for sequence, *parts in self._each(interests, targets, states)]

    def evolve(
        self, interests: list[Interests], targets: list[Tensor], states: list[Tensor] | None = None
    ) -> list[Tensor]:
        """Return the final states h'_T of `trace`, one (B, H) per sequence.

        Args:
            interests: see `trace`.
            targets: see `trace`.
            states: see `trace`.
        """
        return [evolution.final for evolution in self.trace(interests, targets, states)]

    def evolve_candidates(
        self, interests: list[Interests], targets: list[Tensor], states: list[Tensor] | None = None
    ) -> list[Tensor]:
        """Return the final states for one user's interests and B candidates.

        The result is that of `evolve`. Terms that do not depend on the candidate are computed once. There are no
        gradients.
        """
        return [sequence.evolve_candidates(*parts) for sequence, *parts in self._each(interests, targets, states)]

    def scorer(self) -> CandidateScorer:
        """Return a function that scores one user's candidates as `forward` does.

        Scores agree within 1e-5.

        The function takes the user's features by name, (1,) or for sequences (1, T), the candidates' features, (N,),
        all as NumPy arrays, and N. A feature with one value per row may be the user's or the candidates'. The function
        returns (N,) float32, and raises IndexError for an id without an embedding.

        On a CPU with the `compiled` backend it is one native call in one thread. It uses a copy of the current weights,
        except for the embeddings, which it shares with the model. If the native call does not support the model, torch
        scores, and one log line says why.
        """
        return make_scorer(self)

    @property
    def explained_fields(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Return the target features and behaviour features of each explained sequence."""
        return [(sequence.fields.target, sequence.fields.behaviours) for sequence in self.sequences]

    def explain(self, user: Arrays, candidates: Arrays, count: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Return the scores of one user's candidates, and where they come from.

        Args:
            user: features of the user by name, as for the function that `scorer` returns.
            candidates: features of the candidates by name, each (N,).
            count: N, at least 1.

        Returns:
            The scores (N,), and one dict per sequence with T real behaviours: `attention` (8), (N, T), None for
            gru_type GRU; `states`, (N, T, H), h'_1 to h'_T; and, unless gru_type is GRU, `untargeted`: attention (T,)
            and states (T, H) without a candidate, with equal attention for all behaviours.
        """
        return explain(self, user, candidates, count)

    def export_module(self, form: str) -> nn.Module:
        """Return a module for `torch.export` that scores N candidates of B users.

        The module reads padded rows.

        Args:
            form: file format that it is exported to, `onnx` or `torch`; see `export_module.make_export_module`.
        """
        from .export_module import make_export_module  # imported here: no training needs the loops of the export

        return make_export_module(self, form)

    def for_serving(self, params: dict[str, Any]) -> tuple[type[BaseModel], dict[str, Tensor], dict[str, Any]]:
        """Return a class, weights and keywords that score as this model does.

        They leave out what only training needs.

        Args:
            params: keywords of this model, and further keys of its experiment.
        """
        return type(self), self.state_dict(), {**params, "aux_loss_alpha": 0}

    def predict_logits(
        self, profile: dict[str, Tensor], targets: list[Tensor], interests: list[Interests], evolved: list[Tensor]
    ) -> Tensor:
        """Return the logits (B, 1) of the MLP.

        Its input is the final interests, the pooled behaviours (with enable_sum_pooling) and the profile.
        """
        parts = []
        for target, interest, final in zip(targets, interests, evolved, strict=True):
            parts.append(final)
            if self.enable_sum_pooling:
                pooled = interest.behaviours.sum()
                parts += [pooled.expand_as(target), target * pooled]
        features = torch.cat([*parts, *(profile[name] for name in self.profile_fields)], dim=-1)
        with running_statistics(self.dnn, when=len(features) == 1):
            return self.dnn(features)

    def auxiliary_loss(self, interests: list[Interests], evolutions: list[Evolution] | None = None) -> Tensor:
        """Return L_aux of (6), summed over the sequences.

        Args:
            interests: interests of behaviours that were embedded with negatives.
            evolutions: evolutions towards the target; required if target attention weights the steps.
        """
        each = self._each(interests, evolutions)
        return torch.stack([sequence.next_behaviour_loss(*parts) for sequence, *parts in each]).sum()

    def add_loss(self, return_dict: dict[str, Any], y_true: Tensor) -> Tensor:
        """Return L = L_target + α L_aux, (7)."""
        if "aux_loss" not in return_dict:
            return super().add_loss(return_dict, y_true)
        weighed = self.aux_loss_alpha * return_dict["aux_loss"]
        return super().add_loss(return_dict, y_true) + weighed

    @torch.no_grad()
    def diagnostics(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return attention and update gates at the real steps of a batch.

        Each value is flat; the key ends with the name of the sequence.
        """
        X = self.get_inputs(inputs)
        interests = self.extract(self.embed_behaviours(X))
        evolutions = self.trace(interests, self.embed_targets(self.embed_profile(X)))
        values = {}
        for sequence, *parts in self._each(interests, evolutions):
            named = sequence.diagnostics(*parts)
            values |= {f"{what}/{sequence.fields.behaviours[0]}": value for what, value in named.items()}
        return values

    def _each(self, *parts: list[Any] | None) -> Iterator[tuple[Any, ...]]:
        """Yield each sequence with its entries of the lists; None for a missing list."""
        without = [None] * len(self.sequences)
        return zip(self.sequences, *(without if part is None else part for part in parts), strict=True)


def evolution_kind(gru_type: str, augru_gate: str) -> str:
    """Return the kind of the second layer under its name in `attentional_gru`.

    Only AUGRU has two gates.
    """
    return "AUGRU-tensorflow" if (gru_type, augru_gate) == ("AUGRU", "tensorflow") else gru_type
