"""One behaviour sequence of DIEN with its layers; packed rows as in `packing`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from torch import Tensor, nn

from .attention import AttentionType, InterestAttention
from .attentional_gru import AttentionalGRU
from .aux_negatives import NegativeSampler
from .auxiliary_loss import AuxiliaryLoss, Scorer, Weighting
from .embedding import embed_steps
from .fields import SequenceFields
from .kernels.reference import KINDS
from .layers.packing import Packing, pack


class Behaviours(NamedTuple):
    """Real steps of B rows, N in all.

    Attributes:
        embedded: (N, D), e_t.
        packing: places of the steps.
        negatives: (N, K, D), ê_t; None if none were drawn.
        valid: (N, K) bool, True for negatives.
    """

    embedded: Tensor
    packing: Packing
    negatives: Tensor | None = None
    valid: Tensor | None = None

    def sum(self) -> Tensor:
        """Return Σe_t, (B, D)."""
        return self.packing.sum(self.embedded)


class Interests(NamedTuple):
    """Interests in the behaviours, independent of any target.

    Attributes:
        behaviours: behaviours that the interests come from.
        states: (N, H), interest states h_t.
        final: (B, H), the extractor's state after the last behaviour.
    """

    behaviours: Behaviours
    states: Tensor
    final: Tensor


class Evolution(NamedTuple):
    """Evolution of the interests towards a target.

    Attributes:
        attention: (N,); None for the plain GRU.
        states: (N, H), h'_t.
        final: (B, H), h'_T.
    """

    attention: Tensor | None
    states: Tensor
    final: Tensor


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """Settings of the attention (8): `attention_*`, `use_attention_softmax`."""

    attention_type: AttentionType
    hidden_units: Sequence[int]
    activation: str | Sequence[str]
    dropout: float
    use_softmax: bool


@dataclass(frozen=True, kw_only=True)
class AuxiliaryOptions:
    """Settings of the auxiliary loss (6): `aux_*` and `net_dropout`."""

    scorer: Scorer
    hidden_units: Sequence[int]
    activation: str | Sequence[str]
    dropout: float
    weighting: Weighting
    source: str
    negatives: int
    fixed: bool


class InterestSequence(nn.Module):
    """Layers of one behaviour sequence, which extract and evolve its interests.

    Args:
        fields: the features of behaviours, target and negatives.
        extractor: the first layer, (2)-(5).
        attention: (8); None if the second layer is a plain GRU.
        evolution: the second layer, (9)-(12).
        auxiliary_loss: (6); None without an auxiliary loss.
        negatives: source of ê_t; None without an auxiliary loss.

    Raises:
        ValueError: the auxiliary loss is weighted by attention, but there is none, or it has no softmax.
    """

    def __init__(
        self,
        fields: SequenceFields,
        extractor: AttentionalGRU,
        attention: InterestAttention | None,
        evolution: AttentionalGRU,
        auxiliary_loss: AuxiliaryLoss | None,
        negatives: NegativeSampler | None,
    ) -> None:
        super().__init__()
        by_attention = auxiliary_loss is not None and auxiliary_loss.weighting == "target_attention"
        if by_attention and not (attention is not None and attention.use_softmax):
            lack = (
                "scores without a softmax are no weights"
                if attention is not None
                else f"gru_type: {evolution.kind} has none"
            )
            raise ValueError(f"aux_loss_weighting: target_attention needs attention weights: {lack}")
        self.fields = fields
        self.extractor = extractor
        self.attention = attention
        self.evolution = evolution
        self.auxiliary_loss = auxiliary_loss
        self.negatives = negatives

    @classmethod
    def build(
        cls,
        *,
        feature_map: FeatureMap,
        fields: SequenceFields,
        behaviour_size: int,
        target_size: int,
        hidden_size: int,
        kind: str,
        attention: AttentionOptions,
        auxiliary: AuxiliaryOptions | None,
        backend: str,
    ) -> "InterestSequence":
        """Build the layers of one sequence.

        Args:
            feature_map: the zoo's FeatureMap.
            fields: the features of behaviours, target and negatives.
            behaviour_size: size of a behaviour's embedding.
            target_size: size of the target's embedding.
            hidden_size: H, size of the states of both layers.
            kind: kind of the second layer, one of `kernels.reference.KINDS`.
            attention: settings of the attention.
            auxiliary: settings of the auxiliary loss; None without it.
            backend: backend of all layers.
        """
        extractor = AttentionalGRU(input_size=behaviour_size, hidden_size=hidden_size, kind="GRU", backend=backend)
        unit = loss = sampler = None
        if KINDS[kind].attends:
            unit = InterestAttention(
                interest_size=hidden_size,
                target_size=target_size,
                attention_type=attention.attention_type,
                hidden_units=attention.hidden_units,
                activation=attention.activation,
                dropout=attention.dropout,
                use_softmax=attention.use_softmax,
                backend=backend,
            )
        evolution = AttentionalGRU(input_size=hidden_size, hidden_size=hidden_size, kind=kind, backend=backend)
        if auxiliary is not None:
            loss = AuxiliaryLoss(
                interest_size=hidden_size,
                behaviour_size=behaviour_size,
                scorer=auxiliary.scorer,
                hidden_units=auxiliary.hidden_units,
                activation=auxiliary.activation,
                dropout=auxiliary.dropout,
                backend=backend,
                weighting=auxiliary.weighting,
            )
            sampler = NegativeSampler(
                feature_map=feature_map,
                fields=fields,
                source=auxiliary.source,
                samples=auxiliary.negatives,
                fixed=auxiliary.fixed,
            )
        return cls(
            fields=fields,
            extractor=extractor,
            attention=unit,
            evolution=evolution,
            auxiliary_loss=loss,
            negatives=sampler,
        )

    def embed(self, X: dict[str, Tensor], layer: FeatureEmbeddingDict, with_negatives: bool = False) -> Behaviours:
        """Embed the real steps, together with their negatives if these are drawn.

        Args:
            X: the sequence features, each (B, T).
            layer: the zoo's embedding layer.
            with_negatives: draws negatives for each step.

        Raises:
            ValueError: negatives are requested of a sequence without an auxiliary loss.
        """
        names = self.fields.behaviours
        if not with_negatives:
            ids, packing = pack([X[name].long() for name in names])
            (embedded,) = embed_steps(layer, (names, ids))
            return Behaviours(embedded, packing)
        if self.negatives is None:
            raise ValueError("with_negatives=True needs aux_loss_alpha > 0")
        columns = self.negatives.columns
        packed, packing = pack([X[name].long() for name in (*names, *columns)])
        ids, given = torch.stack(packed).tensor_split([len(names)])
        drawn, valid = self.negatives(ids, given)
        embedded, negatives = embed_steps(layer, (names, ids), (columns or names, drawn))
        return Behaviours(embedded, packing, negatives, valid)

    def extract(self, behaviours: Behaviours, state: Tensor | None = None) -> Interests:
        """Extract the interests, (2)-(5), starting from state (B, H), or zeros if None."""
        return Interests(behaviours, *self.extractor(behaviours.embedded, behaviours.packing, state=state))

    def trace(self, interests: Interests, target: Tensor, state: Tensor | None = None) -> Evolution:
        """Evolve the interests towards the target, (8)-(12).

        Args:
            interests: interests of B rows, or of one row for all targets.
            target: (B, D).
            state: (B, H), initial state; zeros if None.
        """
        hidden, packing = interests.states, interests.behaviours.packing
        if len(target) != len(interests.final):
            hidden, packing = hidden.repeat(len(target), 1), packing.repeat(len(target))
        attention = self.attention and self.attention(hidden, target, packing)
        return Evolution(attention, *self.evolution(hidden, packing, attention, state))

    def evolve_candidates(self, interests: Interests, targets: Tensor, state: Tensor | None = None) -> Tensor:
        """Return h'_T (B, H) for one row's interests and B candidates.

        Args:
            interests: interests of one row.
            targets: (B, D), candidates.
            state: (B, H), initial state; zeros if None.

        Raises:
            ValueError: the interests are those of several rows.
        """
        if len(interests.final) != 1:
            raise ValueError(f"evolve_candidates takes the interests of one user, got those of {len(interests.final)}")
        attention = self.attention and self.attention.for_candidates(interests.states, targets)
        if state is None:
            state = interests.final.new_zeros(len(targets), interests.final.size(1))
        return self.evolution.for_candidates(interests.states, attention, state)

    def next_behaviour_loss(self, interests: Interests, evolution: Evolution | None = None) -> Tensor:
        """Return L_aux of (6), a scalar.

        Args:
            interests: interests of behaviours that were embedded with negatives.
            evolution: evolution towards the target, whose attention may weight the steps.

        Raises:
            ValueError: the behaviours were embedded without negatives.
        """
        embedded, packing, negatives, valid = interests.behaviours
        if self.auxiliary_loss is None or negatives is None:
            raise ValueError("the auxiliary loss needs behaviours embedded with_negatives=True")
        attention = None if evolution is None else evolution.attention
        return self.auxiliary_loss(interests.states, embedded, packing, negatives, valid, attention)

    def diagnostics(self, interests: Interests, evolution: Evolution) -> dict[str, Tensor]:
        """Return attention (N,) and update gates (N * H,) at the real steps."""
        gate = self.evolution.update_gate(
            interests.states, interests.behaviours.packing, evolution.states, evolution.attention
        )
        attention = {} if evolution.attention is None else {"attention": evolution.attention}
        return {**attention, "update_gate": gate.flatten()}
