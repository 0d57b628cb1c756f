"""Whole model: what it computes, and for which histories."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import SEQUENCES, TWO, features, make_batch, moved, train_loss, write_catalogues
from made_recurrence import compiled

from model_zoo.DIEN.src.aux_negatives import NegativeSampler

GRU_TYPES = ["GRU", "AIGRU", "AGRU", "AUGRU"]
ATTENTION_TYPES = ["bilinear_attention", "dot_attention", "din_attention", "din_dense_attention"]
LENGTHS = [6, 0, 1, 3, 2]
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
        {"augru_gate": "tensorflow"},
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
def test_place_of_padding_does_not_matter(make_dien, keywords, place):
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


def test_loss_is_target_plus_alpha_times_auxiliary(make_dien):
    model = make_dien(aux_loss_alpha=0.3, **TWO)
    batch = make_batch(LENGTHS)
    result = model.train()(batch)
    y = model.get_labels(batch)
    target = torch.nn.functional.binary_cross_entropy(result["y_pred"], y)
    torch.testing.assert_close(model.compute_loss(result, y), target + 0.3 * result["aux_loss"])


@pytest.mark.parametrize("source", ["in_batch", "popularity", "uniform", "category", "mixed"])
def test_negatives_are_drawn_afresh_at_every_step(make_dien, tmp_path, source):
    write_catalogues(tmp_path)
    model = make_dien(data_dir=tmp_path, aux_loss_alpha=1.0, aux_negatives=source).train()
    batch = make_batch(LENGTHS)
    assert len({model(batch)["aux_loss"].item() for _ in range(5)}) > 1
    state = model.state_dict()
    assert not [name for name in state if "catalogue" in name or "negatives" in name]


def test_fixed_negatives_are_drawn_once(make_dien, tmp_path):
    write_catalogues(tmp_path)
    keywords = {"aux_negatives": "popularity", "aux_fixed_negatives": True}
    model = make_dien(data_dir=tmp_path, aux_loss_alpha=1.0, **keywords).train()
    assert len({model(make_batch(LENGTHS))["aux_loss"].item() for _ in range(5)}) == 1


@pytest.mark.parametrize("own_table", [False, True])
def test_columns_give_the_negatives_where_they_exist(make_dien, own_table):
    spec = features()
    if own_table:
        del spec["neg_item_history"]["share_embedding"]
    model = make_dien(spec, aux_loss_alpha=1.0, **COLUMNS).train()
    batch = make_batch([4, 2])
    batch["neg_item_history"][0] = torch.tensor([7, 0, 29, 8, 0, 0])  # one, none, OOV, one
    batch["item_history"][0] = torch.tensor([1, 2, 3, 8, 0, 0])  # the last equals its negative
    assert model.aux_negatives == "column"
    (behaviours,) = model.embed_behaviours(model.get_inputs(batch), with_negatives=True)
    assert behaviours.valid[:4, 0].tolist() == [True, False, False, own_table]
    columns = {name: batch[name][0, :4] for name in ("neg_item_history", "neg_cate_history")}
    assert torch.equal(behaviours.negatives[:4, 0], torch.cat([*model.embedding_layer(columns).values()], dim=-1))
    without = features()
    del without["neg_item_history"], without["neg_cate_history"]
    for default in ({}, {"dien_neg_seq_field": []}, {"dien_neg_seq_field": None}):
        assert make_dien(without, aux_loss_alpha=1.0, **default).aux_negatives == "in_batch"
    assert make_dien(without, **COLUMNS).aux_negatives == "in_batch"  # which nothing draws
    assert not {"neg_item_history", "neg_cate_history"} & set(model.profile_fields)


def test_auxiliary_loss_costs_nothing_at_inference(make_dien, monkeypatch):
    model = make_dien(aux_loss_alpha=1.0).eval()
    monkeypatch.setattr(type(model), "auxiliary_loss", lambda *_: pytest.fail("computed at inference"))
    monkeypatch.setattr(NegativeSampler, "forward", lambda *_: pytest.fail("drawn at inference"))
    model(make_batch(LENGTHS))


@pytest.mark.parametrize("keywords", [{}, TWO], ids=["one sequence", "two"])
def test_attention_weighting_only_changes_training(make_dien, keywords):
    uniform, weighed = (
        make_dien(aux_loss_alpha=1.0, aux_loss_weighting=weighting, **keywords)
        for weighting in ("uniform", "target_attention")
    )
    state, batch = weighed.state_dict(), make_batch(LENGTHS)
    assert list(state) == list(uniform.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in uniform.state_dict().items())
    assert torch.equal(weighed.eval()(batch)["logits"], uniform.eval()(batch)["logits"])
    (loss, gradients), (other, others) = train_loss(weighed, batch), train_loss(uniform, batch)
    assert loss != other and gradients.keys() == others.keys()
    # No gradient of the auxiliary loss reaches the attention or the target.
    for name, gradient in gradients.items():
        if ".attention." in name or name.startswith("dnn."):
            assert torch.equal(gradient, others[name]), name


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
