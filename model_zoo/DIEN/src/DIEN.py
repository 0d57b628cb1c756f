"""Deep Interest Evolution Network (Zhou et al., AAAI 2019, arXiv 1809.03672) for the CTR model zoo FuxiCTR."""

import math
from typing import Any, cast

import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from .fields import (
    Field,
    embedding_sizes,
    oov_index,
    profile_fields,
    sequence_fields,
    vocabulary_of,
)
from .keywords import check_activations, check_backend, check_choice, check_sizes
from .layers.attention import InterestAttention
from .layers.attentional_gru import AttentionalGRU
from .layers.auxiliary_loss import AuxiliaryLoss
from .layers.kinds import GRU_TYPES
from .layers.lookup import Steps, lookup
from .layers.packing import pack
from .negatives import BatchPool, Catalogue, draw_against
from .sequences import Evolution, Interests
from .single_row import running_statistics

AUX_NEGATIVES = ("column", "in_batch", "popularity", "uniform")


class DIEN(BaseModel):
    """Interests are extracted from the behaviours by a GRU, and evolve towards the target item in a second one.

    Every keyword of the zoo's DIEN has its meaning and default; those from ``gru_hidden_size`` on are new.
    Fields are a feature's name, a tuple of names (one behaviour of several fields), or a list of either (several
    sequences, each with its own target tuple and its own auxiliary loss).

    Args:
        feature_map: the zoo's FeatureMap.
        dien_target_field, dien_sequence_field, dien_neg_seq_field: target item, behaviours, negatives by columns.
        gru_type: second layer: ``GRU``, ``AIGRU`` (9), ``AGRU`` (10) or ``AUGRU`` (11)-(12).
        enable_sum_pooling: adds Σe_t and e_a * Σe_t to the MLP's input, as the authors' program does.
        attention_type: ``bilinear_attention`` (8), ``dot_attention`` or ``din_attention``.
        aux_loss_alpha: α of (7), the weight of the auxiliary loss; 0 is none.
        gru_hidden_size: H, states of both layers; None: the size of the behaviour's embedding.
        augru_sign: ``paper``, or ``code`` for the authors' program, where attention scales the gate that keeps.
        aux_scorer: ``net`` on [h, e] or ``inner_product``.
        aux_negatives: ``column`` (``dien_neg_seq_field``), ``in_batch``, ``popularity`` or ``uniform`` (the last two
            draw from the data set's behaviour catalogue); None: ``column`` where those columns exist, else
            ``in_batch``.
        aux_num_negatives: negatives a step, drawn afresh at every step (columns give one).
        recurrence_backend: ``auto``, the fastest that this machine has, or ``compiled`` (C++, on a CPU),
            ``triton`` (on a GPU), ``torch``, ``reference``.

    Raises:
        ValueError: a keyword's value that is not allowed, or fields that do not fit the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: str = "DIEN",
        gpu: int = -1,
        dnn_hidden_units: list[int] = [200, 80],
        dnn_activations: str | list[str] = "ReLU",
        learning_rate: float = 1e-3,
        embedding_dim: int = 16,
        net_dropout: float = 0,
        batch_norm: bool = True,
        dien_target_field: Field = [("item_id", "cate_id")],
        dien_sequence_field: Field = [("click_history", "cate_history")],
        dien_neg_seq_field: Field = [("neg_click_history", "neg_cate_history")],
        gru_type: str = "AUGRU",
        enable_sum_pooling: bool = False,
        attention_dropout: float = 0,
        attention_type: str = "bilinear_attention",
        attention_hidden_units: list[int] = [80, 40],
        attention_activation: str | list[str] = "Dice",
        use_attention_softmax: bool = True,
        aux_hidden_units: list[int] = [100, 50],
        aux_activation: str | list[str] = "ReLU",
        aux_loss_alpha: float = 0,
        embedding_regularizer: str | float | None = None,
        net_regularizer: str | float | None = None,
        gru_hidden_size: int | None = None,
        augru_sign: str = "paper",
        aux_scorer: str = "net",
        aux_negatives: str | None = None,
        aux_num_negatives: int = 1,
        recurrence_backend: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            feature_map,
            model_id=model_id,
            gpu=gpu,
            embedding_regularizer=embedding_regularizer,
            net_regularizer=net_regularizer,
            **kwargs,
        )
        check_choice("gru_type", gru_type, GRU_TYPES)
        check_choice("augru_sign", augru_sign, ("paper", "code"))
        check_choice("aux_negatives", aux_negatives, (None, *AUX_NEGATIVES))
        check_backend(recurrence_backend)
        if not (isinstance(aux_loss_alpha, (int, float)) and 0 <= aux_loss_alpha < math.inf):
            raise ValueError(f"aux_loss_alpha={aux_loss_alpha!r} must be a finite number, 0 or more")
        check_sizes(
            embedding_dim=embedding_dim,
            dnn_hidden_units=dnn_hidden_units,
            aux_hidden_units=aux_hidden_units,
            attention_hidden_units=attention_hidden_units,
            aux_num_negatives=aux_num_negatives,
            gru_hidden_size=1 if gru_hidden_size is None else gru_hidden_size,
        )
        check_activations("dnn_activations", dnn_activations)
        self.gru_type = gru_type
        self.enable_sum_pooling = enable_sum_pooling
        self.aux_loss_alpha = aux_loss_alpha
        self.aux_num_negatives = aux_num_negatives
        self.sequences = sequence_fields(
            feature_map.features, dien_target_field, dien_sequence_field, dien_neg_seq_field
        )
        self.aux_negatives = aux_negatives or ("column" if self.sequences[0].negatives else "in_batch")
        if self.aux_negatives == "column" and not self.sequences[0].negatives:
            raise ValueError(
                f"aux_negatives='column' needs columns that exist; dien_neg_seq_field={dien_neg_seq_field!r}"
            )

        self.embedding_layer = FeatureEmbeddingDict(feature_map, embedding_dim)
        sizes = embedding_sizes(feature_map.features, self.embedding_layer)
        column_negatives = aux_loss_alpha > 0 and self.aux_negatives == "column"
        self.profile_fields = profile_fields(feature_map.features, sizes, self.sequences, column_negatives)
        mlp_size = sum(sizes[name][-1] for name in self.profile_fields)
        self.extractors, self.attentions, self.evolutions = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.aux_losses, self.catalogues = nn.ModuleList(), nn.ModuleList()
        for target, behaviours, _ in self.sequences:
            target_size = sum(sizes[name][-1] for name in target)
            behaviour_size = sum(sizes[name][-1] for name in behaviours)
            hidden = gru_hidden_size or behaviour_size
            if enable_sum_pooling and target_size != behaviour_size:
                raise ValueError(
                    f"enable_sum_pooling multiplies {'+'.join(target)} (size {target_size}) with "
                    f"{'+'.join(behaviours)} (size {behaviour_size}): their sizes must agree"
                )
            self.extractors.append(AttentionalGRU(behaviour_size, hidden, "GRU", recurrence_backend))
            if gru_type != "GRU":
                self.attentions.append(
                    InterestAttention(
                        hidden,
                        target_size,
                        attention_type,
                        attention_hidden_units,
                        attention_activation,
                        attention_dropout,
                        use_attention_softmax,
                        backend=recurrence_backend,
                    )
                )
            kind = "AUGRU-code" if (gru_type, augru_sign) == ("AUGRU", "code") else gru_type
            self.evolutions.append(AttentionalGRU(hidden, hidden, kind, recurrence_backend))
            mlp_size += hidden + 2 * behaviour_size * enable_sum_pooling
            if aux_loss_alpha > 0:
                self.aux_losses.append(
                    AuxiliaryLoss(
                        hidden,
                        behaviour_size,
                        aux_scorer,
                        aux_hidden_units,
                        aux_activation,
                        net_dropout,
                        recurrence_backend,
                    )
                )
                if self.aux_negatives in ("popularity", "uniform"):
                    self.catalogues.append(
                        Catalogue.load(
                            feature_map.data_dir,
                            behaviours,
                            self._oov(behaviours),
                            by_popularity=self.aux_negatives == "popularity",
                        )
                    )
        self.dnn = MLP_Block(
            input_dim=mlp_size,
            output_dim=1,
            hidden_units=dnn_hidden_units,
            hidden_activations=dnn_activations,  # pyright: ignore[reportArgumentType]
            output_activation=None,
            dropout_rates=net_dropout,
            batch_norm=batch_norm,
        )
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """Scores a batch of the zoo's loaders.

        Returns:
            ``y_pred`` (B, 1), ``logits`` (B, 1), and in training with α > 0 the scalar ``aux_loss``.
        """
        X = self.get_inputs(inputs)
        profile = self.embed_profile(X)
        targets = self.embed_targets(profile)
        interests = self.extract(X)
        evolved = self.evolve(interests, targets)
        logits = self.predict_logits(profile, targets, interests, evolved)
        result = {"y_pred": self.output_activation(logits), "logits": logits}
        if self.training and self.aux_loss_alpha > 0:
            result["aux_loss"] = self.auxiliary_loss(interests)
        return result

    def embed_profile(self, X: dict[str, Tensor]) -> dict[str, Tensor]:
        """Embeddings of all that has one value a row: target, user, context, pooled sequences; each (B, size)."""
        return self.embedding_layer({name: X[name] for name in self.profile_fields})

    def embed_targets(self, profile: dict[str, Tensor]) -> list[Tensor]:
        """Target embeddings e_a, one (B, D) a sequence, out of the profile."""
        return [torch.cat([profile[name] for name in fields.target], dim=-1) for fields in self.sequences]

    def extract(self, X: dict[str, Tensor], states: list[Tensor] | None = None) -> list[Interests]:
        """Interest extractor, (2)-(5): needs no target, so once a user is enough.

        In training with α > 0 it draws the negatives of :meth:`auxiliary_loss`, too.

        Args:
            X: the sequence features, each (B, T).
            states: where to go on, one (B, H) a sequence: the ``final`` of earlier behaviours' interests.
        """
        interests = []
        auxiliary = self.training and self.aux_loss_alpha > 0
        for i, fields in enumerate(self.sequences):
            column_negatives = fields.negatives if auxiliary and self.aux_negatives == "column" else ()
            packed, packing = pack([X[name].long() for name in (*fields.behaviours, *column_negatives)])
            clicked, columns = packed[: len(fields.behaviours)], packed[len(fields.behaviours) :]
            ids, negatives, valid = torch.stack(clicked), None, None
            if auxiliary:
                negative_ids, valid = self._negatives(i, ids, columns)
                behaviours, negatives = self._embed(
                    (fields.behaviours, clicked), (column_negatives or fields.behaviours, negative_ids)
                )
            else:
                (behaviours,) = self._embed((fields.behaviours, clicked))
            hidden, final = self.extractors[i](behaviours, packing, state=states[i] if states else None)
            interests.append(Interests(ids, behaviours, packing, hidden, final, negatives, valid))
        return interests

    def evolve(
        self, interests: list[Interests], targets: list[Tensor], states: list[Tensor] | None = None
    ) -> list[Tensor]:
        """Interest evolution towards the target: the final states h'_T of :meth:`trace`, one (B, H) a sequence.

        Without gradients, the candidates of one user share what does not depend on them.
        """
        one_user = len(interests[0].final) == 1 and len(targets[0]) > 1
        if torch.is_grad_enabled() or not one_user:
            return [evolution.final for evolution in self.trace(interests, targets, states)]
        evolved = []
        for i, (interest, target) in enumerate(zip(interests, targets, strict=True)):
            attention = None
            if self.gru_type != "GRU":
                attention = cast(InterestAttention, self.attentions[i]).for_candidates(interest.states, target)
            state = states[i] if states else interest.final.new_zeros(len(target), interest.final.size(1))
            evolution = cast(AttentionalGRU, self.evolutions[i])
            evolved.append(evolution.for_candidates(interest.states, attention, state))
        return evolved

    def trace(
        self, interests: list[Interests], targets: list[Tensor], states: list[Tensor] | None = None
    ) -> list[Evolution]:
        """Interest evolution towards the target with all its steps, (8)-(12).

        Args:
            interests: of B users, or of one user for B candidates.
            targets: target embeddings, one (B, D) a sequence.
            states: where to go on, one (B, H) a sequence.

        Returns:
            One a sequence.
        """
        evolutions = []
        for i, (interest, target) in enumerate(zip(interests, targets, strict=True)):
            hidden, packing = interest.states, interest.packing
            if len(target) != len(interest.final):
                hidden, packing = hidden.repeat(len(target), 1), packing.repeat(len(target))
            attention = None
            if self.gru_type != "GRU":
                attention = self.attentions[i](hidden, target, packing)
            steps = self.evolutions[i](hidden, packing, attention, states[i] if states else None)
            evolutions.append(Evolution(attention, *steps))
        return evolutions

    def predict_logits(
        self, profile: dict[str, Tensor], targets: list[Tensor], interests: list[Interests], evolved: list[Tensor]
    ) -> Tensor:
        """The MLP on final interests, pooled behaviours (optional) and profile. Returns (B, 1)."""
        parts = []
        for target, interest, final in zip(targets, interests, evolved, strict=True):
            parts.append(final)
            if self.enable_sum_pooling:
                pooled = interest.packing.sum(interest.behaviours)
                parts += [pooled.expand_as(target), target * pooled]
        features = torch.cat([*parts, *(profile[name] for name in self.profile_fields)], dim=-1)
        with running_statistics(self.dnn, when=len(features) == 1):
            return self.dnn(features)

    def auxiliary_loss(self, interests: list[Interests]) -> Tensor:
        """L_aux of (6), summed over the sequences; of interests extracted in training."""
        losses = [
            loss(interest.states, interest.behaviours, interest.packing, interest.negatives, interest.valid)
            for loss, interest in zip(self.aux_losses, interests, strict=True)
        ]
        return torch.stack(losses).sum()

    def add_loss(self, return_dict: dict[str, Any], y_true: Tensor) -> Tensor:
        """L = L_target + α L_aux, (7)."""
        loss = super().add_loss(return_dict, y_true)
        if "aux_loss" in return_dict:
            loss = loss + self.aux_loss_alpha * return_dict["aux_loss"]
        return loss

    @torch.no_grad()
    def diagnostics(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Attention and update gates at the real steps of a batch, each flat, named after the sequence."""
        X = self.get_inputs(inputs)
        interests = self.extract(X)
        evolutions = self.trace(interests, self.embed_targets(self.embed_profile(X)))
        values = {}
        for i, (fields, interest, evolution) in enumerate(zip(self.sequences, interests, evolutions, strict=True)):
            if evolution.attention is not None:
                values[f"attention/{fields.behaviours[0]}"] = evolution.attention
            gate = cast(AttentionalGRU, self.evolutions[i]).update_gate(
                interest.states, interest.packing, evolution.states
            )
            values[f"update_gate/{fields.behaviours[0]}"] = gate.flatten()
        return values

    def _negatives(self, i: int, ids: Tensor, columns: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Ids, one (N, K) a field, and which of them are negatives.

        Args:
            ids: (F, N), the behaviours'. columns: those of `dien_neg_seq_field` beside them, each (N,).
        """
        fields = self.sequences[i]
        if columns:
            valid = (columns[0] > 0) & self._known(fields.negatives, torch.stack(columns))
            features = self.feature_map.features
            if vocabulary_of(features, fields.behaviours[0]) == vocabulary_of(features, fields.negatives[0]):
                valid = valid & (columns[0] != ids[0])
            return [x.unsqueeze(-1) for x in columns], valid.unsqueeze(-1)
        if len(self.catalogues):
            pool = cast(Catalogue, self.catalogues[i])
        else:
            pool = BatchPool(ids[:, self._known(fields.behaviours, ids)])
        drawn, valid = draw_against(pool, ids[0], self.aux_num_negatives)
        return list(drawn), valid

    def _embed(self, *every: tuple[tuple[str, ...], list[Tensor]]) -> tuple[Tensor, ...]:
        """Embeddings of steps: names and ids, one a field, of each. Returns one (..., D) each."""
        names = {name for fields, _ in every for name in fields}
        tables = {name: self.embedding_layer.embedding_layers[name] for name in names}
        encoded = any(name in self.embedding_layer.feature_encoders for name in names)
        if not encoded and all(type(table) is nn.Embedding for table in tables.values()):
            return lookup(*(Steps([cast(nn.Embedding, tables[name]) for name in fields], ids) for fields, ids in every))
        embedded = [self.embedding_layer(dict(zip(*steps, strict=True))) for steps in every]
        return tuple(
            torch.cat([x[name] for name in fields], dim=-1) for x, (fields, _) in zip(embedded, every, strict=True)
        )

    def _oov(self, names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(oov_index(self.feature_map.features, name) for name in names)

    def _known(self, names: tuple[str, ...], ids: Tensor) -> Tensor:
        oov = torch.tensor(self._oov(names), device=ids.device).view(-1, 1)
        return (ids != oov).all(dim=0)
