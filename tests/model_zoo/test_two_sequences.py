"""A model of two sequences, compared with models of each that have its weights."""

import pytest
import torch
from made import TWO, make_batch, write_catalogues

FIELDS = list(zip(TWO["dien_target_field"], TWO["dien_sequence_field"], strict=True))
COLUMNS = [("neg_item_history", "neg_cate_history"), "neg_item_history"]
LENGTHS = [6, 0, 1, 3, 2]
MODELS = [
    {"gru_type": "GRU"},
    {"gru_type": "AIGRU"},
    {"gru_type": "AGRU", "attention_type": "din_attention"},
    {"gru_type": "AUGRU"},
    {"gru_type": "AUGRU", "augru_gate": "tensorflow", "use_attention_softmax": False},
]
HIDDEN = 5


@pytest.fixture(params=MODELS, ids=str)
def make_both(make_dien, request):
    """Return the model of two sequences, and the models of each one.

    States of both sequences have equal sizes.
    """

    def make(**keywords):
        columns = keywords.pop("dien_neg_seq_field", [[], []])
        keywords = {"gru_hidden_size": HIDDEN, **request.param, **keywords}
        both = make_dien(**TWO, **keywords, dien_neg_seq_field=[column for column in columns if column])
        alone = []
        for sequence, column, (target, behaviours) in zip(both.sequences, columns, FIELDS, strict=True):
            fields = {"dien_target_field": target, "dien_sequence_field": behaviours, "dien_neg_seq_field": column}
            model = make_dien(**keywords, **fields)
            model.embedding_layer.load_state_dict(both.embedding_layer.state_dict())
            model.sequences[0].load_state_dict(sequence.state_dict())
            alone.append(model.eval())
        return both.eval(), alone

    return make


def states(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, HIDDEN, generator=generator) for _ in range(2)]


def check(found, expected):
    """Compare NamedTuples, lists and tensors."""
    if torch.is_tensor(expected):
        assert torch.equal(found, expected)
    elif isinstance(expected, (tuple, list)):
        for one, other in zip(found, expected, strict=True):
            check(one, other)
    else:
        assert (found is None) == (expected is None)


@pytest.mark.parametrize("given", [False, True])
def test_each_sequence_evolves_as_if_alone(make_both, given):
    both, alone = make_both()
    X = both.get_inputs(make_batch(LENGTHS))
    first, second = (states(len(LENGTHS), seed) if given else None for seed in (1, 2))
    profile = both.embed_profile(X)
    targets, behaviours = both.embed_targets(profile), both.embed_behaviours(X)
    interests = both.extract(behaviours, first)
    evolutions, evolved = both.trace(interests, targets, second), both.evolve(interests, targets, second)
    every = (targets, behaviours, interests, evolutions, evolved)
    for i, model in enumerate(alone):
        own_targets, own_behaviours = model.embed_targets(model.embed_profile(X)), model.embed_behaviours(X)
        own_interests = model.extract(own_behaviours, [first[i]] if given else None)
        own_evolutions = model.trace(own_interests, own_targets, [second[i]] if given else None)
        own_evolved = model.evolve(own_interests, own_targets, [second[i]] if given else None)
        own = (own_targets, own_behaviours, own_interests, own_evolutions, own_evolved)
        for found, expected in zip(every, own, strict=True):
            assert len(found) == 2
            check(found[i], expected[0])


@pytest.mark.parametrize("given", [False, True])
@torch.no_grad()
def test_candidates(make_both, given):
    both, alone = make_both()
    batch = make_batch([4] * 3)
    user = {name: x[:1] for name, x in batch.items()}
    second = states(3, 2) if given else None
    targets, interests = both.embed_targets(both.embed_profile(batch)), both.extract(both.embed_behaviours(user))
    evolved = both.evolve_candidates(interests, targets, second)
    for i, model in enumerate(alone):
        check(evolved[i], model.evolve_candidates([interests[i]], [targets[i]], [second[i]] if given else None)[0])
    for found, expected in zip(evolved, both.evolve(interests, targets, second), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("sum_pooling", [True, False])
def test_mlp_reads_each_sequence_then_the_profile(make_both, sum_pooling):
    both, alone = make_both(enable_sum_pooling=sum_pooling)
    batch, seen = make_batch(LENGTHS), []
    both.dnn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    both(batch)
    X = both.get_inputs(batch)
    expected = []
    for model, (_, behaviours) in zip(alone, FIELDS, strict=True):
        e_a = model.embed_targets(model.embed_profile(X))
        expected += model.evolve(model.extract(model.embed_behaviours(X)), e_a)
        if sum_pooling:
            names = [behaviours] if isinstance(behaviours, str) else behaviours
            embedded = model.embedding_layer({name: X[name] for name in names})
            real = (X[names[0]] > 0).unsqueeze(-1)
            pooled = (torch.cat([embedded[name] for name in names], dim=-1) * real).sum(dim=1)
            expected += [pooled, e_a[0] * pooled]
    profile = both.embedding_layer({name: X[name] for name in ("price", "item_id", "cate_id", "query")})
    torch.testing.assert_close(seen[0], torch.cat([*expected, *profile.values()], dim=-1))


@pytest.mark.parametrize("source", ["column", "in_batch", "popularity", "uniform"])
def test_each_has_its_own_negatives_and_auxiliary_loss(make_both, tmp_path, source):
    write_catalogues(tmp_path)
    both, alone = make_both(
        data_dir=tmp_path, aux_loss_alpha=0.3, aux_negatives=source, aux_num_negatives=2, dien_neg_seq_field=COLUMNS
    )
    X = both.get_inputs(make_batch([6, 0, 4, 3, 5]))
    torch.manual_seed(3)
    behaviours = both.embed_behaviours(X, with_negatives=True)
    loss = both.auxiliary_loss(both.extract(behaviours))
    torch.manual_seed(3)
    losses = []
    for i, model in enumerate(alone):
        own = model.embed_behaviours(X, with_negatives=True)
        assert own[0].valid.any()
        check(behaviours[i], own[0])
        losses.append(model.auxiliary_loss(model.extract(own)))
    torch.testing.assert_close(loss, sum(losses))
    assert losses[0] > 0 and losses[1] > 0


def test_diagnostics(make_both):
    both, alone = make_both()
    batch = make_batch(LENGTHS)
    values, expected = both.diagnostics(batch), alone[0].diagnostics(batch) | alone[1].diagnostics(batch)
    assert values.keys() == expected.keys() and len(expected) == (2 if both.gru_type == "GRU" else 4)
    for name, value in expected.items():
        assert torch.equal(values[name], value), name
