"""Scores of each model, compared with its equations in NumPy, row by row."""

import itertools

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import Dice as ZooDice
from fuxictr.pytorch.layers import FeatureEmbeddingDict, LogisticRegression
from made import SEQUENCES, make_batch
from made_models import POOLED, STEPWISE, make_model, pooled_features

from model_zoo.DIEN.src.layers.activations import Dice

PROFILE = ("price", "item_id", "cate_id", "query")
LENGTHS = [6, 0, 1, 3, 2]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def array(x):
    return x.detach().double().numpy()


def run(layers, x):
    """Linear layers, batch normalisation, Dice and ReLU of a stack, at inference."""
    for layer in layers:
        if isinstance(layer, torch.nn.Linear):
            x = array(layer.weight) @ x + array(layer.bias)
        elif isinstance(layer, torch.nn.BatchNorm1d):
            x = (x - array(layer.running_mean)) / np.sqrt(array(layer.running_var) + layer.eps)
            x = x * array(layer.weight) + array(layer.bias)
        elif isinstance(layer, (Dice, ZooDice)):
            moments = layer.bn if isinstance(layer, ZooDice) else layer
            p = sigmoid((x - array(moments.running_mean)) / np.sqrt(array(moments.running_var) + moments.eps))
            x = p * x + (1 - p) * array(layer.alpha) * x
        elif isinstance(layer, torch.nn.ReLU):
            x = np.maximum(x, 0)
        elif isinstance(layer, torch.nn.LeakyReLU):
            x = np.where(x > 0, x, layer.negative_slope * x)
        elif isinstance(layer, torch.nn.Tanh):
            x = np.tanh(x)
        else:
            assert isinstance(layer, torch.nn.Sigmoid)
            x = sigmoid(x)
    return x


class Row:
    """Embeddings of one row of a batch, from the tables of a module."""

    def __init__(self, module, batch, row):
        self.layers = next(m for m in module.modules() if isinstance(m, FeatureEmbeddingDict)).embedding_layers
        self.values = {name: x[row].numpy() for name, x in batch.items()}

    def one(self, name):
        weight = array(self.layers[name].weight)
        return weight[:, 0] * self.values[name] if name == "price" else weight[self.values[name]]

    def steps(self, name):
        return [array(self.layers[name].weight)[i] for i in self.values[name] if i > 0]

    def pooled(self, name, pooling):
        steps = self.steps(name)
        size = array(self.layers[name].weight).shape[1]
        return sum(steps, np.zeros(size)) / (max(len(steps), 1) if pooling == "Average" else 1)

    def profile(self):
        return [self.one(name) for name in PROFILE]

    def target(self):
        return np.concatenate([self.one("item_id"), self.one("cate_id")])

    def behaviours(self):
        pairs = zip(self.steps("item_history"), self.steps("cate_history"), strict=True)
        return [np.concatenate(pair) for pair in pairs]

    def runs(self, times):
        """Return the behaviours in lists of equal time tokens."""
        tokens = iter(self.values[times])
        return [list(run) for _, run in itertools.groupby(self.behaviours(), key=lambda _: next(tokens))]


def linear(module, batch, row):
    """Σ_i w_i x_i, where a history has each of its ids."""
    weights = Row(next(m for m in module.modules() if isinstance(m, LogisticRegression)), batch, row)
    return sum(weights.profile()) + sum(weights.pooled(name, "Sum") for name in SEQUENCES)


def products(fields):
    return [a @ b for a, b in itertools.combinations(fields, 2)]


def attend(attention, states, target, normalise):
    """Σ_t a_t h_t with DIN's unit."""
    if not states:
        return np.zeros_like(target)
    scores = np.array(
        [run(attention.unit.layers, np.concatenate([target, h, target - h, target * h]))[0] for h in states]
    )
    if normalise:
        scores = softmax(scores)
    return sum(a * h for a, h in zip(scores, states, strict=True))


def gru(layer, inputs, gates=None):
    """Run (2)-(5) of DIEN's paper; `gates` replace u as in (10), the GRU of DMN+."""
    (W_u, W_r, W_h), (U_u, U_r, U_h), (b_u, b_r, b_h) = (
        np.split(array(x), 3) for x in (layer.weight_ih, layer.weight_hh, layer.bias)
    )
    h, states = np.zeros(len(b_u)), []
    for t, i in enumerate(inputs):
        u, r = sigmoid(W_u @ i + U_u @ h + b_u), sigmoid(W_r @ i + U_r @ h + b_r)
        u = gates[t] if gates is not None else u
        h = (1 - u) * h + u * np.tanh(W_h @ i + r * (U_h @ h) + b_h)
        states.append(h)
    return states


def normalised(norm, x):
    x = (x - x.mean()) / np.sqrt(x.var() + norm.eps)
    return array(norm.weight) * x + array(norm.bias)


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


def transformer_block(block, x, causal=False):
    (W_q, W_k, W_v), (b_q, b_k, b_v) = (np.split(array(p), 3) for p in block.query_key_value.parameters())
    queries, keys, values = ([W @ e + b for e in x] for W, b in ((W_q, b_q), (W_k, b_k), (W_v, b_v)))
    size, outputs = len(x[0]) // block.num_heads, []
    for t, e in enumerate(x):
        seen = range(t + 1) if causal else range(len(x))
        heads = []
        for head in (slice(i, i + size) for i in range(0, len(e), size)):
            weights = softmax(np.array([queries[t][head] @ keys[j][head] for j in seen]) / np.sqrt(size))
            heads.append(sum(w * values[j][head] for w, j in zip(weights, seen, strict=True)))
        attended = array(block.output.weight) @ np.concatenate(heads) + array(block.output.bias)
        s = normalised(block.attention_norm, e + attended)
        outputs.append(normalised(block.output_norm, s + run(block.feed_forward, s)))
    return outputs


def bst(transformer, behaviours, target, pooling, causal):
    """Run BST; behaviours come in order, and positions count from the target."""
    steps = [*behaviours, target]
    x = [np.concatenate([e, array(transformer.positions)[len(behaviours) - t]]) for t, e in enumerate(steps)]
    for block in transformer.blocks:
        x = transformer_block(block, x, causal)
    if pooling == "concat":
        return np.concatenate([*reversed(x), np.zeros((transformer.max_steps - len(x)) * len(x[0]))])
    return {"mean": np.mean(x, axis=0), "sum": np.sum(x, axis=0), "target": x[-1]}[pooling]


def dmn_plus(fusion, question, memory, behaviours, target):
    """Add both directions, then m^i = ReLU(W^i [m^{i-1}; c^i; q] + b^i), m^0 = q."""
    backwards = reversed(gru(fusion.backwards, behaviours[::-1]))
    facts = [a + b for a, b in zip(gru(fusion.forwards, behaviours), backwards, strict=True)]
    q = m = np.tanh(array(question.weight) @ target + array(question.bias))
    for update in memory.updates:
        context = np.zeros_like(q)
        if facts:
            scores = [run(memory.gate.layers, np.concatenate([f * q, f * m, abs(f - q), abs(f - m)]))[0] for f in facts]
            context = gru(memory.attention_gru, facts, gates=softmax(np.array(scores)))[-1]
        m = np.maximum(array(update.weight) @ np.concatenate([m, context, q]) + array(update.bias), 0)
    return m


def lstm(layer, inputs):
    """Gates i, f, o and candidate g (Hochreiter and Schmidhuber, with forget gates)."""
    W, U, b = array(layer.weight_ih_l0), array(layer.weight_hh_l0), array(layer.bias_ih_l0 + layer.bias_hh_l0)
    h = c = np.zeros(U.shape[1])
    states = []
    for x in inputs:
        i, f, g, o = np.split(W @ x + U @ h + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return states


def bilinear(attention, states, target):
    """Σ_k a_k x_k with a_k the softmax of x_k W e_a."""
    weights = softmax(np.array([x @ array(attention.weight) @ target for x in states]))
    return sum(w * x for w, x in zip(weights, states, strict=True))


def dsin(module, sessions, target):
    """Run DSIN: bias, self-attention per session, mean, LSTMs, two attentions."""
    if not sessions:
        return np.zeros(3 * len(target))
    bias, interests = module.bias_encoding, []
    for k, session in enumerate(sessions):
        x = [
            e
            + array(bias.sessions)[len(sessions) - 1 - k]
            + array(bias.places)[len(session) - 1 - t]
            + array(bias.values)
            for t, e in enumerate(session)
        ]
        interests.append(np.mean(transformer_block(module.block, x), axis=0))
    both = zip(lstm(module.forwards, interests), reversed(lstm(module.backwards, interests[::-1])), strict=True)
    interacting = [np.concatenate(states) for states in both]
    return np.concatenate(
        [
            bilinear(module.interest_attention, interests, target),
            bilinear(module.interaction_attention, interacting, target),
        ]
    )


def dream(rnn, baskets, target, pooling):
    """Return h_k = tanh(C b_k + R h_{k-1} + c) and its product with the target."""
    h = np.zeros_like(target)
    for basket in baskets:
        b = np.max(basket, axis=0) if pooling == "max" else np.mean(basket, axis=0)
        h = np.tanh(array(rnn.weight_ih_l0) @ b + array(rnn.weight_hh_l0) @ h + array(rnn.bias_ih_l0 + rnn.bias_hh_l0))
    return np.concatenate([h, h * target])


def sums(row, product):
    pooled = sum(row.behaviours(), np.zeros(8))
    return [pooled, row.target() * pooled] if product else [pooled]


def logit(name, model, batch, i, keywords, pooling):
    row = Row(model.embedding_layer, batch, i)
    if name in STEPWISE:
        parts = sums(row, product=True) if keywords.get("enable_sum_pooling") else []
        if name == "EmbeddingMLP":
            parts = sums(row, keywords.get("enable_target_product"))
        elif name == "DIN":
            normalise = keywords.get("din_use_softmax", False)
            parts = [attend(model.attention_layers[0], row.behaviours(), row.target(), normalise), *parts]
        elif name == "BST":
            parts = [
                bst(
                    model.transformers[0],
                    row.behaviours(),
                    row.target(),
                    keywords.get("seq_pooling_type", "mean"),
                    keywords.get("use_causal_mask"),
                )
            ]
        elif name == "DMNPlus":
            parts = [dmn_plus(model.inputs[0], model.questions[0], model.memories[0], row.behaviours(), row.target())]
        elif name == "DSIN":
            parts = [dsin(model.sessions[0], row.runs("session_history"), row.target())]
        elif name == "DREAM":
            parts = [dream(model.rnns[0], row.runs("day_history"), row.target(), keywords.get("basket_pooling", "max"))]
        else:
            states = gru(model.second_grus[0], gru(model.first_grus[0], row.behaviours()))
            parts = [attend(model.attentions[0], states, row.target(), normalise=True), *parts]
        return run(model.dnn.mlp, np.concatenate([*parts, *row.profile()]))
    fields = [*row.profile(), *(row.pooled(name, pooling) for name in SEQUENCES)]
    if name == "WideDeep":
        return linear(model, batch, i) + run(model.dnn.mlp, np.concatenate(fields))
    if name == "PNN":
        return run(model.dnn.mlp, np.concatenate([*fields, products(fields)]))
    fm = array(model.fm.lr_layer.bias) + linear(model, batch, i) + sum(products(fields))
    return fm if name == "FM" else fm + run(model.mlp.mlp, np.concatenate(fields))


@pytest.mark.parametrize(
    "name,keywords,pooling",
    [
        ("EmbeddingMLP", {}, None),
        ("EmbeddingMLP", {"enable_target_product": True}, None),
        ("DIN", {"din_use_softmax": False}, None),
        ("DIN", {"din_use_softmax": True, "enable_sum_pooling": True}, None),
        ("DIN", {"attention_output_activation": "Sigmoid"}, None),
        ("GRUAttention", {}, None),
        ("GRUAttention", {"enable_sum_pooling": True, "dnn_activations": "Dice"}, None),
        *(("BST", {"seq_pooling_type": pooling}, None) for pooling in ("mean", "sum", "target", "concat")),
        ("BST", {"use_causal_mask": True, "stacked_transformer_layers": 2, "num_heads": 3}, None),
        ("DMNPlus", {}, None),
        ("DMNPlus", {"num_passes": 1, "gru_hidden_size": 5, "gate_hidden_size": 3}, None),
        ("DSIN", {}, None),
        ("DSIN", {"num_heads": 4}, None),
        ("DREAM", {}, None),
        ("DREAM", {"basket_pooling": "mean"}, None),
        *((name, {}, pooling) for name in POOLED for pooling in ("Sum", "Average")),
    ],
)
def test_scores(name, keywords, pooling):
    model = make_model(name, pooled_features(pooling) if pooling else None, **keywords)
    batch = make_batch(LENGTHS)
    for seed in range(3):  # moves the running statistics
        model.train()(make_batch(LENGTHS, seed=seed))
    scores = array(model.eval()(batch)["y_pred"])
    expected = [sigmoid(logit(name, model, batch, i, keywords, pooling)) for i in range(len(LENGTHS))]
    np.testing.assert_allclose(scores, np.array(expected).reshape(-1, 1), rtol=1e-4, atol=1e-6)
