"""Steps of the model one by one, as a server calls them."""

import pytest
import torch
from made import SEQUENCES, TWO, make_batch

GRU_TYPES = ["GRU", "AIGRU", "AGRU", "AUGRU"]
LENGTHS = [6, 0, 1, 3, 2]


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


def test_extractor_continues_from_a_state(make_dien):
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


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("gru_type", GRU_TYPES)
@torch.no_grad()
def test_evolution_continues_only_without_softmax(make_dien, gru_type, softmax):
    model = make_dien(gru_type=gru_type, use_attention_softmax=softmax).eval()
    batch = make_batch([6])
    targets = model.embed_targets(model.embed_profile(batch))
    whole = model.extract(model.embed_behaviours(batch))
    first = model.extract(model.embed_behaviours({name: batch[name][:, :4] for name in SEQUENCES}))
    later = model.embed_behaviours({name: batch[name][:, 4:] for name in SEQUENCES})
    later = model.extract(later, [first[0].final])
    for evolve in (model.evolve, model.evolve_candidates):
        (expected,) = evolve(whole, targets)
        (found,) = evolve(later, targets, evolve(first, targets))
        assert torch.allclose(found, expected, atol=1e-6) == (gru_type == "GRU" or not softmax)


def test_candidates_are_of_one_user(make_dien):
    model, batch = make_dien().eval(), make_batch([3, 2])
    interests = model.extract(model.embed_behaviours(batch))
    with pytest.raises(ValueError, match=r"^evolve_candidates takes the interests of one user, got those of 2$"):
        model.evolve_candidates(interests, model.embed_targets(model.embed_profile(batch)))


def test_the_auxiliary_loss_needs_negatives_and_they_need_it(make_dien):
    batch = make_batch(LENGTHS)
    with pytest.raises(ValueError, match=r"^with_negatives=True needs aux_loss_alpha > 0$"):
        make_dien().embed_behaviours(batch, with_negatives=True)
    model = make_dien(aux_loss_alpha=1.0)
    with pytest.raises(ValueError, match=r"^the auxiliary loss needs behaviours embedded with_negatives=True$"):
        model.auxiliary_loss(model.extract(model.embed_behaviours(batch)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("lengths", [[3], [0], [3, 2]])
def test_every_module_keeps_its_mode(make_dien, training, lengths):
    model = make_dien(aux_loss_alpha=1.0, attention_type="din_attention", dnn_activations="Dice").train(training)
    model(make_batch(lengths))
    assert {module.training for module in model.modules()} == {training}


def test_one_row_trains_on_running_statistics(make_dien):
    model = make_dien().train()
    model(make_batch(LENGTHS))
    before = {name: x.clone() for name, x in model.dnn.state_dict().items()}
    trained = model(make_batch([3]))["logits"]
    for name, x in model.dnn.state_dict().items():
        assert torch.equal(x, before[name]), name
    assert torch.equal(trained, model.eval()(make_batch([3]))["logits"])


def test_one_row_trains_with_dropout(make_dien):
    model = make_dien(net_dropout=0.5).train()
    assert len({model(make_batch([3]))["logits"].item() for _ in range(5)}) > 1
