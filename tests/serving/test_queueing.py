"""Queue in front of the model: abandoned requests are not computed."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import uvicorn
from made_asgi import Client, Unanswered, call, started
from made_server import PATIENCE, wait_until

from dien_fuxictr.serving import queueing
from dien_fuxictr.serving.app import App
from dien_fuxictr.serving.bundle import Bundle
from dien_fuxictr.serving.examples import made_request
from dien_fuxictr.serving.model_service import ModelService
from dien_fuxictr.serving.queueing import DEADLINE, Queue
from dien_fuxictr.serving.request import Limits
from dien_fuxictr.serving.server_metrics import Metrics


class Busy:
    """Thread of the model that starts its first request on a signal.

    It counts computed requests.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on, self.computed = threading.Event(), threading.Event(), 0
        answer = ModelService.answer_one

        def wait_and_answer(*args: Any) -> bytes:
            self.computed += 1
            self.begun.set()
            assert self.go_on.wait(PATIENCE)
            return answer(*args)

        monkeypatch.setattr(ModelService, "answer_one", wait_and_answer)

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, PATIENCE)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    busy = Busy(monkeypatch)
    yield busy
    busy.go_on.set()


@pytest.fixture
def client(opened: Bundle) -> Iterator[Client]:
    client = Client(App(lambda: opened, Limits(), 1 << 20, 8)).loaded()
    yield client
    client.close()


@pytest.fixture
def body(opened: Bundle) -> bytes:
    return orjson.dumps(made_request(opened.encoder, 5, 3))


def within(milliseconds: int) -> dict[str, str]:
    return {DEADLINE: str(milliseconds)}


def counted(client: Client) -> dict[str, float]:
    lines = re.findall(r"^serve_(\S+) (\S+)$", client.get("/metrics").body.decode(), re.MULTILINE)
    return {name: float(value) for name, value in lines}


@pytest.mark.parametrize("value", ["", "0", "-5", "1.5", "5ms", "soon", "9" * 5000, "²", "\x00"])
def test_invalid_deadline_is_refused(value: str, client: Client, body: bytes) -> None:
    with_bytes = {"type": "http", "method": "POST", "path": "/v1/score", "headers": []}
    with_bytes["headers"] = [(DEADLINE.encode(), value.encode("latin-1"))]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    client.run(client.app(with_bytes, receive, send))
    assert sent[0]["status"] == 400
    problem = orjson.loads(sent[1]["body"])["error"]
    assert problem == f"header {DEADLINE} must be whole milliseconds, 1 or more, is {value[:20]!r}"


def test_a_deadline_that_is_met(client: Client, body: bytes) -> None:
    assert client.post("/v1/score", body, headers=within(60_000)).status == 200
    assert counted(client)['dropped_total{reason="deadline"}'] == 0


def test_a_deadline_that_passes_in_the_queue(busy: Busy, client: Client, body: bytes) -> None:
    async def scenario() -> tuple[Any, Any]:
        first = asyncio.create_task(call(client.app, "POST", "/v1/score", [body]))
        await busy.has_begun()
        late = await call(client.app, "POST", "/v1/score", [body], headers=within(50))
        assert not first.done()
        patient = asyncio.create_task(call(client.app, "POST", "/v1/score", [body], headers=within(60_000)))
        await asyncio.sleep(0.1)
        busy.go_on.set()
        return late, [reply.status for reply in await asyncio.gather(first, patient)]

    late, others = client.run(scenario())
    assert (late.status, late.json) == (504, {"error": "the answer would come after the deadline"})
    assert others == [200, 200] and busy.computed == 2
    counts = counted(client)
    assert counts['dropped_total{reason="deadline"}'] == counts['requests_total{path="/v1/score",status="504"}'] == 1
    assert counts['dropped_total{reason="disconnected"}'] == counts["in_flight"] == 0


def test_more_at_a_time_than_allowed(busy: Busy, opened: Bundle, body: bytes) -> None:
    client = started(lambda: opened).loaded()

    async def overload() -> tuple[Any, ...]:
        waiting = [asyncio.create_task(call(client.app, "POST", "/v1/score", [body])) for _ in range(2)]
        await busy.has_begun()
        refused = await call(client.app, "POST", "/v1/score", [body])
        metrics = await call(client.app, "GET", "/metrics")
        live = await call(client.app, "GET", "/v2/health/live")
        busy.go_on.set()
        return (
            refused,
            metrics,
            live,
            await asyncio.gather(*waiting),
            await call(client.app, "POST", "/v1/score", [body]),
        )

    refused, metrics, live, answered, after = client.run(overload())
    assert refused.status == 503 and 1 <= int(refused.headers["retry-after"]) <= 3
    assert "2 requests are being answered" in refused.json["error"]
    assert b"serve_in_flight 2.0" in metrics.body and live.status == 200
    assert [reply.status for reply in (*answered, after)] == [200, 200, 200]
    assert b"serve_in_flight 0.0" in client.get("/metrics").body
    client.close()


def test_a_deadline_that_passes_while_the_body_comes(busy: Busy, client: Client, body: bytes) -> None:
    parts, slowly = [body[:9], body[9:]], lambda: asyncio.sleep(0.05)
    late = client.run(call(client.app, "POST", "/v1/score", parts, headers=within(10), before_last=slowly))
    assert late.status == 504 and busy.computed == 0


def test_a_deadline_that_passes_while_the_model_runs(
    busy: Busy, client: Client, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "time", SimpleNamespace(monotonic=lambda: busy.begun.is_set()))  # seconds

    async def scenario() -> Any:
        reply = asyncio.create_task(call(client.app, "POST", "/v1/score", [body], headers=within(100)))
        await busy.has_begun()
        await asyncio.sleep(0.2)
        busy.go_on.set()
        return await reply

    assert client.run(scenario()).status == 200


def test_what_cannot_be_in_time_is_refused_at_once(busy: Busy, client: Client, body: bytes) -> None:
    async def scenario() -> tuple[Any, Any]:
        client.app.queue._turns.mean = 100.0
        first = asyncio.create_task(call(client.app, "POST", "/v1/score", [body], headers=within(50_000)))
        await busy.has_begun()
        late = await call(client.app, "POST", "/v1/score", [body], headers=within(90_000))
        busy.go_on.set()
        return late, await first

    late, first = client.run(scenario())
    assert (late.status, first.status, busy.computed) == (504, 200, 1)


def test_expected_time_follows_what_is_measured() -> None:
    turns = queueing._Turns()
    asked = time.monotonic()
    for _ in range(100):  # one after the other, all asked at once
        time.sleep(0.001)
        turns.took(asked)
    assert 0.001 <= turns.mean <= turns.expected <= 100 * turns.mean
    assert turns.mean <= (time.monotonic() - asked) / 2


def test_single_requests_go_between_the_users_of_a_batch(
    client: Client, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "_TURN", 0)
    batch = b'{"requests": [%s]}' % b",".join([body] * 300)
    ended: list[str] = []

    async def ask(name: str, path: str, content: bytes) -> Any:
        reply = await call(client.app, "POST", path, [content])
        ended.append(name)
        return reply

    async def scenario() -> tuple[Any, Any]:
        many = asyncio.create_task(ask("batch", "/v1/score:batch", batch))
        await asyncio.sleep(0.01)
        return await ask("one", "/v1/score", body), await many

    one, many = client.run(scenario())
    assert ended == ["one", "batch"] and one.status == many.status == 200
    assert many.json["scores"] == [one.json["scores"]] * 300 and many.json["unknown"] == [one.json["unknown"]] * 300
    assert counted(client)['stage_seconds_count{stage="model"}'] == 2


def test_abandoned_batch_ends(client: Client, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "_TURN", 0)
    batch = b'{"requests": [%s]}' % b",".join([body] * 300)

    async def scenario() -> None:
        away = asyncio.Event()
        many = asyncio.create_task(call(client.app, "POST", "/v1/score:batch", [batch], away=away))
        ones = [asyncio.create_task(call(client.app, "POST", "/v1/score", [body])) for _ in range(5)]
        await asyncio.wait(ones, return_when=asyncio.FIRST_COMPLETED)
        away.set()
        with pytest.raises(Unanswered):
            while not many.done():
                await call(client.app, "POST", "/v1/score", [body])
            await many

    client.run(scenario())
    assert counted(client)['dropped_total{reason="disconnected"}'] == 1


def test_batches_have_one_turn_together(client: Client, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, what comes beside them waits for one of them."""
    monkeypatch.setattr(queueing, "_TURN", 0)
    batch = b'{"requests": [%s]}' % b",".join([body] * 30)
    queue = client.app.queue
    waiting: list[int] = []
    some = queueing._some
    monkeypatch.setattr(queueing, "_some", lambda steps: (waiting.append(queue._to_run), some(steps))[1])

    async def scenario() -> list[Any]:
        return await asyncio.gather(*(call(client.app, "POST", "/v1/score:batch", [batch]) for _ in range(5)))

    assert [reply.status for reply in client.run(scenario())] == [200] * 5
    assert waiting[-100:] == [1] * 100  # after those that begin


def refused(client: Client, deadline: str = "", url: bytes = b"/v1/score", method: bytes = b"POST") -> Any:
    headers = [(b"x-request-id", b"mine"), *([(DEADLINE.encode(), deadline.encode())] if deadline else [])]
    return client.app.refusal(method, url, headers, time.monotonic())


def test_refused_before_the_body_comes(busy: Busy, opened: Bundle, body: bytes) -> None:
    client = started(lambda: opened).loaded()

    async def scenario() -> list[Any]:
        answers = [refused(client, "60000")]
        client.app.queue._turns.mean = 10.0
        requests = [asyncio.create_task(call(client.app, "POST", "/v1/score", [body]))]
        await busy.has_begun()
        answers += [refused(client, "60000"), refused(client), refused(client, "soon"), refused(client, "9000")]
        requests.append(asyncio.create_task(call(client.app, "POST", "/v1/score", [body])))
        await asyncio.sleep(0.1)
        answers += [refused(client, url=b"/v1/explain?unknown=0"), refused(client, url=b"/metrics")]
        answers += [refused(client, method=b"GET"), refused(client, url=b"/none")]
        busy.go_on.set()
        assert [reply.status for reply in await asyncio.gather(*requests)] == [200, 200]
        return answers

    answers = client.run(scenario())
    assert [answer and answer.status for answer in answers] == [None, None, None, None, 504, 503, None, None, None]
    assert answers[4].headers == ((b"x-request-id", b"mine"),) and dict(answers[5].headers)[b"retry-after"] in b"123"
    counts = counted(client)
    assert counts['requests_total{path="/v1/score",status="504"}'] == counts['dropped_total{reason="deadline"}'] == 1
    assert counts['requests_total{path="/v1/explain",status="503"}'] == 1
    client.close()


def test_none_is_refused_while_the_model_loads(opened: Bundle) -> None:
    client = started(lambda: opened)
    assert refused(client, "1") is None
    client.close()


def test_more_users_than_allowed(opened: Bundle, body: bytes) -> None:
    client = started(lambda: opened, limits=Limits(users=2)).loaded()
    for count, status in ((2, 200), (3, 422)):
        reply = client.post("/v1/score:batch", b'{"requests": [%s]}' % b",".join([body] * count))
        assert reply.status == status
    assert reply.json == {"error": "requests: must have at most 2 users, has 3", "field": "requests"}
    client.close()


def test_immediate_turns_are_not_watched() -> None:
    asked = []

    async def receive() -> dict[str, Any]:
        asked.append(time.monotonic())
        return {"type": "http.disconnect"}

    async def scenario() -> list[bytes]:
        with pytest.raises(ZeroDivisionError):
            await queue.run(lambda: bytes(1 // 0), receive, deadline=None)
        return [await queue.run(lambda: b"answer", receive, deadline=None) for _ in range(2)]

    queue = Queue(1, Metrics())
    assert asyncio.run(scenario()) == [b"answer"] * 2 and not asked
    queue.close()


def test_a_client_that_goes_away_in_the_queue(busy: Busy, client: Client, body: bytes) -> None:
    async def scenario() -> int:
        first = asyncio.create_task(call(client.app, "POST", "/v1/score", [body]))
        await busy.has_begun()
        away = asyncio.Event()
        second = asyncio.create_task(call(client.app, "POST", "/v1/score:batch", [b'{"requests": []}'], away=away))
        await asyncio.sleep(0.05)
        assert not second.done()
        away.set()
        with pytest.raises(Unanswered):
            await second
        busy.go_on.set()
        return (await first).status

    assert client.run(scenario()) == 200
    counts = counted(client)
    assert counts['dropped_total{reason="disconnected"}'] == 1 and counts["in_flight"] == 0
    assert counts['stage_seconds_count{stage="decode"}'] == 1
    assert 'requests_total{path="/v1/score:batch",status="200"}' not in counts


def test_a_connection_that_breaks_in_the_queue(busy: Busy, opened: Bundle, body: bytes) -> None:
    app = App(lambda: opened, Limits(), 1 << 20, 8)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))  # pyright: ignore[reportArgumentType]
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()

    def ask() -> socket.socket:
        asking = socket.create_connection(address, timeout=PATIENCE)
        asking.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return asking

    try:
        wait_until(lambda: app._reloader.current)
        with ask() as first:
            wait_until(busy.begun.is_set)
            second = ask()
            wait_until(lambda: app.queue._in_flight == 2)
            second.close()
            wait_until(lambda: app.queue._in_flight == 1)
            busy.go_on.set()
            assert first.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        assert busy.computed == 1
    finally:
        busy.go_on.set()
        server.should_exit = True
        thread.join()
