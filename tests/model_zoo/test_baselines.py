"""Contract of all baselines: learn from any history, and refuse bad input."""

import logging

import pytest
import torch
from fuxictr.pytorch.layers import DIN_Attention, LogisticRegression
from made import SEQUENCES, features, make_batch, make_feature_map, moved, train_loss
from made_models import MODELS, POOLED, STEPWISE, TWO, make_model, pooled_features

from model_zoo.DIEN.src.layers.packing import Packing
from model_zoo.parts.pooled import start_linear_weights_small

LENGTHS = [6, 0, 1, 3, 2]
TWO_OF_TIME = {**TWO, "time_field": ["session_history", "day_history"]}
TWO_OF_DIN = {f"din_{keyword}": value for keyword, value in TWO.items()}
VARIANTS = [
    *((name, {}) for name in MODELS),
    *((name, {"enable_sum_pooling": True}) for name in ("DIN", "GRUAttention")),
    *((name, {"dnn_activations": ["ReLU", "Dice"], "net_dropout": 0.5, "batch_norm": False}) for name in STEPWISE),
    *((name, {"hidden_activations": "Dice", "net_dropout": 0.5}) for name in POOLED if name != "FM"),
    ("EmbeddingMLP", {"enable_target_product": True}),
    ("EmbeddingMLP", TWO),
    ("DIN", {"din_use_softmax": True, "attention_dropout": 0.5}),
    ("DIN", TWO_OF_DIN),
    ("DIN", {"attention_output_activation": "Dice", "attention_hidden_activations": "Sigmoid"}),
    ("GRUAttention", TWO),
    ("GRUAttention", {"gru_hidden_size": 5}),
    ("GRUAttention", {"use_attention_softmax": False}),
    ("BST", {f"bst_{keyword}": value for keyword, value in TWO.items()}),
    *(("BST", {"seq_pooling_type": pooling}) for pooling in ("sum", "target", "concat")),
    ("BST", {"use_causal_mask": True, "stacked_transformer_layers": 2, "attention_dropout": 0.5}),
    ("BST", {"use_position_emb": False, "layer_norm": False, "num_heads": 4}),
    ("BST", {"use_residual": False}),
    ("DMNPlus", TWO),
    ("DMNPlus", {"gru_hidden_size": 5, "gate_hidden_size": 3}),
    ("DMNPlus", {"num_passes": 1}),
    ("DSIN", TWO_OF_TIME),
    ("DSIN", {"num_heads": 4, "attention_dropout": 0.5, "net_dropout": 0.5}),
    ("DREAM", TWO_OF_TIME),
    ("DREAM", {"basket_pooling": "mean"}),
    *(("GRUAttention", {"attention_type": kind}) for kind in ("bilinear_attention", "dot_attention")),
]


@pytest.mark.parametrize("name,keywords", VARIANTS)
def test_every_parameter_learns(name, keywords):
    model = make_model(name, **keywords)
    loss, gradients = train_loss(model, make_batch([6, 2, 1, 3, 2, 0, 5, 4]))
    assert torch.isfinite(loss) and all(torch.isfinite(g).all() for g in gradients.values())
    used = {name for name, gradient in gradients.items() if gradient.any()}
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    tables = tuple(f".embedding_layers.{table}.weight" for table in SEQUENCES)
    unused = {name for name in learning if name.startswith("embedding_layer.") and name.endswith(tables)}
    # Before batch normalisation a bias changes nothing, nor does the last bias before a softmax.
    mute = {name for name in learning if name.endswith("bias") and name not in used}
    assert learning - used - unused - mute == set()
    assert len(mute) <= 3


@pytest.mark.parametrize("name,keywords", VARIANTS)
@pytest.mark.parametrize("lengths", [LENGTHS, [0, 0, 0], [4], [0], [1, 1]])
def test_any_history_trains(name, keywords, lengths):
    model = make_model(name, **keywords)
    loss, gradients = train_loss(model, make_batch(lengths))
    assert torch.isfinite(loss) and all(torch.isfinite(g).all() for g in gradients.values())
    y_pred = model.eval()(make_batch(lengths))["y_pred"]
    assert torch.isfinite(y_pred).all() and y_pred.shape == (len(lengths), 1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "place",
    [
        lambda real, steps: torch.arange(steps - real, steps),  # pre-padding
        lambda real, steps: torch.tensor(sorted([0, *range(2, steps), 1][:real])).long(),  # a gap at 1
    ],
)
def test_place_of_padding_does_not_matter(name, place):
    model, batch = make_model(name), make_batch(LENGTHS)
    other = moved(batch, place)
    exact = {"rtol": 0, "atol": 0} if name in STEPWISE else {}  # the zoo's poolings add zeros in another order
    torch.testing.assert_close(model.eval()(batch)["y_pred"], model.eval()(other)["y_pred"], **exact)
    (_, gradients), (_, gradients2) = train_loss(model, batch), train_loss(model, other)
    assert gradients.keys() == gradients2.keys()
    for key in gradients:
        torch.testing.assert_close(gradients[key], gradients2[key], **exact)


@pytest.mark.parametrize("name", STEPWISE)
def test_nan_in_the_padding_changes_nothing(name):
    results = []
    for poison in (False, True):
        model = make_model(name)
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, torch.nn.Embedding) and poison:
                    layer.weight[0] = float("nan")
        results.append((train_loss(model, make_batch(LENGTHS))[0], model.eval()(make_batch(LENGTHS))["y_pred"]))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("name,keywords", VARIANTS)
def test_rows_do_not_see_each_other(name, keywords):
    model, batch = make_model(name, **keywords).eval(), make_batch(LENGTHS)
    whole = model(batch)["y_pred"]
    for row in range(len(LENGTHS)):
        alone = model({key: x[row : row + 1] for key, x in batch.items()})["y_pred"]
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_regression_predicts_the_logit(name):
    kinds = {"task": "regression", "loss": "mse_loss"}
    logits = make_model(name, **kinds).eval()(make_batch(LENGTHS))["y_pred"]
    torch.testing.assert_close(make_model(name).eval()(make_batch(LENGTHS))["y_pred"], torch.sigmoid(logits))


@pytest.mark.parametrize("name", [*STEPWISE, "WideDeep"])
def test_unequal_embedding_sizes(name):
    dims = {"item_id": 5, "item_history": 5, "cate_id": 3, "cate_history": 3, "price": 2}
    spec = pooled_features(**dims) if name == "WideDeep" else features(**dims)
    assert torch.isfinite(train_loss(make_model(name, spec), make_batch(LENGTHS))[0])


@pytest.mark.parametrize("softmax", [True, False])
def test_attention_unit_equals_the_zoos(softmax):
    unit = make_model("DIN", din_use_softmax=softmax, attention_output_activation="Sigmoid").eval().attention_layers[0]
    zoo = DIN_Attention(8, [6, 3], "Dice", "Sigmoid", use_softmax=softmax).eval()
    with torch.no_grad():
        for own, other in zip(unit.parameters(), zoo.parameters(), strict=True):
            other.copy_(own)
    target, history, mask = torch.randn(3, 8), torch.randn(3, 4, 8), torch.arange(4) < torch.tensor([[4], [1], [2]])
    steps, packing = history[mask], Packing.of_mask(mask)
    pooled = packing.sum(unit(steps, target, packing).unsqueeze(1) * steps)
    torch.testing.assert_close(pooled, zoo(target, history, mask))


def test_linear_weights_of_shared_features_start_small():
    linear = LogisticRegression(make_feature_map(features()))
    assert linear.embedding_layer.embedding_layer.embedding_layers["item_history"].weight.std() > 0.5  # the zoo's
    start_linear_weights_small(linear)
    for layer in linear.modules():
        if isinstance(layer, torch.nn.Embedding):
            assert 0 < layer.weight.std() < 1e-3 and not layer.weight[0].any()


def test_an_unused_sequence_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        make_model("EmbeddingMLP")
    assert "not used: query_history" in caplog.text


@pytest.mark.parametrize(
    "name,keywords,message",
    [
        *((name, {"embedding_dim": 0}, "embedding_dim = 0 must be a whole number from 1 to 65536") for name in MODELS),
        *(
            (name, {"dnn_activations": ["ReLU"]}, "dnn_activations = .* one for each of the 2 layers")
            for name in STEPWISE
        ),
        *(
            (name, {"hidden_activations": ["ReLU"]}, "hidden_activations = .* one for each of the 2 layers")
            for name in POOLED
            if name != "FM"
        ),
        ("FM", {"embedding_regularizer": 0.1}, "embedding_regularizer=0.1 is not allowed; use regularizer"),
        (
            "EmbeddingMLP",
            {"target_field": ("item_id", "categ")},
            "^target_field: no feature 'categ' in the data set, .*cate_id",
        ),
        (
            "EmbeddingMLP",
            {"target_field": "query", "enable_target_product": True},
            r"target_field=query \(size 4\) with sequence_field=item_history\+cate_history \(size 8\): "
            r"their sizes must",
        ),
        ("DIN", {"din_target_field": "user_id"}, "din_target_field: feature 'user_id' is of type 'meta'"),
        ("DIN", {"din_sequence_field": []}, r"din_sequence_field=\[\] must name a behaviour sequence"),
        ("DIN", {"din_sequence_field": ["item_history", "cate_history"]}, "din_target_field=.* has 1 entries"),
        ("BST", {"num_heads": 5}, "num_heads=5 does not divide the 12 values of a step .* allowed: 1, 2, 3, 4, 6, 12"),
        (
            "BST",
            {"bst_target_field": "query"},
            r"bst_target_field=query \(size 4\) joins .* \(size 8\): their sizes must",
        ),
        ("DSIN", {"time_field": "session"}, "time_field: no feature 'session' in the data set, .*session_history"),
        ("DSIN", {"time_field": "item_id"}, "time_field: feature 'item_id' is of type 'categorical', but a sequence"),
        (
            "DSIN",
            {"time_field": ["session_history", "day_history"]},
            "names 2 features, but sequence_field=.* 1 entries",
        ),
        ("DSIN", {"num_heads": 3}, r"num_heads=3 does not divide the 8 values of a step of .*; allowed: 1, 2, 4, 8"),
        ("DREAM", {"time_field": "days"}, "time_field: no feature 'days' in the data set, .*day_history"),
    ],
)
def test_refuses_in_one_clear_line(name, keywords, message):
    with pytest.raises(ValueError, match=message) as error:
        make_model(name, **keywords)
    assert "\n" not in str(error.value)


PREFIXES = {"DIN": "din_", "BST": "bst_", "DIENLight": "dien_"}


@pytest.mark.parametrize("name", [name for name in MODELS if name not in POOLED])
def test_refuses_swapped_fields(name):
    prefix = PREFIXES.get(name, "")
    message = f"^{prefix}sequence_field: 'cate_history' is at the place of {prefix}target_field's 'item_id', which "
    with pytest.raises(ValueError, match=message):
        make_model(name, **{f"{prefix}sequence_field": [("cate_history", "item_history")]})


@pytest.mark.parametrize("name", STEPWISE)
def test_refuses_a_pooled_sequence_that_it_reads(name):
    with pytest.raises(ValueError, match=r"cate_history: feature_encoder='layers.MaskedSumPooling.*set .* null"):
        make_model(name, pooled_features(pooled=["cate_history"]))


@pytest.mark.parametrize("name", POOLED)
def test_refuses_a_sequence_that_is_not_pooled(name):
    with pytest.raises(ValueError, match=r"item_history: feature_encoder=None leaves the sequence's steps.*Pooling"):
        make_model(name, features())


@pytest.mark.parametrize("name", [name for name in POOLED if name != "WideDeep"])
def test_refuses_inner_products_of_unequal_sizes(name):
    with pytest.raises(ValueError, match=r"embedding_dim: the fields' sizes \[2, 4, .* differ"):
        make_model(name, pooled_features(price=2))
