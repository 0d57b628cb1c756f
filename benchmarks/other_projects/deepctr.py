"""DIEN of deepctr-torch: packed `nn.GRU`, DIN's unit, the authors' auxiliary net."""

from typing import Any

import torch
from torch import Tensor

from ..synthetic_batches import HISTORIES, NEGATIVES, Sizes
from ..systems import System, Work


def build(sizes: Sizes, work: Work) -> System:
    """Build the system, without regularisation of embeddings and with a fused Adam.

    Ids are floats, as its `fit` expects. On import the package looks for newer versions on PyPI, in a thread, and
    prints a line on failure.
    """
    from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat  # pyright: ignore[reportMissingImports]
    from deepctr_torch.models import DIEN  # pyright: ignore[reportMissingImports]

    vocabularies = sizes.vocabularies
    columns: list[Any] = [SparseFeat(name, size, sizes.embedding) for name, size in vocabularies.items()]
    sources = {f"hist_{root}": name for name, root in HISTORIES.items()}
    if work.aux_scorer:
        sources |= {f"neg_hist_{root}": name for name, root in NEGATIVES.items()}
    for name in sources:
        root = name.split("hist_")[1]
        history = SparseFeat(name, vocabularies[root], sizes.embedding, embedding_name=root)
        columns.append(VarLenSparseFeat(history, sizes.max_len, length_name="length"))
    model: Any = DIEN(
        columns,
        list(HISTORIES.values()),
        gru_type=work.gru_type,
        use_negsampling=work.aux_scorer is not None,
        use_bn=work.batch_norm,
        dnn_hidden_units=sizes.mlp_units,
        att_hidden_units=sizes.attention_units,
        att_activation=work.unit_activation.lower(),
        dnn_activation=work.activation.lower(),
        dnn_dropout=work.dropout,  # pyright: ignore[reportArgumentType]
        l2_reg_embedding=0,
    )
    names: list[str] = list(model.feature_index)
    model.compile(torch.optim.Adam(model.parameters(), lr=1e-3, fused=True), "binary_crossentropy")

    def prepare(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        length = (batch["item_history"] > 0).sum(dim=1)
        values = [length if name == "length" else batch[sources.get(name, name)] for name in names]
        return torch.cat([x.view(len(length), -1) for x in values], dim=1).float(), batch["label"]

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        predicted = model(x).squeeze(-1)
        return model.loss_func(predicted, y, reduction="sum") + model.get_regularization_loss() + model.aux_loss

    return System(model, model.optim, prepare, loss, lambda batch: model(batch[0]).squeeze(-1), trimmable=False)
