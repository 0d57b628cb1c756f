"""Effects of keywords on the model, and refused values."""

import inspect
import logging

import pytest
import torch
from made import TWO, features, make_batch, train_loss

from model_zoo.DIEN.src import DIEN

GRU_TYPES = ["GRU", "AIGRU", "AGRU", "AUGRU"]
LENGTHS = [6, 0, 1, 3, 2]


def test_augru_gates_differ_and_agree_with_the_operator(make_dien):
    paper, code = make_dien(augru_gate="paper").eval(), make_dien(augru_gate="tensorflow").eval()
    code.load_state_dict(paper.state_dict())
    batch = make_batch(LENGTHS)
    assert paper.sequences[0].evolution.kind == "AUGRU" and code.sequences[0].evolution.kind == "AUGRU-tensorflow"
    assert not torch.allclose(paper(batch)["logits"], code(batch)["logits"])


@pytest.mark.parametrize("gru_type", ["GRU", "AIGRU", "AGRU"])
def test_only_augru_has_two_signs(make_dien, gru_type):
    paper, code = (make_dien(gru_type=gru_type, augru_gate=sign).eval() for sign in ("paper", "tensorflow"))
    assert code.sequences[0].evolution.kind == gru_type
    assert torch.equal(paper(make_batch(LENGTHS))["logits"], code(make_batch(LENGTHS))["logits"])


def test_dropout_rates(make_dien):
    model = make_dien(net_dropout=0.1, attention_dropout=0.2, attention_type="din_attention", aux_loss_alpha=1.0)
    (sequence,) = model.sequences
    for part, rate in ((sequence.attention, 0.2), (sequence.auxiliary_loss, 0.1), (model.dnn, 0.1)):
        rates = [layer.p for layer in part.modules() if isinstance(layer, torch.nn.Dropout)]
        assert rates == [rate] * 2  # one per hidden layer
    others = (layer for layer in sequence.extractor.modules() if isinstance(layer, torch.nn.Dropout))
    assert not any(others)


def test_hidden_units_and_activations(make_dien):
    model = make_dien(
        attention_type="din_attention",
        attention_hidden_units=[7, 2],
        attention_activation="PReLU",
        aux_loss_alpha=1.0,
        aux_hidden_units=[5],
        aux_activation="Tanh",
        dnn_hidden_units=[9, 3],
        dnn_activations="Sigmoid",
    )
    (sequence,) = model.sequences
    for part, units, activation in (
        (sequence.attention, [7, 2, 1], torch.nn.PReLU),
        (sequence.auxiliary_loss, [5, 1], torch.nn.Tanh),
        (model.dnn, [9, 3, 1], torch.nn.Sigmoid),
    ):
        assert [layer.out_features for layer in part.modules() if isinstance(layer, torch.nn.Linear)] == units
        assert sum(isinstance(layer, activation) for layer in part.modules()) == len(units) - 1


def test_regularizers_act_on_tables_and_on_all_else(make_dien):
    model = make_dien(embedding_regularizer=0.2, net_regularizer="l1(0.3)", aux_loss_alpha=1.0)
    tables = sum(weight.square().sum() for weight in model.embedding_layer.parameters())
    others = sum(
        weight.abs().sum() for name, weight in model.named_parameters() if not name.startswith("embedding_layer.")
    )
    torch.testing.assert_close(model.regularization_loss(), 0.2 / 2 * tables + 0.3 * others)


def test_the_checkpoint_has_the_models_name(make_dien):
    assert make_dien(model_id="mine").checkpoint.endswith("mine.model")


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_every_layer_has_the_backend(make_dien, backend):
    (sequence,) = make_dien(aux_loss_alpha=1.0, recurrence_backend=backend).sequences
    layers = (sequence.extractor, sequence.attention, sequence.evolution, sequence.auxiliary_loss)
    assert {layer.backend for layer in layers} == {backend}


def test_unequal_embedding_sizes(make_dien):
    spec = features(item_id=5, item_history=5, cate_id=3, cate_history=3, query=2, query_history=2)
    model = make_dien(spec, aux_loss_alpha=1.0, enable_sum_pooling=True, **TWO)
    assert [sequence.extractor.weight_hh.size(1) for sequence in model.sequences] == [8, 2]
    loss, _ = train_loss(model, make_batch(LENGTHS))
    assert torch.isfinite(loss)


def test_an_unused_sequence_is_said(make_dien, caplog):
    with caplog.at_level(logging.WARNING):
        make_dien()
    assert "query_history" in caplog.text


@pytest.mark.parametrize(
    "keywords,message",
    [
        ({"gru_type": "LSTM"}, "gru_type = 'LSTM' must be GRU, AIGRU, AGRU or AUGRU"),
        ({"aux_loss_alpha": [1, 0]}, r"aux_loss_alpha = \[1, 0\] must be a finite number, 0 or more"),
        ({"aux_pretrain_epochs": 1}, "aux_pretrain_epochs is gone: every epoch trains"),
        ({"augru_sign": "code"}, "augru_sign is now augru_gate; its value code is now tensorflow"),
        ({"augru_gate": "code"}, "augru_gate = 'code' must be paper or tensorflow"),
        ({"aux_num_negatives": 0}, "aux_num_negatives = 0 must be a whole number from 1 to 10000"),
        (
            {"aux_fixed_negatives": True, "aux_loss_alpha": 1},
            "aux_fixed_negatives cannot be combined with aux_negatives: in_batch",
        ),
        (
            {"aux_loss_weighting": "target_attention", "aux_loss_alpha": 1, "gru_type": "GRU"},
            "aux_loss_weighting: target_attention needs attention weights: gru_type: GRU has none",
        ),
        (
            {"aux_loss_weighting": "target_attention", "aux_loss_alpha": 1, "use_attention_softmax": False},
            "needs attention weights: scores without a softmax are no weights",
        ),
        ({"embedding_dim": 2.5}, "embedding_dim = 2.5"),
        ({"dnn_hidden_units": [8, 0]}, r"dnn_hidden_units = \[8, 0\] must be a list, each a whole number"),
        (
            {"dnn_activations": ["ReLU", "Linear"]},
            r"dnn_activations = \['ReLU', 'Linear'\] must be Dice, PReLU or the name of an activation in torch.nn",
        ),
        ({"aux_negatives": "column"}, "needs columns that exist"),
        ({"aux_negatives": "popularity", "aux_loss_alpha": 1}, "no behaviour catalogue of item_history, cate_history"),
        ({"recurrence_backend": "fast"}, "recurrence_backend = 'fast' must be auto, reference, torch"),
        (
            {"dien_target_field": ("item_id", "categ_id")},
            "dien_target_field: no feature 'categ_id' in the data set, .* nearest: cate_id",
        ),
        ({"dien_target_field": ("item_id", "user_id")}, "feature 'user_id' is of type 'meta'"),
        ({"dien_target_field": ["item_id", "cate_id"]}, "has 2 entries .* has 1"),
        ({"dien_sequence_field": ("item_id", "cate_history")}, "'item_id' is of type 'categorical', but a sequence"),
        ({"dien_sequence_field": []}, "must name a behaviour sequence"),
        ({"dien_neg_seq_field": ["neg_item_history", "neg_cate_history"]}, "does not match dien_sequence_field"),
        (
            {"dien_neg_seq_field": ("neg_item_histroy", "neg_cate_history")},
            "dien_neg_seq_field: no feature 'neg_item_histroy' in the data set; did you mean 'neg_item_history'",
        ),
        (
            {"dien_neg_seq_field": ("not", "there"), "aux_loss_alpha": 1},
            r"needs columns that exist, but the data set lacks some of dien_neg_seq_field=\('not', 'there'\)",
        ),
        (
            {"dnn_hidden_units": [8, 4], "dnn_activations": ["ReLU"]},
            r"\['ReLU'\] must be one value, or one for each of the 2 layers \[8, 4\]",
        ),
        ({"dien_target_field": "query", "enable_sum_pooling": True}, "their sizes must agree"),
    ],
)
def test_refuses_in_one_clear_line(make_dien, keywords, message):
    with pytest.raises(ValueError, match=message) as error:
        make_dien(**keywords)
    assert "\n" not in str(error.value)


def test_target_with_fewer_features_is_a_warning(make_dien, caplog):
    make_dien(dien_target_field="item_id")
    assert (
        "dien_target_field ('item_id',) and dien_sequence_field ('item_history', 'cate_history') differ" in caplog.text
    )
    caplog.clear()
    make_dien()
    assert "dien_target_field" not in caplog.text


SWAPPED = ["cate_history", "item_history"]


@pytest.mark.parametrize(
    ("target", "sequence"),
    [([("item_id", "cate_id")], [tuple(SWAPPED)]), (["item_id", "cate_id"], SWAPPED)],
    ids=["of one sequence", "of two sequences"],
)
def test_swapped_fields_are_refused(make_dien, target, sequence):
    message = (
        "^dien_sequence_field: 'cate_history' is at the place of dien_target_field's 'item_id', which shares its "
        "embedding with 'item_history'; give both fields the same order$"
    )
    with pytest.raises(ValueError, match=message):
        make_dien(dien_target_field=target, dien_sequence_field=sequence)


def test_swapped_negative_columns_are_refused(make_dien):
    with pytest.raises(ValueError, match=r"^dien_neg_seq_field: 'neg_cate_history' is at the place of "):
        make_dien(dien_neg_seq_field=[("neg_cate_history", "neg_item_history")])


def test_refuses_a_pooled_sequence(make_dien):
    spec = features()
    spec["cate_history"]["feature_encoder"] = "layers.MaskedAveragePooling()"
    with pytest.raises(ValueError, match=r"cate_history: feature_encoder='layers.MaskedAveragePooling\(\)' pools"):
        make_dien(spec)


POOLED = {"dien_neg_seq_field": [("neg_item_history", "neg_cate_history")]}


@pytest.mark.parametrize(
    "keywords", [{"aux_loss_alpha": 0}, {"aux_loss_alpha": 1, "aux_negatives": "in_batch"}], ids=["no loss", "in batch"]
)
def test_pooled_columns_of_negatives_that_are_not_read(make_dien, keywords):
    model = make_dien(with_pooled_negatives(), **keywords, **POOLED)
    assert not [name for name in model.profile_fields if name.startswith("neg_")]
    loss, _ = train_loss(model, make_batch(LENGTHS))
    assert torch.isfinite(loss)


def test_refuses_pooled_columns_of_negatives_that_are_read(make_dien):
    with pytest.raises(ValueError, match=r"neg_cate_history: feature_encoder='layers.MaskedAveragePooling\(\)' pools"):
        make_dien(with_pooled_negatives(), aux_loss_alpha=1, **POOLED)


def with_pooled_negatives():
    spec = features()
    for name in ("neg_item_history", "neg_cate_history"):
        spec[name]["feature_encoder"] = "layers.MaskedAveragePooling()"
    return spec


def test_a_projecting_encoder_is_no_pooling(make_dien):
    spec = features()
    names = ("item_history", "cate_history")
    for name in names:
        spec[name]["feature_encoder"] = ["nn.Linear(4, 3, bias=False)"]
    model, batch = make_dien(spec, aux_loss_alpha=1.0, aux_num_negatives=2), make_batch(LENGTHS)
    loss, _ = train_loss(model, batch)
    assert torch.isfinite(loss)
    (behaviours,) = model.embed_behaviours(batch, with_negatives=True)
    layer, real = model.embedding_layer, batch["item_history"] > 0
    expected = [layer.feature_encoders[name](layer.embedding_layers[name](batch[name][real])) for name in names]
    torch.testing.assert_close(behaviours.embedded, torch.cat(expected, dim=-1))
    assert behaviours.valid.size(1) == 2
    # Negatives are behaviours of the batch, too.
    distances = torch.cdist(behaviours.negatives[behaviours.valid], behaviours.embedded)
    assert distances.min(dim=1).values.max() < 1e-5


def test_defaults_are_those_of_the_zoo():
    zoo = {
        "model_id": "DIEN",
        "gpu": -1,
        "dnn_hidden_units": [200, 80],
        "dnn_activations": "ReLU",
        "learning_rate": 1e-3,
        "embedding_dim": 16,
        "net_dropout": 0,
        "batch_norm": True,
        "dien_target_field": [("item_id", "cate_id")],
        "dien_sequence_field": [("click_history", "cate_history")],
        "dien_neg_seq_field": [("neg_click_history", "neg_cate_history")],
        "gru_type": "AUGRU",
        "enable_sum_pooling": False,
        "attention_dropout": 0,
        "attention_type": "bilinear_attention",
        "attention_hidden_units": [80, 40],
        "attention_activation": "Dice",
        "use_attention_softmax": True,
        "aux_hidden_units": [100, 50],
        "aux_activation": "ReLU",
        "aux_loss_alpha": 0,
        "embedding_regularizer": None,
        "net_regularizer": None,
    }
    own = {name: parameter.default for name, parameter in inspect.signature(DIEN).parameters.items()}
    assert {name: own[name] for name in zoo} == zoo and list(own)[1 : len(zoo) + 1] == list(zoo)
