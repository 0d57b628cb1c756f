"""Bodies of any kind are answered, and later requests are not affected."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made_asgi import Client, Reply
from made_columns import META, categorical, numeric, sequence
from made_experiment import made_experiment

from dien_fuxictr.serving.app import App
from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.request import Limits
from dien_fuxictr.serving.write import write_bundle

COLUMNS = [
    META,
    categorical("item_id"),
    categorical("cate_id"),
    categorical("zip", "int", fill_na=-1),
    numeric("age", "int", normalizer="StandardScaler"),
    numeric("price", normalizer="MinMaxScaler"),
    numeric("score", fill_na=0.5),
    sequence("item_history", share_embedding="item_id"),
    sequence("cate_history", share_embedding="cate_id"),
    sequence("other_history", share_embedding="item_id", padding="pre", max_len=3),
]
MODEL = {
    "model": "DIEN",
    "dien_target_field": [("item_id", "cate_id")],
    "dien_sequence_field": [("item_history", "cate_history")],
    "aux_loss_alpha": 0.5,
    "embedding_dim": 4,
    "dnn_hidden_units": [8],
}
VALID = {
    "user": {
        "item_history": ["i1", "i2"],
        "cate_history": ["c1", "c2"],
        "other_history": None,
        "age": 20,
        "price": 2.5,
        "user_id": "u1",
    },
    "candidates": {"item_id": ["i3", "new"], "cate_id": ["c0", "c1"], "zip": [3, None], "score": [0.25, None]},
}
MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

texts = st.text(max_size=8) | st.sampled_from(["\ud800", "i1^i2", "^", "\0", "__OOV__", "__PAD__", "1e3", ""])
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400, 1e38, 1e39, 1.7e308, -0.0, True])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.sampled_from(["user", "item_id"]), inner),
    max_leaves=6,
)
nested = st.integers(1, 3000).map(lambda depth: "[" * depth + "]" * depth)


@st.composite
def nearly_valid(draw: st.DrawFn) -> str:
    """Draw a request with a few values replaced, left out, doubled or nested."""
    request: dict[str, Any] = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        part = draw(st.sampled_from([request, *(each for each in request.values() if isinstance(each, dict))]))
        if not part:
            continue
        name = draw(st.sampled_from(sorted(part)))
        match draw(st.sampled_from(["value", "number", "element", "element", "gone", "more"])):
            case "value":
                part[name] = draw(values)
            case "number":
                part[name] = draw(numbers | st.lists(numbers, min_size=1, max_size=2))
            case "element" if isinstance(part[name], list) and part[name]:
                part[name][draw(st.integers(0, len(part[name]) - 1))] = draw(values)
            case "gone":
                del part[name]
            case _:
                part[draw(texts | st.sampled_from(["item_id", "age", "label", "cate_id"]))] = draw(values)
    text = json.dumps(request)
    return text.replace("null", draw(nested), 1) if draw(st.booleans()) else text


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("fuzz")
    write_bundle(made_experiment(folder, MODEL, COLUMNS), folder / "bundle", [])
    client = Client(App(lambda: open_bundle(folder / "bundle"), Limits(100, 100), 20_000, 2)).loaded()
    assert not client.app.failure
    yield client
    client.close()


@pytest.fixture
def ask(client: Client, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str, bytes], Reply]]:
    """Send a body, and check that the valid request still has its scores.

    The log must be empty.
    """

    def ask(path: str, body: bytes) -> Reply:
        reply = client.post(path, body)
        assert reply.status in (200, 400, 413, 422), reply
        assert reply.json["error"] if reply.status != 200 else reply.json["model"]
        return reply

    headers = {"x-request-id": "a"}
    before = client.post("/v1/score", VALID, headers=headers)
    assert before.status == 200 and len(set(before.json["scores"])) == 2
    yield ask
    assert client.post("/v1/score", VALID, headers=headers) == before
    assert not caplog.records


def with_user(**values: Any) -> str:
    return json.dumps({**VALID, "user": {**VALID["user"], **values}})


def finite(scores: list[Any]) -> bool:
    return all(finite(each) if isinstance(each, list) else math.isfinite(each) for each in scores)


@MANY
@given(st.binary(max_size=200), st.sampled_from(["/v1/score", "/v1/score:batch"]))
@example(b"[" * 10_000, "/v1/score")
@example(b'{"user":' * 2_000, "/v1/score")
@example(b"\xff\xfe{\x00}\x00", "/v1/score")
@example(b"\xef\xbb\xbf{}", "/v1/score")
@example(b'{"user": {}, "user": {}}', "/v1/score")
@example(b'{"requests": [NaN]}', "/v1/score:batch")
def test_bytes(ask: Callable[[str, bytes], Reply], body: bytes, path: str) -> None:
    assert ask(path, body).status != 200


@MANY
@given(values, st.sampled_from(["/v1/score", "/v1/score:batch"]))
@example({"requests": [VALID, VALID]}, "/v1/score:batch")
@example({"requests": [VALID, {}]}, "/v1/score:batch")
def test_json(ask: Callable[[str, bytes], Reply], value: Any, path: str) -> None:
    reply = ask(path, json.dumps(value).encode())
    assert reply.status != 200 or finite(reply.json["scores"])


@MANY
@given(nearly_valid(), st.booleans())
@example(with_user(price=1e39), False)
@example(with_user(price=-1.7e308), False)
@example(with_user(price=10**400), False)
@example(with_user(age=10**19), False)
@example(with_user(item_history=["\ud800"]), False)
@example(with_user(item_history=["i1", 7, None], cate_history=["c1", "", None]), False)
def test_requests_with_something_wrong(ask: Callable[[str, bytes], Reply], request_: str, in_batch: bool) -> None:
    path, body = ("/v1/score:batch", f'{{"requests": [{request_}]}}') if in_batch else ("/v1/score", request_)
    reply = ask(path, body.encode())
    assert finite(reply.json["scores"]) if reply.status == 200 else reply.status in (400, 422)
    if not in_batch and reply.json.get("scores") != []:  # an explanation needs at least one candidate
        explained = ask("/v1/explain", body.encode())
        assert (explained.status, explained.json.get("scores")) == (reply.status, reply.json.get("scores"))
