"""The open-loop client, and the program at tiny sizes."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_sizes import TINY

from benchmarks.serving import __main__ as program
from benchmarks.serving.__main__ import PARTS, main
from benchmarks.serving.client import poisson_times, send
from benchmarks.serving.load import highest_rates


@pytest.fixture
def stalling() -> Iterator[int]:
    """The port of a server of one connection at a time, whose first answer takes half a second."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        for number in range(5):
            connection, _ = listener.accept()
            connection.recv(65536)
            time.sleep(0.5 if number == 0 else 0)
            body = '{"scores":[]}'
            status = "200 OK" if number < 4 else "503 Service Unavailable"
            connection.sendall(
                f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()
            )
            connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    thread.join(timeout=10)
    listener.close()


def test_each_request_that_a_stall_holds_up_counts_its_waiting(stalling: int) -> None:
    load = send(stalling, "/", [b"{}"], np.array([0.0, 0.1, 0.2, 0.3, 0.4]))
    assert load.status.tolist() == [200, 200, 200, 200, 503]
    assert all(seconds + start >= 0.5 for start, seconds in zip(load.start, load.seconds, strict=True))
    assert load.percentile(75) < load.percentile(100) == float("inf")


def test_requests_without_a_server_are_not_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    load = send(port, "/", [b"{}"], np.array([0.0, 0.01]))
    assert load.status.tolist() == [0, 0] and np.isinf(load.seconds).all()


def test_times_are_those_of_a_poisson_process() -> None:
    times = poisson_times(rate=50, seconds=200, seed=0)
    gaps = np.diff(times)
    assert len(times) == 10_000 and (gaps > 0).all()
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05) and gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_the_highest_rate_is_the_last_before_p99_is_above_the_bound() -> None:
    p99 = {"a": [3, 9.9, 10, 4], "b": [11, 5]}
    rows = [
        {"served": name, "times": "even", "requests/s": 100.0 * (i + 1), "p99, ms": ms}
        for name in p99
        for i, ms in enumerate(p99[name])
    ]
    assert highest_rates(rows) == [
        {"served": "a", "times": "even", "requests/s with p99 below 10 ms": 200},
        {"served": "b", "times": "even", "requests/s with p99 below 10 ms": 0},
    ]


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "SERVED", ("H 32, light",))
    options = [
        "--parts",
        *PARTS,
        "--rounds",
        "1",
        "--rates",
        "20",
        "30",
        "--seconds",
        "0.5",
        "--minutes",
        "0.02",
        "--reloads",
        "1",
    ]
    shapes = ((3, 4), (12, 9))
    assert main([*options, "--json", str(tmp_path / "out.json")], TINY, shapes) == 0
    tables = json.loads((tmp_path / "out.json").read_text())["tables"]
    printed = capsys.readouterr().out
    assert all(f"### {title}\n" in printed for title in tables)
    paths = tables["Scoring, one thread"]
    assert len(paths) == 5 * 2 * 2 and all(row["ms"] == 1000 * min(row["seconds"]) for row in paths)
    ms = {(row["behaviours x candidates"], row["model"], row["path"]): row["ms"] for row in paths}
    (_, ratios) = tables["Ratios"]
    assert ratios["layer by layer / native, H 36"] == pytest.approx(
        ms["12 x 9", "H 36", "layer by layer"] / ms["12 x 9", "H 36", "native"]
    )
    together = tables["Requests that are scored together"]
    assert [row["behaviours x candidates"] for row in together] == ["3 x 4", "12 x 9"]
    assert [(row["times"], row["requests/s"]) for row in tables["Latency against the rate"]] == [
        ("even", 20),
        ("even", 30),
        ("Poisson", 20),
        ("Poisson", 30),
    ]
    assert all(row["refused"] == 0 for row in tables["Latency against the rate"])
    for row in tables["A request's CPU time"]:
        assert row["requests"] == 10 and row["model, ms"] > 0 and row["CPU, ms"] > 0
    assert len(tables["Memory at 20 requests/s"]) == 10
    assert {row["not answered"] for row in tables["Memory at 20 requests/s"]} == {0}
    without, *during = tables["Reloads at 20 requests/s"]
    assert without["reloads"] == 0 and [row["vocabularies"] for row in during] == ["the same", "others"]
    for row in during:
        assert row["reloads"] and row["p99 / without"] == row["p99, ms"] / without["p99, ms"] and not row["refused"]
