"""Declare each keyword that DIEN lacks once: its type, range and meaning.

See also `keywords` of DIEN.
"""

from typing import Annotated, Any, Literal

from model_zoo.DIEN.src.fields import Field
from model_zoo.DIEN.src.keywords import Activation, Activations, Penalty, Size, Weight
from model_zoo.DIEN.src.validation import Help, Range

TargetField = Annotated[Field, Help("features of the target item, one entry per behaviour sequence")]
SequenceField = Annotated[Field, Help("features of the behaviours, paired with `target_field` as in DIEN")]
TimeField = Annotated[
    Field,
    Help("sequence of time tokens, one per behaviour sequence: a session or a basket ends where the token changes"),
]
DinTargetField = Annotated[Field, Help("as `target_field`")]
DinSequenceField = Annotated[Field, Help("as `sequence_field`")]
BstTargetField = Annotated[Field, Help("as `target_field`; of the size of a behaviour")]
BstSequenceField = Annotated[Field, Help("as `sequence_field`")]

HiddenUnits = Annotated[list[Size], Help("sizes of the hidden layers of the MLP")]
HiddenActivations = Annotated[Activations, Help("activation of the MLP: of all layers, or one per layer")]
Regularizer = Annotated[Penalty, Help("regularization of embeddings and linear weights alike")]
ProductType = Annotated[Literal["inner"], Help("products of the fields")]

AttentionHiddenActivations = Annotated[
    Activations, Help("activation of the attention unit: of all layers, or one per layer")
]
AttentionOutputActivation = Annotated[Activation | None, Help("activation of the attention unit's output; null: none")]
DinUseSoftmax = Annotated[
    bool,
    Help("weights that sum to 1 over the real steps; the paper has none, which keeps the intensity of an interest"),
]
EnableTargetProduct = Annotated[
    bool, Help("add e_a * Σe_t to the input of the MLP, as DIEN's `enable_sum_pooling` does")
]

NumHeads = Annotated[
    int,
    Range("a whole number from 1 to 1024", 1, 1024),
    Help("heads of the self-attention; divides the size of a step"),
]
StackedTransformerLayers = Annotated[
    int, Range("a whole number from 1 to 1024", 1, 1024), Help("transformer blocks, one after the other")
]
LayerNorm = Annotated[bool, Help("layer normalization in the transformer blocks")]
UseResidual = Annotated[bool, Help("residual connections in the transformer blocks")]
SeqPoolingType = Annotated[
    Literal["mean", "sum", "target", "concat"],
    Help("input of the MLP: the mean of the steps, their sum, the target's output, or all outputs by position"),
]
UsePositionEmb = Annotated[
    bool, Help("concatenate an embedding of the position, of size `embedding_dim`, to each step")
]
UseCausalMask = Annotated[bool, Help("a step attends to itself and to older steps only")]

NumPasses = Annotated[
    int, Range("a whole number from 1 to 1024", 1, 1024), Help("passes over the history; the paper has 3")
]
GateHiddenSize = Annotated[
    Size | None, Help("size of the hidden layer of the attention gate; null: the size of the states")
]
BasketPooling = Annotated[Literal["max", "mean"], Help("pooling of the behaviours of a basket")]

Booster = Annotated[
    dict[str, Any] | None, Help("keywords in which the booster differs from the light network; null: none")
]
HintLossWeight = Annotated[Weight, Help("λ, the weight of the hint loss")]
SharedGradient = Annotated[
    Literal["booster", "both"],
    Help("losses that train the shared embeddings: only the booster's, or those of both networks, as in the paper"),
]
BoosterCheckpoint = Annotated[
    str | None,
    Help("weights of a trained DIEN with the booster's keywords, which is then frozen with its embeddings"),
]
