"""Connections of slow, silent and greedy clients, and of normal ones."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from made_server import PATIENCE, wait_until

from dien_fuxictr.serving import connection
from dien_fuxictr.serving.asgi import Answer, send_answer
from dien_fuxictr.serving.connection import Clients, Server

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body; refuse /full, and send much for /much."""
    if scope["type"] != "http":
        return
    count, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        count, more = count + len(message["body"]), message.get("more_body", False)
    scope["refused"] = scope["path"] == "/full"
    body = b"%d" % count if scope["path"] != "/much" else bytes(1 << 24)
    await send_answer(Answer(200, body), b"id", send, with_body=True)


class Site:
    """A running server."""

    def __init__(self, **patience: Any) -> None:
        self.refused: list[int] = []
        self.is_full = False
        self.asked: list[tuple[bytes, bytes]] = []
        usual = {"head_timeout": 60, "body_timeout": 60, "idle_timeout": 60, "max_body": 1000, "max_connections": 99}
        clients = Clients(
            **{**usual, **patience},
            refused=self.refused.append,
            is_full=lambda: self.is_full,
            refusal=self.refusal,
        )
        self.server = Server(application, clients, grace=1)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()
        self.stack = ExitStack()
        wait_until(lambda: self.server.started)

    def refusal(self, method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], began: float) -> Answer | None:
        """Refuse each request to /late or /busy."""
        self.asked.append((method, url))
        assert set(dict(headers)) <= {b"host", b"content-length", b"connection", b"transfer-encoding", b"upgrade"}
        assert began <= time.monotonic()
        status = {b"/late": 504, b"/busy": 503}.get(url)
        return Answer(status, b"!", headers=((b"retry-after", b"1"),)) if status else None

    def connect(self, *parts: bytes) -> socket.socket:
        client = self.stack.enter_context(socket.create_connection(self.listener.getsockname()[:2], timeout=PATIENCE))
        for part in parts:
            client.sendall(part)
        return client

    def connections(self) -> int:
        return len(self.server.server_state.connections)

    def close(self) -> None:
        self.stack.close()
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def sites() -> Iterator[Any]:
    made: list[Site] = []

    def make(**patience: Any) -> Site:
        made.append(Site(**patience))
        return made[-1]

    yield make
    for site in made:
        site.close()


def rest_of(client: socket.socket) -> bytes:
    """Return the bytes until the server closes the connection."""
    got = b""
    while part := client.recv(1 << 16):
        got += part
    return got


def refusal(client: socket.socket) -> tuple[int, str]:
    head, _, body = rest_of(client).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["error"]


def answer(client: socket.socket) -> tuple[int, bytes]:
    """Return the status and body of the next answer; its body has one byte."""
    got = b""
    while not got.partition(b"\r\n\r\n")[2]:
        got += client.recv(1)
    return int(got.split()[1]), got[-1:]


def test_complete_requests_are_answered(sites: Any) -> None:
    site = sites()
    client = site.connect(GET, GET)
    assert [answer(client) for _ in range(2)] == [(200, b"0")] * 2
    client.sendall(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" + GET
    )
    assert [answer(client) for _ in range(2)] == [(200, b"5"), (200, b"0")]
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert answer(client) == (200, b"0") and not site.refused


def test_silent_client(sites: Any) -> None:
    site = sites(head_timeout=0.1)
    assert rest_of(site.connect()) == b"" and not site.refused


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n"])
@pytest.mark.parametrize("before", [b"", GET])
def test_headers_without_an_end(sites: Any, before: bytes, sent: bytes) -> None:
    site = sites(head_timeout=0.1)
    client = site.connect(before)
    if before:
        assert answer(client) == (200, b"0")
    client.sendall(sent)
    assert refusal(client) == (408, "the headers did not come within 0.1 s") and site.refused == [408]


def test_headers_that_come_one_by_one(sites: Any) -> None:
    """Limit the total time of headers."""
    site = sites(head_timeout=0.3)
    client, ended = site.connect(b"GET / HTTP/1.1\r\n"), threading.Event()

    def trickle() -> None:
        while not ended.wait(0.02):
            try:
                client.sendall(b"a: b\r\n")
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    with suppress(ConnectionResetError):  # by what came after the answer
        assert b"408" in rest_of(client)
    ended.set()
    thread.join()
    assert site.refused == [408]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"x" * 40_000,
        b"GET / HTTP/1.1\r\nHost: " + b"x" * 40_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 7_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 7_000 + b"\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 7_000,
    ],
    ids=["path", "value", "many", "many that end", "trailers"],
)
def test_headers_that_are_too_large(sites: Any, sent: bytes) -> None:
    site = sites()
    client = site.connect(sent[:1000])
    wait_until(lambda: site.connections() == 1)
    with suppress(ConnectionResetError, BrokenPipeError):  # by what came after the answer
        client.sendall(sent[1000:])
        client.sendall(b"x" * 200_000)
        assert refusal(client) == (431, "the headers are larger than 32768 bytes")
    wait_until(lambda: not site.connections())
    assert site.refused == [431]


def test_a_chunk_length_without_an_end(sites: Any) -> None:
    site = sites(max_body=1000)
    client = site.connect(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError):
        while not site.refused and sent < 1 << 30:
            client.sendall(b"x" * 10_000)
            sent += 10_000
    wait_until(lambda: not site.connections())
    assert site.refused == [413]


def test_a_body_without_an_end(sites: Any) -> None:
    site = sites(body_timeout=0.1)
    client = site.connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    assert refusal(client) == (408, "the body did not come within 0.1 s") and site.refused == [408]


def test_no_http(sites: Any) -> None:
    site = sites()
    assert refusal(site.connect(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n")) == (400, "this is no HTTP request")
    assert site.refused == [400]


def test_an_idle_connection_ends(sites: Any) -> None:
    site = sites(idle_timeout=0.1)
    client = site.connect(GET)
    assert answer(client) == (200, b"0") and rest_of(client) == b""


def test_one_connection_too_many_closes_the_most_idle(sites: Any) -> None:
    site = sites(max_connections=3)
    busy = site.connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
    wait_until(lambda: site.connections() == 1)
    silent = site.connect()
    wait_until(lambda: site.connections() == 2)
    busy.sendall(b"x")
    assert answer(busy) == (200, b"1")
    third = site.connect(GET)
    assert answer(third) == (200, b"0")
    fourth = site.connect(GET)
    assert answer(fourth) == (200, b"0")
    assert silent.recv(1) == b""
    for client in (busy, third, fourth):
        client.sendall(GET)
        assert answer(client) == (200, b"0")


def test_client_that_reads_no_answer(sites: Any) -> None:
    site = sites(body_timeout=0.1)
    site.connect(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: site.connections() == 1)
    wait_until(lambda: not site.connections())


def test_refused_client_is_delayed(sites: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read, rather than refused again."""
    monkeypatch.setattr(connection, "_REST", 3600)
    site = sites()
    client = site.connect(b"GET /full HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer(client) == (200, b"0")
    client.sendall(GET)
    other = site.connect(GET)
    assert answer(other) == (200, b"0")
    wait_until(lambda: any(each._held is not None for each in site.server.server_state.connections))
    (resting,) = (each for each in site.server.server_state.connections if each._held is not None)
    resting.loop.call_soon_threadsafe(resting._read_on)
    assert answer(client) == (200, b"0")


def post(path: bytes, *headers: bytes, body: bytes = b"abc") -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_a_request_is_refused_before_its_body(sites: Any) -> None:
    """Refuse a request before its body; the connection stays open."""
    site = sites()
    client = site.connect(post(b"/late"))
    assert answer(client) == (504, b"!")
    client.sendall(post(b"/late", body=b"x" * 100_000) + post(b"/"))
    assert [answer(client) for _ in range(2)] == [(504, b"!"), (200, b"3")]
    client.sendall(post(b"/late", b"Connection: close"))
    assert rest_of(client).startswith(b"HTTP/1.1 504") and not site.refused
    assert site.asked == [(b"POST", b"/late")] * 2 + [(b"POST", b"/"), (b"POST", b"/late")]


def test_a_refused_body_has_its_time(sites: Any) -> None:
    site = sites(body_timeout=0.1)
    client = site.connect(post(b"/late")[:-1])
    assert refusal(client)[0] == 408 and site.refused == [408]


def test_client_that_expects_100_is_not_refused_early(sites: Any) -> None:
    """Its body would not come, or be taken for the next request."""
    site = sites()
    client = site.connect(post(b"/late", b"Expect: 100-continue", body=b"")[:-2] + b"\r\n")
    assert client.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer(client) == (200, b"0") and not site.asked


def test_a_refused_request_among_others_waits_for_their_answers(sites: Any) -> None:
    site = sites()
    client = site.connect(post(b"/") + post(b"/late") + post(b"/"))
    assert [answer(client) for _ in range(3)] == [(200, b"3")] * 3  # the application decides, not the connection


def test_the_last_answer_may_be_a_refusal(sites: Any) -> None:
    site = sites()
    client = site.connect(post(b"/late"))
    assert answer(client) == (504, b"!")
    client.sendall(post(b"/late", b"Connection: close"))
    assert b"connection: close" in rest_of(client)


def test_the_more_are_refused_the_longer_they_rest(sites: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    rest = connection.Connection._rest
    monkeypatch.setattr(connection.Connection, "_rest", lambda self, seconds: (rests.append(seconds), rest(self, 3600)))
    site = sites()
    for _ in range(5):
        assert answer(site.connect(post(b"/busy"))) == (503, b"!")
    assert rests == [connection._REST + count / connection._REFUSALS for count in range(5)]


def test_a_connection_that_rests_may_end(sites: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_REST", 3600)
    site = sites()
    client = site.connect(post(b"/busy"))
    assert answer(client) == (503, b"!") and site.connections() == 1
    client.close()
    wait_until(lambda: not site.connections())


def test_new_client_of_a_full_server_is_delayed(sites: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_REST", 3600)
    site = sites()
    site.is_full = True
    client = site.connect(GET)
    wait_until(lambda: site.connections() == 1)
    (resting,) = site.server.server_state.connections
    assert resting._held is not None
    resting.loop.call_soon_threadsafe(resting._read_on)
    assert answer(client) == (200, b"0")


def test_connection_that_another_process_accepted(sites: Any) -> None:
    site = sites()
    ours, its = socket.socketpair()
    client = site.connect(GET)
    assert answer(client) == (200, b"0")
    (first,) = site.server.server_state.connections
    first.loop.call_soon_threadsafe(site.server.connect, its)
    with ours:
        ours.sendall(GET)
        assert answer(ours) == (200, b"0") and site.server.taken == 1


def test_one_is_closed_after_its_next_answer(sites: Any) -> None:
    site = sites()
    clients = [site.connect(GET) for _ in range(2)]
    assert [answer(client) for client in clients] == [(200, b"0")] * 2
    patience = next(iter(site.server.server_state.connections))._clients
    patience.close(5)
    patience.close(1)
    for client in clients:
        client.sendall(GET)
        assert answer(client) == (200, b"0")
    wait_until(lambda: site.connections() == 1)
    assert clients[0].recv(1) == b""
