"""DMN+ of Xiong et al. (ICML 2016, arXiv 1603.01417), applied to behaviours.

The paper is "Dynamic Memory Networks for Visual and Textual Question Answering".
"""

from typing import Any

import torch
from torch import Tensor, nn

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.validation import check_backend, check_keywords
from model_zoo.parts import baseline_keywords as own
from model_zoo.parts.baseline import HistoryModel
from model_zoo.parts.history import HistoryFields

from .memory import EpisodicMemory, InputFusion


class DMNPlus(HistoryModel):
    """Model that reads the history in several passes into a memory, given the target.

    In the paper's words the target is a question, the behaviours are facts, and the MLP gives the answer. DIEN takes
    AGRU from this paper; there it runs once, weighted by the target alone. The paper's sentences are behaviours'
    embeddings here, and its question's GRU, which would read one word, is q = tanh(W_q e_a + b_q). The MLP reads the
    last memory and the profile, which includes the target.

    Args:
        feature_map: the zoo's FeatureMap.
        target_field, sequence_field: target item and behaviours; fields as in DIEN.
        num_passes: number of passes over the history; the paper has 3.
        gate_hidden_size: size of the attention gate's hidden layer; None is the size of the facts.
        gru_hidden_size: size of facts, question and memory; None is the size of the behaviours.
        recurrence_backend: as in DIEN.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, or fields do not match the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "DMNPlus",
        net_dropout: keywords.NetDropout = 0,
        target_field: own.TargetField = [("item_id", "cate_id")],
        sequence_field: own.SequenceField = [("item_history", "cate_history")],
        num_passes: own.NumPasses = 3,
        gate_hidden_size: own.GateHiddenSize = None,
        gru_hidden_size: keywords.GruHiddenSize = None,
        recurrence_backend: keywords.RecurrenceBackend = "auto",
        **kwargs: Any,
    ) -> None:
        check_keywords(DMNPlus.__init__, locals())
        check_backend(recurrence_backend)
        super().__init__(
            feature_map,
            HistoryFields(target_field, sequence_field),
            model_id=model_id,
            net_dropout=net_dropout,
            **kwargs,
        )
        part_size = 0
        self.inputs, self.questions, self.memories = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for behaviour, target in zip(
            self.embedding_layer.behaviour_sizes, self.embedding_layer.target_sizes, strict=True
        ):
            hidden = gru_hidden_size or behaviour
            self.inputs.append(InputFusion(behaviour, hidden, recurrence_backend))
            self.questions.append(nn.Linear(target, hidden))
            self.memories.append(EpisodicMemory(hidden, num_passes, gate_hidden_size or hidden, recurrence_backend))
            part_size += hidden
        self.finish(part_size)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
        histories, profile = self.embedding_layer(self.get_inputs(inputs))
        parts = []
        for i, history in enumerate(histories):
            facts = self.inputs[i](history.behaviours, history.packing)
            question = torch.tanh(self.questions[i](history.target))
            parts.append(self.memories[i](facts, question, history.packing))
        return self.score(parts, profile)
