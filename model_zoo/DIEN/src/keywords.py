"""Declare each keyword of DIEN once: its type, range and meaning.

The keyword `gru_hidden_size` has the type `GruHiddenSize`; the others are named likewise. Baselines import the types of
the keywords that they share with DIEN. Defaults are in the signature of each model.
"""

import math
from functools import lru_cache
from typing import Annotated, Literal

import torch
from fuxictr.pytorch.torch_utils import get_activation, get_regularizer

from . import attention, aux_negatives, auxiliary_loss
from .fields import Field
from .kernels import backends, reference
from .layers.activations import activation
from .validation import Check, Help, Range


@lru_cache
def _is_activation(name: str) -> bool:
    """Return whether the zoo's MLP and the networks over steps have the activation."""
    try:
        return all(make(name, 2).eval()(torch.ones(2, 2)).shape == (2, 2) for make in (activation, get_activation))
    except Exception:  # names in torch.nn that are not activations raise various errors
        return False


def _regularizes(weight: str | float | None) -> bool:
    try:
        pairs = get_regularizer(float(weight) if isinstance(weight, int) else weight)
    except NotImplementedError:
        return False
    return all(0 <= size < math.inf for _, size in pairs)


Size = Annotated[int, Range("a whole number from 1 to 65536", 1, 2**16)]
Rate = Annotated[float, Range("a number from 0 to below 1", 0, 1, without=(1,))]
Weight = Annotated[float, Range("a finite number, 0 or more", 0)]
Activation = Annotated[str, Check("Dice, PReLU or the name of an activation in torch.nn, e.g. ReLU", _is_activation)]
Activations = Annotated[
    Activation | list[Activation],
    Check("Dice, PReLU or the name of an activation in torch.nn, e.g. ReLU; or a list, one per layer", lambda _: True),
]
Penalty = Annotated[
    str | float | None, Check("a number, l1(x), l2(x) or l1_l2(x,y), none of them below 0", _regularizes)
]

ModelId = Annotated[str, Help("name of the model's files; the experiment id")]
Gpu = Annotated[int, Range("a whole number, -1 or more", -1), Help("index of the GPU; -1: the CPU")]
EmbeddingDim = Annotated[Size, Help("size of the embedding of a feature that has no `embedding_dim` of its own")]
LearningRate = Annotated[float, Range("a positive number", 0, without=(0,)), Help("learning rate of the optimizer")]
EmbeddingRegularizer = Annotated[
    Penalty, Help("regularization of the embeddings: λ of `λ/2 |w|²`, or `l1(λ)`, `l2(λ)`, `l1_l2(λ, λ)`")
]
NetRegularizer = Annotated[Penalty, Help("regularization of all other weights, as `embedding_regularizer`")]

DnnHiddenUnits = Annotated[list[Size], Help("sizes of the hidden layers of the MLP that ends the model")]
DnnActivations = Annotated[Activations, Help("activation of the MLP: of all layers, or one per layer")]
NetDropout = Annotated[Rate, Help("dropout rate of the MLP; in DIEN also of the auxiliary network")]
BatchNorm = Annotated[bool, Help("batch normalization before each activation of the MLP")]

DienTargetField = Annotated[Field, Help("features of the target item, one entry per behaviour sequence")]
DienSequenceField = Annotated[
    Field,
    Help(
        "features of the behaviours, paired with `dien_target_field`: features at the same place belong together; "
        "names and embedding sizes may differ"
    ),
]
DienNegSeqField = Annotated[
    Field,
    Help(
        "sequences that hold one negative per behaviour, or `[]`; the columns of the default are used where they "
        "exist, other columns must exist"
    ),
]

GruType = Annotated[reference.GruType, Help("second recurrent layer: GRU, AIGRU (9), AGRU (10) or AUGRU (11)-(12)")]
GruHiddenSize = Annotated[Size | None, Help("size of the states of both layers; null: the size of a behaviour")]
AugruGate = Annotated[
    Literal["paper", "tensorflow"],
    Help(
        "gate that attention scales: the paper's, or with `tensorflow` the one of the authors' program, which keeps "
        "the state"
    ),
]
RecurrenceBackend = Annotated[
    backends.Backend,
    Help(
        "code that runs the recurrences: `auto` is the fastest that the machine has, `triton` needs an NVIDIA GPU, "
        "`compiled` is C++ for CPUs and needs a compiler, `torch` runs anywhere, `reference` is the equations, slowly"
    ),
]
EnableSumPooling = Annotated[
    bool, Help("add Σe_t and e_a * Σe_t to the input of the MLP, as the authors' program does")
]

AttentionType = Annotated[
    attention.AttentionType,
    Help(
        "attention unit: (8); its product without W; DIN's unit; DIN's unit behind a dense layer with PReLU on the "
        "target, as in the authors' program"
    ),
]
AttentionHiddenUnits = Annotated[list[Size], Help("sizes of the hidden layers of DIN's attention unit")]
AttentionActivation = Annotated[Activations, Help("activation of DIN's attention unit, as for the MLP")]
AttentionDropout = Annotated[Rate, Help("dropout rate of the attention unit")]
UseAttentionSoftmax = Annotated[
    bool,
    Help(
        "softmax over the real steps; False: raw scores, which have no bound: with AGRU and AUGRU the states can grow "
        "without bound, so use a small learning rate"
    ),
]

AuxLossAlpha = Annotated[Weight, Help("α of (7), the weight of the auxiliary loss; 0: no auxiliary loss")]
AuxScorer = Annotated[
    auxiliary_loss.Scorer,
    Help("σ of (6): a network on [h, e] as in the authors' program, or the paper's inner product"),
]
AuxHiddenUnits = Annotated[list[Size], Help("sizes of the hidden layers of the auxiliary network")]
AuxActivation = Annotated[Activations, Help("activation of the auxiliary network, as for the MLP")]
AuxNegatives = Annotated[
    aux_negatives.Source | None,
    Help(
        "source of the negatives of the auxiliary loss; null: `column` where the columns of `dien_neg_seq_field` "
        "exist, else `in_batch`"
    ),
]
AuxNumNegatives = Annotated[
    int,
    Range("a whole number from 1 to 10000", 1, 10_000),
    Help("negatives per step, drawn anew in each training step"),
]
AuxFixedNegatives = Annotated[
    bool, Help("draw the negatives of a behaviour once for the whole training; not with `aux_negatives: in_batch`")
]
AuxLossWeighting = Annotated[
    auxiliary_loss.Weighting,
    Help("weights of the steps of the auxiliary loss: equal, by the attention of the target, or the newest step alone"),
]
