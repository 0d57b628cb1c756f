"""Deep Session Interest Network (Feng et al., IJCAI 2019, arXiv 1905.06482)."""

from typing import Any

from torch import Tensor, nn

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.validation import check_keywords
from model_zoo.parts import baseline_keywords as own
from model_zoo.parts.baseline import HistoryModel
from model_zoo.parts.history import HistoryFields
from model_zoo.parts.length_groups import in_length_groups
from model_zoo.parts.transformer_block import check_heads

from .sessions import SessionInterests


class DSIN(HistoryModel):
    """Model that extracts interests session by session.

    Behaviours are similar within a session and differ between sessions. The paper keeps the latest sessions of a user
    and a limited number of behaviours per session; this model reads the whole history.

    Args:
        feature_map: the zoo's FeatureMap.
        target_field, sequence_field: target item and behaviours; fields as in DIEN.
        time_field: the builders' `session_history`, one per sequence: a session ends where the token changes.
        num_heads: number of heads of the self-attention; must divide the size of a behaviour.
        attention_dropout: dropout of the self-attention's weights; `net_dropout` is the other dropout of the block,
            too.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, or fields do not match the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "DSIN",
        net_dropout: keywords.NetDropout = 0,
        target_field: own.TargetField = [("item_id", "cate_id")],
        sequence_field: own.SequenceField = [("item_history", "cate_history")],
        time_field: own.TimeField = "session_history",
        num_heads: own.NumHeads = 2,
        attention_dropout: keywords.AttentionDropout = 0,
        **kwargs: Any,
    ) -> None:
        check_keywords(DSIN.__init__, locals())
        super().__init__(
            feature_map,
            HistoryFields(target_field, sequence_field, times=time_field),
            model_id=model_id,
            net_dropout=net_dropout,
            **kwargs,
        )
        self.sessions = nn.ModuleList()
        part_size = 0
        for fields, target, behaviour in zip(
            self.embedding_layer.sequences,
            self.embedding_layer.target_sizes,
            self.embedding_layer.behaviour_sizes,
            strict=True,
        ):
            check_heads(num_heads, behaviour, f"a step of {'+'.join(fields.behaviours)}")
            max_steps = feature_map.features[fields.behaviours[0]]["max_len"]
            sessions = SessionInterests(behaviour, target, max_steps, num_heads, attention_dropout, net_dropout)
            self.sessions.append(sessions)
            part_size += sessions.output_size
        self.finish(part_size)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
        histories, profile = self.embedding_layer(self.get_inputs(inputs))
        parts = []
        for history, sessions in zip(histories, self.sessions, strict=True):
            behaviours, mask = history.padded()
            steps = [behaviours, history.packing.pad(history.times)]
            parts.append(in_length_groups(sessions, mask, steps, [history.target]))
        return self.score(parts, profile)
