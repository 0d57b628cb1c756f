"""One user with many candidates: shared computation does not change results."""

import itertools

import pytest
import torch
from made import make_batch
from made_recurrence import FAST, NARROW, compiled

from model_zoo.DIEN.src.attention import ATTENTION_TYPES, InterestAttention
from model_zoo.DIEN.src.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.kernels import cpu
from model_zoo.DIEN.src.kernels.cpu import candidate_scores, evolve_candidates
from model_zoo.DIEN.src.kernels.reference import KINDS
from model_zoo.DIEN.src.layers.packing import Packing

BACKENDS = [*FAST, "reference"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
"""Sums of a hundred products in another order differ by some of the dtype's ulps, in float32 of 1e-7 each."""
SIZES = [(0, 5), (1, 1), (9, 33), (100, 2), (20, 1000), (100, 300)]
"""Steps and candidates."""
MODELS = [
    {"gru_type": "GRU"},
    {"gru_type": "AIGRU"},
    {"gru_type": "AGRU"},
    {"gru_type": "AUGRU"},
    {"gru_type": "AUGRU", "augru_gate": "tensorflow"},
]


def check(got, expected):
    """To the dtype's tolerance, relative to the largest number."""
    bound = TOLERANCE[got.dtype] * max(1, expected.abs().max().item() if expected.numel() else 0)
    torch.testing.assert_close(got, expected, rtol=0, atol=bound)


def expanded(steps, candidates):
    return Packing.of_lengths(torch.full((candidates,), steps))


def check_recurrence(kind, backend, dtype, steps, candidates, hidden):
    torch.manual_seed(0)
    layer = AttentionalGRU(hidden + 2, hidden, kind, backend).to(dtype)
    # Not contiguous.
    inputs, state = torch.randn(hidden + 2, steps, dtype=dtype).T, torch.randn(hidden, candidates, dtype=dtype).T
    attention = torch.rand(candidates, steps, dtype=dtype).T
    final = layer(inputs.repeat(candidates, 1), expanded(steps, candidates), attention.T.flatten(), state)[1]
    got = layer.for_candidates(inputs, None if kind == "GRU" else attention, state)
    assert not got.requires_grad
    check(got, final.detach())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_recurrence_is_that_of_the_expanded_batch(kind, dtype, backend):
    for (steps, candidates), hidden in zip(SIZES, itertools.cycle((7, 36, 1, 37))):
        check_recurrence(kind, backend, dtype, steps, candidates, hidden)


def check_attention(attention_type, softmax, activation, backend, dtype, steps, candidates, size):
    torch.manual_seed(0)
    layer = InterestAttention(
        size, size + 1, attention_type, (9, 20), activation, use_softmax=softmax, backend=backend
    ).to(dtype)
    layer.eval()  # Dice has its running statistics
    interests, targets = torch.randn(size, steps, dtype=dtype).T, torch.randn(size + 1, candidates, dtype=dtype).T / 3
    expected = layer(interests.repeat(candidates, 1), targets, expanded(steps, candidates))
    got = layer.for_candidates(interests, targets)
    assert not got.requires_grad
    check(got, expected.detach().view(candidates, steps).T)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize(
    "attention_type,activation",
    [
        *((kind, "Sigmoid") for kind in ATTENTION_TYPES),
        *(("din_attention", name) for name in ("ReLU", "PReLU", "Dice")),
    ],
)
def test_attention_is_that_of_the_expanded_batch(attention_type, activation, softmax, dtype, backend):
    for (steps, candidates), size in zip(SIZES, itertools.cycle((7, 36, 1, 37))):
        check_attention(attention_type, softmax, activation, backend, dtype, steps, candidates, size)


def one_user(length, candidates, max_len=100):
    """Return the history of one user, and of all rows of a batch."""
    batch = make_batch([length] * candidates, max_len)
    user = {name: x[:1] for name, x in batch.items() if name.endswith("_history")}
    return user, batch | {name: x.expand(candidates, -1) for name, x in user.items()}


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("attention_type", ["bilinear_attention", "din_attention"])
@pytest.mark.parametrize("keywords", MODELS)
def test_evolution_is_that_of_the_expanded_batch(make_dien, keywords, attention_type, softmax, backend):
    model = make_dien(
        recurrence_backend=backend,
        attention_type=attention_type,
        attention_activation="Sigmoid",
        use_attention_softmax=softmax,
        **keywords,
    ).eval()
    model.double()  # without a softmax, gates beyond 1 make states grow, and errors with them
    with torch.no_grad():
        for length, candidates in [(0, 3), (5, 1), (100, 1000)]:
            user, batch = one_user(length, candidates)
            interests, every = (model.extract(model.embed_behaviours(X)) for X in (user, batch))
            targets, states = [[x] for x in torch.randn(2, candidates, 8, dtype=torch.float64)]
            for given in (None, states):
                check(model.evolve_candidates(interests, targets, given)[0], model.evolve(every, targets, given)[0])


@pytest.mark.parametrize("backend", FAST)
def test_candidates_with_gradients(make_dien, backend):
    model = make_dien(recurrence_backend=backend, attention_type="din_attention", attention_activation="Sigmoid").eval()
    user, batch = one_user(6, 4)
    gradients = []
    for histories in (user, batch):
        targets = model.embed_targets(model.embed_profile(batch))
        weights = [*model.sequences[0].attention.parameters(), *model.sequences[0].evolution.parameters()]
        interests = model.extract(model.embed_behaviours(histories))
        gradients.append(torch.autograd.grad(model.evolve(interests, targets)[0].sum(), weights))
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("kind", KINDS)
def test_autocast(kind, backend):
    torch.manual_seed(0)
    interests, targets, state = torch.randn(20, 8), torch.randn(40, 7), torch.zeros(40, 8)
    layers = [
        (InterestAttention(8, 7, attention_type, (5,), "Sigmoid", backend=backend), AttentionalGRU(8, 8, kind, backend))
        for attention_type in ATTENTION_TYPES
    ]

    def run(attention, evolution):
        return evolution.for_candidates(interests, attention.for_candidates(interests, targets), state)

    for attention, evolution in layers:
        expected = run(attention, evolution)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = run(attention, evolution)
        torch.testing.assert_close(got, expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
@pytest.mark.parametrize("activation", ["Sigmoid", "PReLU"])
def test_attention_under_autocast(attention_type, activation, backend):
    torch.manual_seed(0)
    layer = InterestAttention(8, 7, attention_type, (5,), activation, backend=backend).eval()
    arguments = torch.randn(20, 8), torch.randn(3, 7), Packing.of_lengths(torch.tensor([12, 0, 8]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = layer(*arguments)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, layer(*arguments), rtol=0, atol=0.05)


def case(dtype=torch.float32, steps=5, candidates=40, hidden=6):
    g = torch.Generator().manual_seed(0)
    shapes = {
        "inputs": (steps, hidden),
        "attention": (steps, candidates),
        "state": (candidates, hidden),
        "weight_ih": (3 * hidden, hidden),
        "weight_hh": (3 * hidden, hidden),
        "bias": (3 * hidden,),
    }
    return {name: torch.randn(shape, generator=g, dtype=dtype) for name, shape in shapes.items()}


@compiled
def test_threads_do_not_change_results():
    arguments = case(candidates=1000)
    for name in ("inputs", "state", "weight_ih"):  # sums of whole numbers are exact, however they are divided
        arguments[name].round_()
    net = [torch.randn(4, 24).round(), torch.randn(1, 4).round()], [torch.randn(4).round(), torch.randn(1).round()]
    runs = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        runs.append(
            (
                evolve_candidates(**arguments, kind="AUGRU"),
                candidate_scores(arguments["inputs"], arguments["state"], *net, "relu"),
            )
        )
    assert all(torch.equal(*both) for run in runs[1:] for both in zip(runs[0], run, strict=True))
    assert runs[0][1].unique().numel() > 10


@compiled
@pytest.mark.parametrize("name", ["attention", "state"])
def test_what_is_not_finite_stays_with_its_candidate(name):
    arguments = case()
    expected = evolve_candidates(**arguments, kind="AUGRU")
    (arguments["attention"].T if name == "attention" else arguments["state"])[7] = float("nan")
    final = evolve_candidates(**arguments, kind="AUGRU")
    assert final[7].isnan().all()
    others = torch.arange(len(final)) != 7
    assert torch.equal(final[others], expected[others])


@compiled
@pytest.mark.parametrize(
    "name,value,message",
    [
        ("inputs", torch.ones(5, 6, dtype=torch.float16), "inputs is torch.float16; allowed: torch.float32"),
        ("inputs", torch.ones(5, 7), r"inputs must be \(5, 6\)"),
        ("attention", torch.ones(40, 5), r"attention must be \(5, 40\)"),
        ("state", torch.ones(40, 6, dtype=torch.float64), "state must be .* is .* torch.float64"),
        ("weight_ih", torch.ones(6, 6), r"weight_ih must be \(18, 6\)"),
        ("weight_hh", torch.ones(18, 7), r"weight_hh must be \(18, 6\)"),
        ("bias", torch.ones(18, device="meta"), "bias must be .* on a CPU, is .* on meta"),
    ],
)
def test_refuses_what_it_cannot_take(name, value, message):
    with pytest.raises(ValueError, match=message):
        evolve_candidates(**{**case(), name: value}, kind="AUGRU")


@compiled
@pytest.mark.parametrize("flags", NARROW)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_narrow_vectors(monkeypatch, flags, dtype):
    monkeypatch.setenv("DIEN_CXXFLAGS", flags)
    for kind, hidden in zip(cpu.KINDS, (1, 7, 36, 37, 64), strict=True):
        check_recurrence(kind, "compiled", dtype, 10, 33, hidden)
        check_attention("din_attention", True, "Sigmoid", "compiled", dtype, 10, 33, hidden)
