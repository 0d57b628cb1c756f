"""The whole model: what it computes, for which histories, and what it refuses."""

import itertools
import logging

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import SEQUENCES, features, make_batch, moved, train_loss
from made_recurrence import compiled

from model_zoo.DIEN.src.negatives import NegativeSampler

GRU_TYPES = ["GRU", "AIGRU", "AGRU", "AUGRU"]
ATTENTION_TYPES = ["bilinear_attention", "dot_attention", "din_attention", "din_dense_attention"]
LENGTHS = [6, 0, 1, 3, 2]
TWO = {
    "dien_target_field": [("item_id", "cate_id"), "query"],
    "dien_sequence_field": [("item_history", "cate_history"), "query_history"],
}
COLUMNS = {"dien_neg_seq_field": ("neg_item_history", "neg_cate_history")}


@pytest.mark.parametrize("gru_type,attention_type", list(itertools.product(GRU_TYPES, ATTENTION_TYPES)))
@pytest.mark.parametrize("alpha", [0, 0.5])
def test_trains_and_every_parameter_learns(make_dien, gru_type, attention_type, alpha):
    model = make_dien(gru_type=gru_type, attention_type=attention_type, aux_loss_alpha=alpha, enable_sum_pooling=True)
    loss, gradients = train_loss(model, make_batch(LENGTHS))
    assert torch.isfinite(loss)
    unused = {f"embedding_layer.embedding_layers.{name}.weight" for name in SEQUENCES}
    assert {name for name, _ in model.named_parameters()} - set(gradients) <= unused
    for name, gradient in gradients.items():
        assert torch.isfinite(gradient).all(), name
    result = model.eval()(make_batch(LENGTHS))
    assert result["y_pred"].shape == result["logits"].shape == (5, 1)
    torch.testing.assert_close(result["y_pred"], torch.sigmoid(result["logits"]))
    assert "aux_loss" not in result


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"use_attention_softmax": False},
        {"augru_sign": "code"},
        {"gru_hidden_size": 5, "attention_type": "din_attention"},
        {"gru_hidden_size": 5, "attention_type": "dot_attention"},
        {"gru_hidden_size": 5, "attention_type": "din_dense_attention"},
        {"gru_hidden_size": 3},
        TWO,
        COLUMNS,
        {"aux_scorer": "inner_product"},
        {"aux_num_negatives": 3},
        {"batch_norm": False, "dnn_activations": "Dice"},
        {"net_dropout": 0.5, "attention_dropout": 0.5},
        {"aux_activation": "Dice"},
        {"dnn_activations": ["ReLU", "Dice"]},
    ],
)
@pytest.mark.parametrize("lengths", [LENGTHS, [0, 0, 0], [4], [0], [1, 1]])
def test_any_history_trains(make_dien, keywords, lengths):
    model = make_dien(aux_loss_alpha=1.0, **keywords)
    loss, gradients = train_loss(model, make_batch(lengths))
    assert torch.isfinite(loss) and all(torch.isfinite(g).all() for g in gradients.values())
    assert torch.isfinite(model.eval()(make_batch(lengths))["y_pred"]).all()


@pytest.mark.parametrize("keywords", [{}, TWO, {"attention_type": "din_attention"}])
@pytest.mark.parametrize(
    "place",
    [
        lambda real, steps: torch.arange(steps - real, steps),  # pre-padding
        lambda real, steps: torch.tensor(sorted([0, *range(2, steps), 1][:real])).long(),  # a gap at 1
    ],
)
def test_where_the_padding_stands_does_not_matter(make_dien, keywords, place):
    model = make_dien(gru_type="AUGRU", aux_loss_alpha=0.7, **keywords, **({} if keywords is TWO else COLUMNS))
    batch = make_batch(LENGTHS)
    other = moved(batch, place)
    assert not torch.equal(batch["item_history"], other["item_history"])
    torch.testing.assert_close(model.eval()(batch)["logits"], model.eval()(other)["logits"], rtol=0, atol=0)
    (loss, gradients), (loss2, gradients2) = train_loss(model, batch), train_loss(model, other)
    assert loss.item() == loss2.item()
    for name in gradients:
        assert torch.equal(gradients[name], gradients2[name]), name


@pytest.mark.parametrize("gru_type,attention_type", list(itertools.product(GRU_TYPES, ATTENTION_TYPES)))
def test_nan_in_the_padding_changes_no_output_and_no_gradient(make_dien, gru_type, attention_type):
    keywords = {"gru_type": gru_type, "attention_type": attention_type, "aux_loss_alpha": 1.0}
    batch = make_batch(LENGTHS)
    results = []
    for poison in (False, True):
        model = make_dien(enable_sum_pooling=True, **keywords, **COLUMNS)
        if poison:
            with torch.no_grad():
                for layer in model.embedding_layer.modules():
                    if isinstance(layer, torch.nn.Embedding):
                        layer.weight[0] = float("nan")
        loss, gradients = train_loss(model, batch)
        results.append((loss, model.eval()(batch)["logits"], gradients))
    (loss, logits, gradients), (poisoned_loss, poisoned_logits, poisoned_gradients) = results
    assert torch.equal(loss, poisoned_loss) and torch.equal(logits, poisoned_logits)
    for name in gradients:
        assert torch.equal(gradients[name], poisoned_gradients[name]), name


@pytest.mark.parametrize("gru_type", GRU_TYPES)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(0, 6), min_size=2, max_size=6), seed=st.integers(0, 99))
def test_rows_do_not_see_each_other(make_dien, gru_type, lengths, seed):
    model = make_dien(gru_type=gru_type, attention_type="din_attention").eval()
    batch = make_batch(lengths, seed=seed)
    order = torch.randperm(len(lengths))
    with torch.no_grad():
        whole = model(batch)["logits"]
        permuted = model({name: x[order] for name, x in batch.items()})["logits"]
        torch.testing.assert_close(permuted, whole[order], rtol=1e-5, atol=1e-6)
        for row in range(len(lengths)):
            alone = model({name: x[row : row + 1] for name, x in batch.items()})["logits"]
            torch.testing.assert_close(alone[0], whole[row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gru_type", GRU_TYPES)
def test_extract_then_evolve_is_forward(make_dien, gru_type):
    model = make_dien(gru_type=gru_type, **TWO).eval()
    X = model.get_inputs(make_batch(LENGTHS))
    profile = model.embed_profile(X)
    targets = [torch.cat([profile["item_id"], profile["cate_id"]], -1), profile["query"]]
    interests = model.extract(model.embed_behaviours({name: X[name] for name in SEQUENCES}))
    logits = model.predict_logits(profile, targets, interests, model.evolve(interests, targets))
    assert torch.equal(logits, model(make_batch(LENGTHS))["logits"])


@pytest.mark.parametrize("sum_pooling", [True, False])
def test_one_user_for_many_candidates(make_dien, sum_pooling):
    model = make_dien(enable_sum_pooling=sum_pooling).eval()
    batch = make_batch([5, 5, 5, 5])
    for name in SEQUENCES:
        batch[name] = batch[name][:1].expand(4, -1).clone()
    profile = model.embed_profile(model.get_inputs(batch))
    target = torch.cat([profile["item_id"], profile["cate_id"]], -1)
    interests = model.extract(model.embed_behaviours({name: batch[name][:1] for name in SEQUENCES}))
    for evolve in (model.evolve, model.evolve_candidates):
        logits = model.predict_logits(profile, [target], interests, evolve(interests, [target]))
        torch.testing.assert_close(logits, model(batch)["logits"])


def test_extractor_goes_on_where_it_stood(make_dien):
    model = make_dien().eval()
    batch = make_batch([6, 6])
    whole, first, rest = (
        model.embed_behaviours({name: batch[name][:, steps] for name in SEQUENCES})
        for steps in (slice(0, 6), slice(0, 4), slice(4, 6))
    )
    whole, first = model.extract(whole)[0], model.extract(first)[0]
    rest = model.extract(rest, [first.final])[0]
    steps = torch.cat([first.states.view(2, 4, -1), rest.states.view(2, 2, -1)], dim=1)
    torch.testing.assert_close(steps.flatten(0, 1), whole.states)
    torch.testing.assert_close(rest.final, whole.final)


def test_augru_signs_differ_and_agree_with_the_operator(make_dien):
    paper, code = make_dien(augru_sign="paper").eval(), make_dien(augru_sign="code").eval()
    code.load_state_dict(paper.state_dict())
    batch = make_batch(LENGTHS)
    assert paper.sequences[0].evolution.kind == "AUGRU" and code.sequences[0].evolution.kind == "AUGRU-code"
    assert not torch.allclose(paper(batch)["logits"], code(batch)["logits"])


def test_loss_is_target_plus_alpha_times_auxiliary(make_dien):
    model = make_dien(aux_loss_alpha=0.3, **TWO)
    batch = make_batch(LENGTHS)
    result = model.train()(batch)
    y = model.get_labels(batch)
    target = torch.nn.functional.binary_cross_entropy(result["y_pred"], y)
    torch.testing.assert_close(model.compute_loss(result, y), target + 0.3 * result["aux_loss"])


def test_each_sequence_has_its_own_auxiliary_loss(make_dien):
    both = make_dien(aux_loss_alpha=1.0, **TWO).train()
    batch = make_batch(LENGTHS)
    interests = both.extract(both.embed_behaviours(both.get_inputs(batch), with_negatives=True))
    losses = [
        sequence.auxiliary_loss(interest.states, *interest.behaviours)
        for sequence, interest in zip(both.sequences, interests, strict=True)
    ]
    torch.testing.assert_close(both.auxiliary_loss(interests), losses[0] + losses[1])
    assert losses[0] > 0 and losses[1] > 0


@pytest.mark.parametrize("source", ["in_batch", "popularity", "uniform"])
def test_negatives_are_drawn_afresh_at_every_step(make_dien, tmp_path, source):
    folder = tmp_path / "behaviour_catalogue"
    folder.mkdir()
    np.savez(
        folder / "item_history.npz",
        item_history=np.arange(1, 29),
        cate_history=np.arange(1, 29) % 6 + 1,
        count=np.ones(28),
    )
    model = make_dien(data_dir=tmp_path, aux_loss_alpha=1.0, aux_negatives=source).train()
    batch = make_batch(LENGTHS)
    assert len({model(batch)["aux_loss"].item() for _ in range(5)}) > 1
    state = model.state_dict()
    assert not [name for name in state if "catalogue" in name]


def test_columns_give_the_negatives_where_they_exist(make_dien):
    model = make_dien(aux_loss_alpha=1.0, **COLUMNS).train()
    batch = make_batch([4, 2])
    batch["neg_item_history"][0] = torch.tensor([7, 0, 29, 8, 0, 0])  # one, none, OOV, one
    batch["item_history"][0] = torch.tensor([1, 2, 3, 8, 0, 0])  # the last equals its negative
    assert model.aux_negatives == "column"
    (behaviours,) = model.embed_behaviours(model.get_inputs(batch), with_negatives=True)
    assert behaviours.valid[:4, 0].tolist() == [True, False, False, False]
    columns = {name: batch[name][0, :4] for name in ("neg_item_history", "neg_cate_history")}
    assert torch.equal(behaviours.negatives[:4, 0], torch.cat([*model.embedding_layer(columns).values()], dim=-1))
    assert make_dien(aux_loss_alpha=1.0, dien_neg_seq_field=[("not", "there")]).aux_negatives == "in_batch"
    assert not {"neg_item_history", "neg_cate_history"} & set(model.profile_fields)


def test_unequal_embedding_sizes(make_dien):
    spec = features(item_id=5, item_history=5, cate_id=3, cate_history=3, query=2, query_history=2)
    model = make_dien(spec, aux_loss_alpha=1.0, enable_sum_pooling=True, **TWO)
    assert [sequence.extractor.weight_hh.size(1) for sequence in model.sequences] == [8, 2]
    loss, _ = train_loss(model, make_batch(LENGTHS))
    assert torch.isfinite(loss)


def test_auxiliary_loss_costs_nothing_at_inference(make_dien, monkeypatch):
    model = make_dien(aux_loss_alpha=1.0).eval()
    monkeypatch.setattr(type(model), "auxiliary_loss", lambda *_: pytest.fail("computed at inference"))
    monkeypatch.setattr(NegativeSampler, "forward", lambda *_: pytest.fail("drawn at inference"))
    model(make_batch(LENGTHS))


def test_regression_predicts_the_logit(make_dien):
    result = make_dien(task="regression", loss="mse_loss").eval()(make_batch(LENGTHS))
    assert torch.equal(result["y_pred"], result["logits"])


def test_diagnostics(make_dien):
    model = make_dien(**TWO).eval()
    values = model.diagnostics(make_batch(LENGTHS))
    assert set(values) == {
        f"{what}/{name}" for what in ("attention", "update_gate") for name in ("item_history", "query_history")
    }
    assert values["attention/item_history"].sum().item() == pytest.approx(4)  # four rows have behaviours
    assert values["update_gate/item_history"].numel() == sum(LENGTHS) * 8
    assert set(make_dien(gru_type="GRU").eval().diagnostics(make_batch(LENGTHS))) == {"update_gate/item_history"}


def test_diagnostics_of_aigru_scale_the_states_by_attention(make_dien):
    model, batch = make_dien(gru_type="AIGRU").eval(), make_batch([3])
    values, state = model.diagnostics(batch), model.extract(model.embed_behaviours(batch))[0].states[0]
    evolution = model.sequences[0].evolution
    (W_u, *_), (b_u, *_) = evolution.weight_ih.chunk(3), evolution.bias.chunk(3)
    gate = torch.sigmoid(W_u @ (values["attention/item_history"][0] * state) + b_u)
    torch.testing.assert_close(values["update_gate/item_history"][:8], gate.detach())


def test_an_unused_sequence_is_said(make_dien, caplog):
    with caplog.at_level(logging.WARNING):
        make_dien()
    assert "query_history" in caplog.text


@pytest.mark.parametrize(
    "keywords,message",
    [
        ({"gru_type": "LSTM"}, "gru_type='LSTM' is unknown; allowed: GRU, AIGRU, AGRU, AUGRU"),
        ({"attention_type": "cosine"}, "attention_type='cosine' is unknown; allowed: bilinear_attention"),
        ({"augru_sign": "minus"}, "augru_sign='minus' is unknown; allowed: paper, code"),
        ({"aux_negatives": "hard"}, "aux_negatives='hard' is unknown"),
        ({"aux_scorer": "cosine", "aux_loss_alpha": 1}, "aux_scorer='cosine' is unknown"),
        ({"aux_loss_alpha": -1}, "aux_loss_alpha=-1 must be a finite number, 0 or more"),
        ({"aux_loss_alpha": float("nan")}, "aux_loss_alpha=nan must be"),
        ({"aux_loss_alpha": "a lot"}, "aux_loss_alpha='a lot' must be"),
        ({"aux_num_negatives": 0}, "aux_num_negatives=0"),
        ({"aux_negatives": "column"}, "needs columns that exist"),
        ({"aux_negatives": "popularity", "aux_loss_alpha": 1}, "no behaviour catalogue of item_history, cate_history"),
        ({"recurrence_backend": "fast"}, "recurrence_backend='fast' is unknown; allowed: auto, reference, torch"),
        (
            {"dien_target_field": ("item_id", "categ_id")},
            "dien_target_field: feature 'categ_id' does not exist .* cate_id",
        ),
        ({"dien_target_field": ("item_id", "user_id")}, "feature 'user_id' is of type 'meta'"),
        ({"dien_target_field": ["item_id", "cate_id"]}, "has 2 entries .* has 1"),
        ({"dien_sequence_field": ("item_id", "cate_history")}, "'item_id' is of type 'categorical', but a sequence"),
        ({"dien_sequence_field": []}, "names no behaviour sequence"),
        ({"dien_neg_seq_field": ["neg_item_history", "neg_cate_history"]}, "does not pair"),
        ({"dien_target_field": "query", "enable_sum_pooling": True}, "their sizes must agree"),
        ({"attention_activation": "Linear", "attention_type": "din_attention"}, "activation 'Linear' is unknown"),
    ],
)
def test_refuses_in_one_clear_line(make_dien, keywords, message):
    with pytest.raises(ValueError, match=message) as error:
        make_dien(**keywords)
    assert "\n" not in str(error.value)


def test_refuses_a_pooled_sequence(make_dien):
    spec = features()
    spec["cate_history"]["feature_encoder"] = "layers.MaskedAveragePooling()"
    with pytest.raises(ValueError, match=r"cate_history: feature_encoder='layers.MaskedAveragePooling\(\)' pools"):
        make_dien(spec)


def test_a_projecting_encoder_is_no_pooling(make_dien):
    spec = features()
    for name in ("item_history", "cate_history"):
        spec[name]["feature_encoder"] = ["nn.Linear(4, 4, bias=False)"]
    loss, _ = train_loss(make_dien(spec, aux_loss_alpha=1.0), make_batch(LENGTHS))
    assert torch.isfinite(loss)


def test_golden_losses(make_dien):
    """Losses of five steps, to notice when a change moves the numbers."""
    model = make_dien(aux_loss_alpha=0.5, enable_sum_pooling=True, learning_rate=0.01)
    losses = []
    for step in range(5):
        batch = make_batch(LENGTHS, seed=step)
        model.optimizer.zero_grad()
        loss, _ = train_loss(model, batch, seed=step)
        model.optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx([1.176624, 1.549306, 1.511564, 1.311311, 1.513228], abs=1e-4)


@compiled
@pytest.mark.parametrize("activation", ["Dice", "Sigmoid"])
def test_training_curves_of_two_backends_agree(make_dien, activation):
    curves = []
    for backend in ("torch", "compiled"):
        model = make_dien(
            aux_loss_alpha=0.5,
            attention_type="din_attention",
            attention_activation=activation,
            recurrence_backend=backend,
        )
        losses = []
        for step in range(100):
            model.optimizer.zero_grad()
            loss, _ = train_loss(model, make_batch(LENGTHS, seed=step), seed=step)
            model.optimizer.step()
            losses.append(loss.item())
        curves.append(losses)
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
    assert curves[0][-1] != pytest.approx(curves[0][0], abs=1e-2)
