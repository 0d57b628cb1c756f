"""Behavior Sequence Transformer (Chen et al., DLP-KDD 2019, arXiv 1905.06874)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.validation import check_keywords
from model_zoo.parts import baseline_keywords as own
from model_zoo.parts.baseline import HistoryModel
from model_zoo.parts.history import HistoryFields
from model_zoo.parts.length_groups import in_length_groups
from model_zoo.parts.reverse import reverse_steps
from model_zoo.parts.transformer_block import check_heads

from .transformer import BehaviorTransformer


class BST(HistoryModel):
    """Model with a transformer over the target and its behaviours, and an MLP.

    The MLP also gets the profile. Every keyword of the zoo's BST keeps its meaning and default.

    The position of a step is its distance from the target: 0 is the target, 1 the newest behaviour. The paper also
    counts from the target, but in time: pos(v_i) = t(v_t) - t(v_i). A distance from the target depends neither on the
    padding of a row nor on its batch; a place counted from the oldest behaviour, or from the end of the row, would. The
    zoo counts places of the padded row, which gives an equal order for pre-padded rows, and initialises their
    embeddings with sinusoids.

    Args:
        feature_map: the zoo's FeatureMap.
        num_heads, stacked_transformer_layers: attention heads per block, and number of blocks.
        attention_dropout: dropout of the attention weights; `net_dropout` is the other dropout of the blocks, too.
        layer_norm, use_residual: whether the blocks have layer normalisation and residual connections.
        bst_target_field, bst_sequence_field: target item and behaviours, of equal size; fields as in DIEN.
        seq_pooling_type: how the MLP gets the steps: their `mean`, their `sum`, the step of the `target`, or `concat`,
            every step at its position.
        use_position_emb: concatenates an embedding of the position, of size embedding_dim, to each step.
        use_causal_mask: lets a step attend only to itself and older steps.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, or fields do not match the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "BST",
        dnn_hidden_units: keywords.DnnHiddenUnits = [256, 128, 64],
        num_heads: own.NumHeads = 2,
        stacked_transformer_layers: own.StackedTransformerLayers = 1,
        attention_dropout: keywords.AttentionDropout = 0,
        embedding_dim: keywords.EmbeddingDim = 10,
        net_dropout: keywords.NetDropout = 0,
        batch_norm: keywords.BatchNorm = False,
        layer_norm: own.LayerNorm = True,
        use_residual: own.UseResidual = True,
        bst_target_field: own.BstTargetField = [("item_id", "cate_id")],
        bst_sequence_field: own.BstSequenceField = [("click_history", "cate_history")],
        seq_pooling_type: own.SeqPoolingType = "mean",
        use_position_emb: own.UsePositionEmb = True,
        use_causal_mask: own.UseCausalMask = False,
        **kwargs: Any,
    ) -> None:
        check_keywords(BST.__init__, locals())
        super().__init__(
            feature_map,
            HistoryFields(bst_target_field, bst_sequence_field, prefix="bst_"),
            model_id=model_id,
            dnn_hidden_units=dnn_hidden_units,
            embedding_dim=embedding_dim,
            net_dropout=net_dropout,
            batch_norm=batch_norm,
            **kwargs,
        )
        position_size = embedding_dim if use_position_emb else 0
        self.transformers = nn.ModuleList()
        part_size = 0
        for fields, target, behaviour in zip(
            self.embedding_layer.sequences,
            self.embedding_layer.target_sizes,
            self.embedding_layer.behaviour_sizes,
            strict=True,
        ):
            if target != behaviour:
                raise ValueError(
                    f"bst_target_field={'+'.join(fields.target)} (size {target}) joins the steps of "
                    f"bst_sequence_field={'+'.join(fields.behaviours)} (size {behaviour}): their sizes "
                    "must agree"
                )
            size = behaviour + position_size
            check_heads(num_heads, size, f"a step of {'+'.join(fields.behaviours)} and its position")
            max_steps = feature_map.features[fields.behaviours[0]]["max_len"] + 1
            transformer = BehaviorTransformer(
                behaviour,
                position_size,
                max_steps,
                stacked_transformer_layers,
                num_heads,
                attention_dropout,
                net_dropout,
                layer_norm,
                use_residual,
                use_causal_mask,
                seq_pooling_type,
            )
            self.transformers.append(transformer)
            part_size += transformer.output_size
        self.finish(part_size)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
        histories, profile = self.embedding_layer(self.get_inputs(inputs))
        parts = []
        for history, transformer in zip(histories, self.transformers, strict=True):
            behaviours, mask = history.padded()
            newest_first = reverse_steps(behaviours, mask)
            steps = torch.cat([history.target.unsqueeze(1), newest_first], dim=1)
            parts.append(in_length_groups(transformer, F.pad(mask, (1, 0), value=True), [steps]))
        return self.score(parts, profile)
