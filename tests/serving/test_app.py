"""Server, called in this process: answers, refusals, health, what it counts."""

import asyncio
import gzip
import os
import re
import threading
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_asgi import Client, call

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.serving.app import App
from dien_fuxictr.serving.asgi import TooLarge
from dien_fuxictr.serving.bundle import Bundle
from dien_fuxictr.serving.examples import made_request
from dien_fuxictr.serving.model_service import ModelService
from dien_fuxictr.serving.request import Limits, RequestReader, scorer_of

ROOT = Path(__file__).parents[2]
MAX_BODY = 2000


def started(load: Any, **options: Any) -> Client:
    return Client(App(load, **{"limits": Limits(6, 60), "max_body": MAX_BODY, "max_in_flight": 2, **options}))


@pytest.fixture
def client(opened: Bundle) -> Iterator[Client]:
    client = started(lambda: opened).loaded()
    yield client
    client.close()


@pytest.fixture
def request_(opened: Bundle) -> dict[str, Any]:
    return made_request(opened.encoder, 5, 3)


def by_hand(bundle: Bundle, request: Any) -> list[float]:
    return scorer_of(bundle.model)(RequestReader(bundle, Limits()).read(request)).tolist()


def test_scores(client: Client, opened: Bundle, request_: dict[str, Any]) -> None:
    reply = client.post("/v1/score", request_)
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.json["model"] == opened.digest and len(set(reply.json["scores"])) == 3
    assert reply.json["scores"] == pytest.approx(by_hand(opened, request_), abs=1e-6)


def test_scores_of_several_users(client: Client, opened: Bundle) -> None:
    requests = [made_request(opened.encoder, behaviours, 2) for behaviours in (0, 3, 50)]
    reply = client.post("/v1/score:batch", {"requests": requests})
    assert reply.json["scores"] == [pytest.approx(by_hand(opened, each), abs=1e-6) for each in requests]
    assert client.post("/v1/score:batch", {"requests": []}).json["scores"] == []


@pytest.mark.parametrize("path", ["/v1/score", "/v1/explain"])
def test_what_is_unknown_is_said(path: str, client: Client, request_: dict[str, Any]) -> None:
    assert client.post(path, request_).json["unknown"] == {
        "user": 0,
        "candidates": [0, 0, 0],
        "behaviours": {"item_history": [0, 0, 0, 0, 0]},
    }
    request_["candidates"]["item_id"][1] = request_["user"]["item_history"][2] = "new"
    reply = client.post(path, request_)
    assert reply.json["unknown"]["candidates"] == [0, 1, 0]
    assert reply.json["unknown"]["behaviours"] == {"item_history": [0, 0, 1, 0, 0]}
    assert client.post(f"{path}?unknown=1", request_).body == reply.body
    without = client.post(f"{path}?unknown=0", request_).json
    assert without == {key: value for key, value in reply.json.items() if key != "unknown"}


def test_what_is_unknown_of_several_users(client: Client, request_: dict[str, Any]) -> None:
    other = {"user": {"item_history": ["new"]}, "candidates": {"item_id": ["new"]}}
    reply = client.post("/v1/score:batch", {"requests": [request_, other]})
    assert [each["candidates"] for each in reply.json["unknown"]] == [[0, 0, 0], [2]]
    assert "unknown" not in client.post("/v1/score:batch?unknown=0", {"requests": [request_]}).json


@pytest.mark.parametrize("query", ["unknown=no", "unknown=", "unknown=0&unknown=1", "unknown=\xff"])
def test_a_query_that_is_neither_0_nor_1(query: str, client: Client, request_: dict[str, Any]) -> None:
    reply = client.post(f"/v1/score?{query}", request_)
    assert reply.status == 400 and "in the query must be 0 or 1" in reply.json["error"]


def test_no_candidates(client: Client, opened: Bundle) -> None:
    assert client.post("/v1/score", made_request(opened.encoder, 3, 0)).json["scores"] == []


def test_a_body_in_parts(client: Client, opened: Bundle, request_: dict[str, Any]) -> None:
    body = orjson.dumps(request_)
    reply = client.run(call(client.app, "POST", "/v1/score", [body[:20], b"", body[20:]]))
    assert reply.json["scores"] == pytest.approx(by_hand(opened, request_), abs=1e-6)


def test_the_model_and_its_example(client: Client, opened: Bundle) -> None:
    model = client.get("/v1/model").json
    assert (model["model"], model["expid"]) == (opened.digest, "DIEN_amazon")
    assert model["metrics"] == opened.metrics and model["limits"] == {"candidates": 6, "behaviours": 60, "users": 1000}
    assert {feature["name"]: feature["in"] for feature in model["features"]} == {
        "item_id": "candidates or user",
        "cate_id": "candidates or user",
        "item_history": "user",
        "cate_history": "user",
    }
    assert client.post("/v1/score", model["example"]).status == 200


def test_the_example_is_a_user_of_the_bundle(opened: Bundle, request_: dict[str, Any]) -> None:
    too_long = made_request(opened.encoder, 61, 3)
    client = started(lambda: Bundle(**{**vars(opened), "examples": [too_long, request_]})).loaded()
    assert client.get("/v1/model").json["example"] == request_
    client.close()


@pytest.mark.parametrize(
    ("path", "content", "status", "message", "field"),
    [
        ("/v1/score", b"{", 400, "the body is not JSON: ", None),
        ("/v1/score", b"", 400, "the body is not JSON: ", None),
        ("/v1/score", b'{"user": NaN}', 400, "the body is not JSON: ", None),
        ("/v1/score", [], 422, "request: must be an object with user and candidates", "request"),
        ("/v1/score", {"user": {}}, 422, "candidates: is missing", "candidates"),
        ("/v1/score", {"user": {}, "candidates": {}}, 422, "user.item_history: is missing", "user.item_history"),
        ("/v1/score:batch", {}, 422, "batch: must be an object that has requests, a list", "batch"),
        ("/v1/score:batch", {"requests": [5]}, 422, "requests[0].request: must be an object", "requests[0].request"),
        ("/v1/score", b" " * (MAX_BODY + 1), 413, f"the body is larger than {MAX_BODY} bytes", None),
        ("/v1/scores", b"", 404, "path /v1/scores is unknown; there are /v1/score, ", None),
        ("/v1/model", b"", 405, "/v1/model takes GET", None),
    ],
)
def test_refusals(path: str, content: Any, status: int, message: str, field: str | None, client: Client) -> None:
    reply = client.post(path, content)
    assert reply.status == status and reply.json["error"].startswith(message)
    assert reply.json.get("field") == field


def test_too_many_candidates_of_a_batch(client: Client, opened: Bundle) -> None:
    reply = client.post("/v1/score:batch", {"requests": [made_request(opened.encoder, 1, 4)] * 2})
    assert (reply.status, reply.json["error"]) == (
        422,
        "requests: must have at most 6 candidates together, have 8 or more",
    )


@pytest.mark.parametrize("headers", [{}, {"content-length": str(MAX_BODY)}], ids=["in chunks", "of a known length"])
def test_a_body_of_just_the_limit_is_scored(headers: dict[str, str], client: Client, request_: dict[str, Any]) -> None:
    reply = client.post("/v1/score", orjson.dumps(request_).ljust(MAX_BODY), headers=headers)
    assert reply.status == 200


def test_a_length_that_is_too_large_is_refused_unread(client: Client) -> None:
    reply = client.post("/v1/score", b"", headers={"content-length": str(MAX_BODY + 1)})
    assert (reply.status, reply.headers["connection"]) == (413, "close")


def packed(content: Any, limit: int = MAX_BODY) -> bytes:
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return gzip.compress(body.ljust(limit), mtime=0)


@pytest.mark.parametrize("path", ["/v1/score", "/v1/explain"])
@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
def test_a_packed_body_is_answered_as_a_plain_one(
    path: str, coding: str, client: Client, request_: dict[str, Any]
) -> None:
    reply = client.post(path, packed(request_), headers={"content-encoding": coding})
    assert reply.status == 200 and reply.json == client.post(path, request_).json
    plain = client.post(path, request_, headers={"content-encoding": "identity"})
    assert plain.json == reply.json


@pytest.mark.parametrize(
    ("body", "coding", "status", "message"),
    [
        (packed(b"", MAX_BODY + 1), "gzip", 413, f"the body is larger than {MAX_BODY} bytes when it is unpacked"),
        (packed(b"", 1 << 20), "gzip", 413, f"the body is larger than {MAX_BODY} bytes when it is unpacked"),
        (packed(b"{}")[:-1], "gzip", 400, "the body is incomplete gzip: the end is missing after 35 bytes"),
        (packed(b"{}") + b"{}", "gzip", 400, "the body is not gzip: Error -3 "),
        (b"{}", "gzip", 400, "the body is not gzip: Error -3 "),
        (b"", "gzip", 400, "the body is incomplete gzip: the end is missing after 0 bytes"),
        (packed(b"{"), "gzip", 400, "the body is not JSON: "),
        (packed(b"[]"), "gzip", 422, "request: must be an object with user and candidates"),
        (packed(b"{}"), "", 400, "the body is not JSON: "),
        (packed(b"{}"), "identity", 400, "the body is not JSON: "),
        (b"{}", "br", 415, "header content-encoding must be gzip or identity, is 'br'"),
        (b"{}", "gzip, gzip", 415, "header content-encoding must be gzip or identity, is 'gzip, gzip'"),
    ],
    ids=[
        *("one too many", "a bomb", "cut", "more behind it", "JSON", "empty", "packed text", "packed list"),
        *("no coding", "not said", "brotli", "twice"),
    ],
)
def test_packed_bodies_that_are_refused(body: bytes, coding: str, status: int, message: str, client: Client) -> None:
    reply = client.post("/v1/score", body, headers={"content-encoding": coding})
    assert reply.status == status and reply.json["error"].startswith(message)
    assert reply.headers.get("accept-encoding") == ("gzip, identity" if status == 415 else None)
    assert b"serve_in_flight 0.0" in client.get("/metrics").body


def test_a_bomb_does_not_hold_the_loop(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is unpacked where the model is, while the server says that it is alive."""
    go_on, threads = threading.Event(), []

    def slow(*_: object) -> bytes:
        threads.append(threading.current_thread())
        assert go_on.wait(60)
        raise TooLarge("as it were")

    monkeypatch.setattr("dien_fuxictr.serving.app.unpacked", slow)

    async def meanwhile() -> tuple[Any, Any]:
        bomb = asyncio.create_task(
            call(client.app, "POST", "/v1/score", [packed(b"")], headers={"content-encoding": "gzip"})
        )
        while not threads:
            await asyncio.sleep(0)
        live = await call(client.app, "GET", "/v2/health/live")
        go_on.set()
        return live, await bomb

    live, bomb = client.run(meanwhile())
    assert (live.status, bomb.status) == (200, 413) and threads != [threading.current_thread()]


def test_slow_body_takes_no_place(client: Client, request_: dict[str, Any]) -> None:
    body = orjson.dumps(request_)

    async def scenario() -> tuple[Any, ...]:
        go_on = asyncio.Event()
        slowly = [
            asyncio.create_task(call(client.app, "POST", "/v1/score", [body[:9], body[9:]], before_last=go_on.wait))
            for _ in range(5)
        ]
        await asyncio.sleep(0)
        meanwhile = await call(client.app, "POST", "/v1/score", [body])
        go_on.set()
        return meanwhile, await asyncio.gather(*slowly)

    meanwhile, slowly = client.run(scenario())
    assert meanwhile.status == 200 and sorted(reply.status for reply in slowly) == [200, 200, 503, 503, 503]


def test_bodies_that_are_held_have_a_limit(client: Client) -> None:
    part = b" " * (MAX_BODY - 1)

    async def scenario() -> list[Any]:
        go_on, begun = asyncio.Event(), []

        def wait() -> Awaitable[object]:
            begun.append(True)
            return go_on.wait()

        ones = [
            asyncio.create_task(call(client.app, "POST", "/v1/score", [part, b""], before_last=wait)) for _ in range(17)
        ]
        while len(begun) + sum(one.done() for one in ones) < 17:
            await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(*ones)

    replies = client.run(scenario())
    assert sum(b"too many requests come" in reply.body for reply in replies) == 1
    assert sum(b"requests are being answered" in reply.body for reply in replies) == 14


def test_a_client_that_goes_away(client: Client, request_: dict[str, Any]) -> None:
    async def away() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await client.app({"type": "http", "method": "POST", "path": "/v1/score", "headers": []}, receive, send)
        return sent

    assert client.run(away()) == []
    assert b"serve_in_flight 0.0" in client.get("/metrics").body
    assert client.post("/v1/score", request_).status == 200


def test_alive_while_it_loads_and_ready_when_it_has(opened: Bundle, request_: dict[str, Any]) -> None:
    go_on = threading.Event()

    def load() -> Bundle:
        assert go_on.wait(60)
        return opened

    client = started(load)
    assert client.get("/v2/health/live").status == 200
    for reply in (client.get("/v2/health/ready"), client.get("/v1/model"), client.post("/v1/score", request_)):
        assert reply.status == 503 and 1 <= int(reply.headers["retry-after"]) <= 3
        assert reply.json == {"error": "the model is loading"}
    go_on.set()
    client.loaded()
    assert client.get("/v2/health/ready").status == client.post("/v1/score", request_).status == 200
    client.close()


def test_head_of_health_is_get_without_the_body(opened: Bundle) -> None:
    def heads(client: Client) -> list[int]:
        statuses = []
        for path in ("/v2/health/live", "/v2/health/ready"):
            head, get = (
                client.run(call(client.app, method, path, headers={"x-request-id": "a"})) for method in ("HEAD", "GET")
            )
            for reply in (head, get):
                reply.headers.pop("retry-after", None)  # at random
            assert (head.status, head.headers, head.body) == (get.status, get.headers, b"") and get.body
            statuses.append(head.status)
        other = client.run(call(client.app, "HEAD", "/v1/model"))
        assert (other.status, other.headers["allow"], other.body) == (405, "GET", b"")
        wrong = client.post("/v2/health/live", b"")
        assert (wrong.headers["allow"], wrong.json["error"]) == ("GET, HEAD", "/v2/health/live takes GET and HEAD")
        return statuses

    go_on = threading.Event()
    client = started(lambda: opened if go_on.wait(60) else None)
    assert heads(client) == [200, 503]
    go_on.set()
    assert heads(client.loaded()) == [200, 200]
    client.close()


def test_a_model_that_cannot_be_loaded() -> None:
    failed = []

    def load() -> Bundle:
        raise UserError("bundle b lacks encoder.json")

    client = started(load, failed=lambda: failed.append(True)).loaded()
    assert failed == [True] and isinstance(client.app.failure, UserError)
    assert client.get("/v2/health/ready").status == 503
    client.close()


def test_an_error_of_the_server(
    opened: Bundle, request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("secret")

    monkeypatch.setattr(ModelService, "answer_one", broken)
    client = started(lambda: opened).loaded()
    for headers in ({}, {"x-request-id": "abc 1"}):
        caplog.clear()
        reply = client.post("/v1/score", request_, headers=headers)
        request_id = reply.headers["x-request-id"]
        error = "server error; the log has the traceback under this request_id"
        assert (reply.status, reply.json) == (500, {"error": error, "request_id": request_id})
        (record,) = caplog.records
        assert record.getMessage() == f"POST /v1/score, request {request_id}" and "secret" in caplog.text
    assert request_id == "abc 1"
    assert client.get("/v2/health/ready").status == 200
    assert b"serve_in_flight 0.0" in client.get("/metrics").body
    client.close()


def test_what_is_counted(client: Client, opened: Bundle, request_: dict[str, Any]) -> None:
    request_["candidates"]["item_id"] = ["new", "newer", None]
    client.post("/v1/score", request_)
    client.post("/v1/score", b"{")
    reply = client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    text = reply.body.decode()
    counted = dict(re.findall(r"^serve_(\S+) (\S+)$", text, re.MULTILINE))
    assert counted['requests_total{path="/v1/score",status="200"}'] == "1.0"
    assert counted['requests_total{path="/v1/score",status="400"}'] == "1.0"
    assert counted["candidates_total"] == "3.0"
    assert counted['ids_total{field="item_history"}'] == "5.0"
    assert counted['unknown_ids_total{field="item_id"}'] == "3.0"
    assert counted['unknown_ids_total{field="cate_id"}'] == "0.0"
    stages = ("decode", "encode", "model", "request")
    assert {counted[f'stage_seconds_count{{stage="{stage}"}}'] for stage in stages} == {"1.0"}
    assert counted['stage_seconds_count{stage="queue"}'] == "2.0"
    assert counted[f'model{{digest="{opened.digest}",expid="DIEN_amazon"}}'] == "1.0"


def counted(client: Client) -> dict[str, float]:
    text = client.get("/metrics").body.decode()
    return {name: float(value) for name, value in re.findall(r"^(\w+\S*(?: \w+ \S+)*?) (\S+)$", text, re.MULTILINE)}


def test_paths_that_do_not_exist_are_counted_together(client: Client) -> None:
    for path in ("/v1/scores", "/a", "/b?c=1", "/%00", "/" + "x" * 1000):
        assert client.get(path).status == client.post(path, b"").status == 404
    after = counted(client)
    assert after['serve_requests_total{path="(none of these)",status="404"}'] == 10
    assert len([name for name in after if "_total{" in name and "404" in name]) == 1


def test_what_http_refuses_is_counted(client: Client) -> None:
    for status in (400, 400, 431):
        client.app.metrics.refused_by_http(status)
    after = counted(client)
    assert after['serve_requests_total{path="(no HTTP request)",status="400"}'] == 2
    assert after['serve_requests_total{path="(no HTTP request)",status="431"}'] == 1


def test_stages_of_a_request_add_up(client: Client, request_: dict[str, Any]) -> None:
    """Compare the whole time with its parts, without health checks and refusals."""
    for _ in range(3):
        assert client.post("/v1/score", request_).status == 200
    client.get("/v2/health/live")
    client.post("/v1/score", b"{")
    client.post("/v1/score", b" " * (MAX_BODY + 1))
    after = counted(client)
    sums = {stage: after[f'serve_stage_seconds_sum{{stage="{stage}"}}'] for stage in ("decode", "encode", "model")}
    assert after['serve_stage_seconds_count{stage="request"}'] == 3
    assert after['serve_stage_seconds_sum{stage="request"}'] > sum(sums.values()) > 0


def test_the_queue_is_timed_until_the_turn(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time the second of two requests until the first one ends."""
    go_on, ends = threading.Event(), []

    def slow(*_: object) -> bytes:
        assert go_on.wait(60)
        ends.append(time.perf_counter())
        return b"{}"

    monkeypatch.setattr(ModelService, "answer_one", slow)
    client = started(lambda: opened).loaded()

    async def both() -> float:
        requests = asyncio.gather(*(call(client.app, "POST", "/v1/score", [b"{}"]) for _ in range(2)))
        while client.app.queue._to_run < 2:
            await asyncio.sleep(0)
        both_are_there = time.perf_counter()
        go_on.set()
        await requests
        return both_are_there

    both_are_there = client.run(both())
    after = counted(client)
    assert after['serve_stage_seconds_count{stage="queue"}'] == 2
    assert after['serve_stage_seconds_sum{stage="queue"}'] > ends[0] - both_are_there > 0
    client.close()


def test_buckets_are_a_millisecond_apart_up_to_10(client: Client, request_: dict[str, Any]) -> None:
    client.post("/v1/score", request_)
    bounds = re.findall(
        r'serve_stage_seconds_bucket\{le="(\S+)",stage="request"\}', client.get("/metrics").body.decode()
    )
    assert [f"{ms / 1000:g}" for ms in range(1, 11)] == [bound for bound in bounds if 0.001 <= float(bound) <= 0.01]
    assert len(bounds) < 30


def test_process_and_bundle_are_in_the_metrics(client: Client, opened: Bundle, request_: dict[str, Any]) -> None:
    after, pid = counted(client), os.getpid()
    assert after[f'process_resident_memory_bytes{{pid="{pid}"}}'] > 1e8
    assert after[f'process_open_fds{{pid="{pid}"}}'] >= 3
    assert 0 < time.time() - after[f'process_start_time_seconds{{pid="{pid}"}}'] < 86_400
    before = after[f'process_cpu_seconds_total{{pid="{pid}"}}']
    while sum(os.times()[:2]) < before + 0.1:
        client.post("/v1/score", request_)
    assert counted(client)[f'process_cpu_seconds_total{{pid="{pid}"}}'] > before
    assert after["serve_bundle_written_timestamp_seconds"] == opened.manifest.written


@pytest.mark.parametrize("given_id", ["a", "a b", "~" * 128, "550e8400-e29b-41d4-a716-446655440000", '"', "{"])
def test_a_request_id_is_returned(given_id: str, client: Client, request_: dict[str, Any]) -> None:
    headers = {"x-request-id": given_id}
    replies = [
        client.post(path, content, headers=headers)
        for path, content in (
            ("/v1/score", request_),
            ("/v1/score", b"{"),
            ("/v1/score", {}),
            ("/v1/score", b" " * (MAX_BODY + 1)),
            ("/nowhere", b""),
            ("/v1/model", b""),
        )
    ]
    assert [reply.status for reply in replies] == [200, 400, 422, 413, 404, 405]
    assert {reply.headers["x-request-id"] for reply in replies} == {given_id}


@pytest.mark.parametrize("given_id", [None, "", "a" * 129, "a\tb", "a\n", "\x7f", "é", "\0"])
def test_a_request_without_a_good_id_gets_one(given_id: str | None, client: Client) -> None:
    headers = {} if given_id is None else {"x-request-id": given_id}
    made = {client.post("/v1/score", b"{}", headers=headers).headers["x-request-id"] for _ in range(20)}
    assert len(made) == 20 and all(re.fullmatch("[0-9a-f]{32}", each) for each in made)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0e-9useritmcand_', max_size=80).map(str.encode))
def test_any_body_is_answered(client: Client, body: bytes) -> None:
    for path in ("/v1/score", "/v1/score:batch"):
        assert client.post(path, body).status in (400, 422)


def test_the_request_of_the_page(client: Client) -> None:
    page = (ROOT / "docs" / "reference" / "http_api.md").read_text()
    (request,) = re.findall(r"curl -s http://127.0.0.1:8080(\S+) -d '(.+)'$", page, re.MULTILINE)
    path, body = request
    assert len(client.post(path, body.encode()).json["scores"]) == 2
