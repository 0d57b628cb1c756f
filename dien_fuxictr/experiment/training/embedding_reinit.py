"""`embedding_reinit: epoch`: each epoch trains new embeddings."""

from collections.abc import Iterable

import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from fuxictr.pytorch.models import BaseModel
from torch import nn
from torch.optim import Optimizer

from ..parallel.row_blocks import RowBlocks
from .sparse_tables import JointOptimizer
from .technique import Technique


class EmbeddingReinit(Technique):
    """Each epoch but the first begins with initial embeddings, which the optimizer does not know; all else goes on.

    MEDA (Fan et al., Multi-Epoch Learning with Data Augmentation for Deep Click-Through Rate Prediction, arXiv
    2407.01607): tables that saw each row but once cannot have learnt it by heart, and the nets see many embedding
    spaces. Tables of pretrained embeddings stay.

    Args:
        model: compiled.
        seed: the embeddings follow from it and the epoch.
    """

    def __init__(self, model: BaseModel, seed: int) -> None:
        self.model = model
        self.seed = seed

    def start_epoch(self, epoch: int) -> None:
        """From the second epoch on."""
        if epoch == 0:
            return
        tables = {}
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(self.seed + epoch)
            for layer in self.model.modules():
                if type(layer) is FeatureEmbeddingDict:
                    for table in dict.fromkeys(layer.embedding_layers.values()):
                        if not isinstance(table, nn.Embedding) or not table.weight.requires_grad:
                            continue
                        if isinstance(table, RowBlocks):
                            table.initialise(int(torch.randint(2**40, ())))
                        else:
                            layer.embedding_initializer(table.weight[0 if table.padding_idx is None else 1 :])
                        tables[table] = table.weight
        optimizer = self.model.optimizer
        for part in (optimizer.dense, optimizer.lazy) if isinstance(optimizer, JointOptimizer) else (optimizer,):
            _forget(part, tables.values())


def _forget(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Let the optimizer have the state of these parameters that it had before its first step."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    forgotten = [parameter for parameter in parameters if id(parameter) in own]
    if not forgotten:
        return
    make: type = type(optimizer)
    fresh = make(forgotten, lr=optimizer.param_groups[0]["lr"])
    for parameter in forgotten:
        optimizer.state.pop(parameter, None)
        if parameter in fresh.state:
            optimizer.state[parameter] = fresh.state[parameter]
