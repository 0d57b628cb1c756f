"""OpenAPI document: valid, true of the answers, with working examples."""

import json
import threading
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from made_asgi import Client, Reply, call, started
from openapi_spec_validator import OpenAPIV31SpecValidator

from dien_fuxictr.serving.app import ENDPOINTS
from dien_fuxictr.serving.bundle import Bundle
from dien_fuxictr.serving.examples import made_request
from dien_fuxictr.serving.openapi import REFUSALS
from dien_fuxictr.serving.request import Limits
from docs.reference.generate import FOLDER

REFERENCE = json.loads((FOLDER / "openapi.json").read_text(encoding="utf-8"))
POSTS = [path for path, endpoint in ENDPOINTS.items() if endpoint.takes]
MAX_BODY = 2000


@pytest.fixture(scope="module")
def client(opened: Bundle) -> Iterator[Client]:
    example = made_request(opened.encoder, 5, 3)
    bundle = Bundle(**{**vars(opened), "examples": [example], "titles": {}})
    client = started(lambda: bundle, limits=Limits(60, 60), max_body=MAX_BODY).loaded()
    yield client
    client.close()


@pytest.fixture(scope="module")
def document(client: Client) -> dict[str, Any]:
    return client.get("/openapi.json").json


def example_of(document: dict[str, Any], path: str) -> Any:
    return deepcopy(document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"])


def fits(document: dict[str, Any], schema: dict[str, Any], content: Any) -> bool:
    root = {"$ref": "#/schema", "schema": schema, "components": document["components"]}
    return Draft202012Validator(root).is_valid(content)


def require_documented(document: dict[str, Any], path: str, method: str, reply: Reply) -> None:
    responses = document["paths"][path][method.lower()]["responses"]
    response = responses[str(reply.status)]
    assert {name.lower() for name in response.get("headers", ())} <= reply.headers.keys()
    if method == "HEAD":
        assert "content" not in response
        return
    ((media_type, content),) = response["content"].items()
    assert reply.headers["content-type"] == media_type
    if media_type == "application/json":
        assert fits(document, content["schema"], reply.json), reply.json


@pytest.mark.parametrize("kind", ["of the server", "of the reference"])
def test_the_document_is_valid(kind: str, document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document if kind == "of the server" else REFERENCE).validate()


def test_the_document_has_every_endpoint(document: dict[str, Any]) -> None:
    methods = {path: tuple(method.upper() for method in item) for path, item in document["paths"].items()}
    assert methods == {path: endpoint.methods for path, endpoint in ENDPOINTS.items()}
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("kind", ["of the server", "of the reference"])
def test_the_example_is_answered(path: str, kind: str, client: Client, document: dict[str, Any]) -> None:
    source = document if kind == "of the server" else REFERENCE
    example = example_of(source, path)
    schema = source["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert fits(source, schema, example)
    for query in ("", "?unknown=0", "?unknown=1"):
        reply = client.post(path + query, example)
        assert reply.status == 200
        require_documented(document, path, "POST", reply)


def test_every_get_and_head_is_as_documented(client: Client, document: dict[str, Any]) -> None:
    for path, endpoint in ENDPOINTS.items():
        for method in set(endpoint.methods) - {"POST"}:
            reply = client.run(call(client.app, method, path))
            assert reply.status == 200
            require_documented(document, path, method, reply)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, b"{", {}),
        (400, b"{}", {"content-encoding": "gzip"}),
        (400, b"{}", {"x-envoy-expected-rq-timeout-ms": "soon"}),
        (413, b" " * (MAX_BODY + 1), {}),
        (415, b"{}", {"content-encoding": "br"}),
        (422, b"{}", {}),
    ],
)
def test_refusals_are_as_documented(
    path: str, status: int, body: bytes, headers: dict[str, str], client: Client, document: dict[str, Any]
) -> None:
    reply = client.post(path, body, headers=headers)
    assert reply.status == status
    require_documented(document, path, "POST", reply)


@pytest.mark.parametrize("kind", REFUSALS)
def test_each_exception_has_its_status(
    kind: type[Exception], client: Client, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Raised(kind):
        def __init__(self) -> None:
            Exception.__init__(self)
            self.field = "a"

        def __str__(self) -> str:
            return "a reason"

    def broken(*_: object) -> bytes:
        raise Raised

    monkeypatch.setattr("dien_fuxictr.serving.app.deadline_of", broken)
    reply = client.post("/v1/score", b"{}")
    assert (reply.status, reply.json["error"]) == (REFUSALS[kind].status, "a reason")
    require_documented(document, "/v1/score", "POST", reply)


def test_an_error_of_the_server_is_as_documented(
    client: Client, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dien_fuxictr.serving.app.deadline_of", None)
    reply = client.post("/v1/score", b"{}")
    assert reply.status == 500 and "request_id" in reply.json
    require_documented(document, "/v1/score", "POST", reply)


def test_a_model_that_loads_is_as_documented(opened: Bundle, document: dict[str, Any]) -> None:
    go_on = threading.Event()
    client = started(lambda: opened if go_on.wait(60) else None)
    for path, endpoint in ENDPOINTS.items():
        for method in endpoint.methods:
            reply = client.run(call(client.app, method, path))
            assert reply.status in (200, 503)
            require_documented(document, path, method, reply)
    go_on.set()
    client.loaded().close()


VALUES = ["new", "", 5, 2**40, -3, 1.5, True, None, [], ["a"], {}]


def changed(example: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield requests that have one thing changed."""
    for part, fields in example.items():
        yield {name: fields for name, fields in example.items() if name != part}
        yield {**example, part: None}
        yield {**example, part: {**fields, "colour": ["red"]}}
        for field, values in fields.items():
            for value in VALUES:
                yield {**example, part: {**fields, field: value}}
                yield {**example, part: {**fields, field: [value, *values[1:]]}}
                yield {**example, part: {**fields, field: [value] * 61}}
    yield {**example, "more": {}}
    yield {"user": {"item_history": None}, "candidates": {"item_id": ["a"]}}
    yield {"user": {"item_history": None, "item_id": "a"}, "candidates": {"cate_id": ["a", "b"]}}


def test_the_schema_takes_what_the_server_takes(client: Client, document: dict[str, Any]) -> None:
    """Compare: what else the server accepts breaks a rule that is only in words."""
    taken = refused = 0
    for request in changed(example_of(document, "/v1/score")):
        reply = client.post("/v1/score", request)
        if reply.status == 200:
            assert fits(document, document["components"]["schemas"]["Request"], request), request
            taken += 1
        elif not fits(document, document["components"]["schemas"]["Request"], request):
            refused += 1
        elif reply.status != 413:
            in_words = ("aligned", "as many values as", "is missing", "in candidates too", "must not be empty")
            assert reply.status == 422 and any(text in reply.json["error"] for text in in_words), (request, reply.json)
    assert taken > 20 and refused > 50
