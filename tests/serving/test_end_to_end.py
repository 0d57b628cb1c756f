"""Scores over HTTP equal the data set's encoder and the model's forward pass."""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import torch
from made_asgi import Client
from made_columns import META, categorical, sequence
from made_experiment import HISTORIES, MODEL, made_experiment
from made_requests import spread_dien

from dien_fuxictr import Experiment
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.serving.app import App
from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.request import Limits
from dien_fuxictr.serving.write import write_bundle

MAX_LEN = 80


class Site(NamedTuple):
    experiment: Experiment
    client: Client


@pytest.fixture(scope="module", params=["pre", "post"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return an experiment with random weights, and a server of its bundle."""
    folder = tmp_path_factory.mktemp(request.param)
    histories = [
        sequence(name, share_embedding=root, max_len=MAX_LEN, padding=request.param)
        for name, root in zip(HISTORIES, ("item_id", "cate_id"), strict=True)
    ]
    columns = [META, categorical("item_id"), categorical("cate_id"), categorical("brand", fill_na="none"), *histories]
    experiment = made_experiment(folder, MODEL, columns)
    torch.manual_seed(0)
    checkpoint.save(spread_dien(experiment.model).state_dict(), experiment.checkpoint)
    write_bundle(experiment, folder / "bundle", [])
    client = Client(App(lambda: open_bundle(folder / "bundle"), Limits(), 1_000_000, 1)).loaded()
    yield Site(experiment, client)
    client.close()


def made(behaviours: int, candidates: int, seed: int = 0) -> dict[str, Any]:
    """Items that training knows and others, behaviours without a value among them."""
    rng = np.random.default_rng(seed)
    past, others = rng.integers(0, 24, behaviours), rng.integers(0, 24, candidates)
    items = [f"i{k}" if k < 22 else "" for k in past]
    user = {"item_history": items, "cate_history": [f"c{k % 3}" if k < 22 else "" for k in past], "brand": "b2"}
    named = {"item_id": [f"i{k}" for k in others], "cate_id": [f"c{k % 4}" for k in others]}
    return {"user": user, "candidates": named}


def over_http(site: Site, request: dict[str, Any]) -> np.ndarray:
    reply = site.client.post("/v1/score", request)
    assert reply.status == 200, reply.body
    return np.array(reply.json["scores"])


def by_predict(site: Site, request: dict[str, Any]) -> np.ndarray:
    """Return the scores of one row per candidate, as `--predict` reads them."""
    count = len(request["candidates"]["item_id"])
    user = {name: "^".join(value) if name in HISTORIES else value for name, value in request["user"].items()}
    rows = {**{name: [value] * count for name, value in user.items()}, **request["candidates"]}
    return site.experiment.predict(pl.DataFrame({"user_id": ["u1"] * count, **rows}))


@pytest.mark.parametrize("candidates", [1, 31, 33, 1000])
@pytest.mark.parametrize("behaviours", [0, 1, 63, 100])
def test_scores_are_those_of_rows(site: Site, behaviours: int, candidates: int) -> None:
    request = made(behaviours, candidates)
    got = over_http(site, request)
    np.testing.assert_allclose(got, by_predict(site, request), rtol=0, atol=1e-5)
    assert len(got) == candidates


def test_order_counts(site: Site) -> None:
    """Check that other orders of behaviours or candidates change the scores."""
    request, seen = made(63, 33), np.random.default_rng(1).permutation(63)
    shuffled, swapped = copy.deepcopy(request), copy.deepcopy(request)
    for name in HISTORIES:
        shuffled["user"][name] = [request["user"][name][k] for k in seen]
    for values in swapped["candidates"].values():
        values.reverse()
    scores = over_http(site, request)
    assert np.abs(over_http(site, shuffled) - scores).max() > 1e-3
    assert np.abs(over_http(site, swapped) - scores).max() > 1e-3
    np.testing.assert_allclose(over_http(site, swapped)[::-1], scores, rtol=0, atol=1e-6)
