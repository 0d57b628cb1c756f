"""Explanations of scores equal the model's trace: attention and states."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from made import DEFAULTS, TWO, features, make_batch, make_feature_map
from made_asgi import Client, started

from dien_fuxictr import open_experiment
from dien_fuxictr.dataset.loading.loader import InMemoryDataLoader
from dien_fuxictr.experiment.model_methods import principal_components
from dien_fuxictr.serving.bundle import Bundle, open_bundle
from dien_fuxictr.serving.examples import made_request
from dien_fuxictr.serving.explain import MOST, explain
from dien_fuxictr.serving.request import Inputs
from dien_fuxictr.serving.write import write_bundle
from model_zoo.DIEN.src import DIEN


@pytest.fixture
def client(opened: Bundle) -> Iterator[Client]:
    client = started(lambda: opened).loaded()
    yield client
    client.close()


@torch.no_grad()
def traced(model: DIEN, X: dict[str, Any]) -> list[tuple[np.ndarray | None, np.ndarray]]:
    """Return attention (N, T) and states (N, T, H) of each sequence.

    They are of N full rows with one history.
    """
    targets = model.embed_targets(model.embed_profile(X))
    found = []
    for evolution in model.trace(model.extract(model.embed_behaviours(X)), targets):
        states = evolution.states.view(len(targets[0]), -1, evolution.final.size(1)).numpy()
        attention = evolution.attention
        found.append((None if attention is None else attention.view(states.shape[:2]).numpy(), states))
    return found


def check(sequence: dict[str, Any], attention: np.ndarray | None, states: np.ndarray) -> None:
    before = np.zeros_like(states[:, 0])
    moved = []
    for step in range(states.shape[1]):
        moved.append(np.sqrt(((states[:, step] - before) ** 2).sum(axis=1)))
        before = states[:, step]
    np.testing.assert_allclose(np.array(sequence["movement"]), np.stack(moved, axis=1), atol=1e-5)
    if attention is None:
        assert sequence["attention"] is None
    else:
        np.testing.assert_allclose(np.array(sequence["attention"]), attention, atol=1e-5)
    points, shares = principal_components(np.concatenate([np.zeros_like(states[:, :1]), states], axis=1))
    np.testing.assert_allclose(np.array(sequence["path"]), points, atol=1e-4)
    np.testing.assert_allclose(sequence["explained_variance"], shares, atol=1e-4)


def rows_of(bundle: Bundle, request: dict[str, Any]) -> dict[str, Any]:
    """Return one full row per candidate, encoded like files."""
    count = len(request["candidates"]["item_id"])
    histories = {name: [values] * count for name, values in request["user"].items()}
    encoded = bundle.encoder.encode_rows(pl.DataFrame({**histories, **request["candidates"]}))
    (batch,) = InMemoryDataLoader.from_encoded(bundle.model.feature_map, encoded)
    return bundle.model.get_inputs(batch)


def test_attention_and_movement_are_those_of_the_trace(client: Client, opened: Bundle) -> None:
    request = made_request(opened.encoder, 9, 4)
    answer = client.post("/v1/explain", request).json
    assert answer["model"] == opened.digest
    assert answer["scores"] == client.post("/v1/score", request).json["scores"]
    (sequence,) = answer["sequences"]
    assert (sequence["fields"], sequence["seen"]) == (["item_history", "cate_history"], list(range(9)))
    ((attention, states),) = traced(opened.model, rows_of(opened, request))
    check(sequence, attention, states)
    given = np.array(sequence["attention"])
    assert given.shape == np.shape(sequence["movement"]) == (4, 9) and np.shape(sequence["path"]) == (4, 10, 2)
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(given, axis=1).min() > 1e-3 and np.ptp(given, axis=0).max() > 1e-4, "neither even nor the same"


def test_it_tells_which_behaviours_are_seen(client: Client, opened: Bundle) -> None:
    """Report the last 50 behaviours; null is not one, an empty token is a gap."""
    items, cates = made_request(opened.encoder, 54, 1)["user"].values()
    items[3] = cates[3] = None
    items[7] = cates[7] = ""
    request = {"user": {"item_history": items, "cate_history": cates}, "candidates": {"item_id": items[:2]}}
    (sequence,) = client.post("/v1/explain", request).json["sequences"]
    assert sequence["seen"] == [4, 5, 6, *range(8, 54)]
    assert np.shape(sequence["attention"]) == (2, 49)


def test_without_behaviours(client: Client, opened: Bundle) -> None:
    (sequence,) = client.post("/v1/explain", made_request(opened.encoder, 0, 2)).json["sequences"]
    assert sequence["seen"] == [] and sequence["attention"] == sequence["movement"] == [[], []]
    assert sequence["path"] == [[[0, 0]], [[0, 0]]]


@pytest.mark.parametrize("keywords", [{"gru_type": "GRU"}, {**TWO, "use_attention_softmax": False}], ids=str)
def test_of_other_diens(keywords: dict[str, Any]) -> None:
    spec = features()
    if "dien_target_field" not in keywords:
        spec["query_history"]["feature_encoder"] = "layers.MaskedAveragePooling()"
    torch.manual_seed(0)
    model = DIEN(make_feature_map(spec), **{**DEFAULTS, **keywords}).eval()
    batch = make_batch([4])
    user = {name: batch[name] for name in spec if name.endswith("history")} | {"query": batch["query"]}
    user["query_history"][:, 1] = 0
    candidates = {"item_id": torch.tensor([2, 5, 9]), "cate_id": torch.tensor([1, 2, 3]), "price": torch.rand(3)}
    places = {name: torch.arange(6).view(1, 6).numpy() for name in user}
    columns = [{"name": name} for name in spec]
    bundle: Any = SimpleNamespace(model=model, encoder=SimpleNamespace(columns=columns))
    arrays = [{name: values.numpy() for name, values in part.items()} for part in (user, candidates)]
    got = explain(bundle, Inputs(*arrays, 3, {}, {}, {}), places)
    rows = {name: values.repeat(3, *[1] * (values.dim() - 1)) for name, values in user.items()}
    expected = traced(model, {**rows, **candidates})
    assert len(got) == len(expected) == len(model.sequences)
    for sequence, (attention, states) in zip(got, expected, strict=True):
        check(sequence, attention, states)
    assert got[0]["seen"] == [0, 1, 2, 3]
    if len(got) == 2:
        assert (got[1]["fields"], got[1]["seen"]) == (["query_history"], [0, 2, 3])


def test_of_another_model_there_are_scores_only(project: Path, tmp_path: Path) -> None:
    write_bundle(open_experiment("WideDeep_amazon"), tmp_path / "bundle", [])
    bundle = open_bundle(tmp_path / "bundle")
    client = started(lambda: bundle).loaded()
    request = made_request(bundle.encoder, 3, 2)
    answer = client.post("/v1/explain", request).json
    assert answer["scores"] == client.post("/v1/score", request).json["scores"]
    assert answer["sequences"] == [{"fields": ["item_history", "cate_history"], "seen": [0, 1, 2]}]
    client.close()


def test_refusals(client: Client, opened: Bundle) -> None:
    for count in (0, MOST + 1):
        reply = client.post("/v1/explain", made_request(opened.encoder, 1, count))
        message = f"candidates: must be 1 to {MOST} for an explanation, are {count}"
        assert (reply.status, reply.json) == (422, {"error": message, "field": "candidates"})
    assert len(client.post("/v1/explain", made_request(opened.encoder, 1, MOST)).json["scores"]) == MOST
    assert client.post("/v1/explain", b"{").status == 400
    assert client.post("/v1/explain", {"user": {}}).json["field"] == "candidates"
    assert client.get("/v1/explain").status == 405


def test_examples(opened: Bundle) -> None:
    examples = [made_request(opened.encoder, 2, 2)]
    own = {"examples": examples, "titles": {"a": "A Lens"}}
    client = started(lambda: Bundle(**{**vars(opened), **own})).loaded()
    assert client.get("/v1/examples").json == {"model": opened.digest, **own, "item_fields": ["item_id", "cate_id"]}
    client.close()
    loading = started(lambda: None)
    assert loading.get("/v1/examples").status == 503
    loading.close()
