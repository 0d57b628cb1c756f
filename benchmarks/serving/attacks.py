"""Measure a server under attack or overload, as normal clients see it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import orjson

from ..report import Row
from .attackers import KINDS
from .client import Load, capacity, poisson_times, send
from .load import SCORE
from .server import ROOT, Server

_DEADLINE = 50
"""Milliseconds."""
_HEADER = {"x-envoy-expected-rq-timeout-ms": str(_DEADLINE)}
_SHARE = 0.6
"""Share of the capacity that well-behaved clients ask for."""
_CLIENTS, _MANY = 32, 256
"""Numbers of clients that ask again at once: fewer than a queue holds, for the capacity, and a storm."""


def attack_rows(server: Server, bodies: Sequence[bytes], users: int, seconds: float) -> list[Row]:
    """Return answers to normal clients with and without each attacker.

    Args:
        server: the server.
        bodies: bodies of usual requests.
        users: number of users in a batch of an attacker.
        seconds: duration of each measurement.
    """
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        Path(folder, "body").write_bytes(bodies[0])
        batch = {"requests": [orjson.loads(bodies[i % len(bodies)]) for i in range(users)]}
        for request in batch["requests"]:
            request["candidates"] = {name: values[:1] for name, values in request["candidates"].items()}
        Path(folder, "batch").write_bytes(orjson.dumps(batch))
        for kind in ("", *KINDS):
            capacity = _capacity(server, bodies, seconds)  # measured again, as the speed of many machines varies
            rate = _SHARE * capacity
            with _attacker(kind, server, folder):
                good, cpu, start = _counted(server, 200), server.cpu_seconds(), time.monotonic()
                load = send(server.port, SCORE, bodies, poisson_times(rate, seconds, seed=5))
                spent = time.monotonic() - start
                cpu, good = server.cpu_seconds() - cpu, _counted(server, 200) - good
                probe = _probe(server)
            rows.append(
                {
                    "attacker": kind,
                    "requests/s": rate,
                    "answered, %": 100 * float((load.status == 200).mean()),
                    "p50, ms": load.percentile(50),
                    "p99, ms": load.percentile(99),
                    "probe, ms": probe,
                    "CPU, %": 100 * cpu / spent,
                    "scores/s of all / capacity": good / spent / capacity,
                    "resident, MiB": server.resident_mib(),
                }
            )
    return rows


def storm_rows(server: Server, bodies: Sequence[bytes], seconds: float, rounds: int) -> list[Row]:
    """Return the server's answers to a normal and a very large number of clients.

    Rounds of the two alternate.
    """
    answers: dict[int, list[float]] = {count: [] for count in (_CLIENTS, _MANY)}
    refusals: dict[int, list[float]] = {count: [] for count in (_CLIENTS, _MANY)}
    for _ in range(rounds):
        for count in answers:
            before = _counted(server, 503)
            answers[count].append(capacity(server.port, SCORE, bodies, count, seconds / 2))
            refusals[count].append((_counted(server, 503) - before) / (seconds / 2))
    usual = median(answers[_CLIENTS])
    return [
        {
            "clients": count,
            "good answers/s": median(answers[count]),
            "of those without the storm": median(answers[count]) / usual,
            "refusals/s": median(refusals[count]),
        }
        for count in answers
    ]


def overload_rows(server: Server, bodies: Sequence[bytes], seconds: float) -> list[Row]:
    """Return the results of requests with a deadline, at rates around the capacity."""
    rows: list[Row] = []
    for share in (0.5, 1, 2, 4):
        capacity = _capacity(server, bodies, seconds)
        times = poisson_times(share * capacity, seconds, seed=6)
        load = send(server.port, SCORE, bodies, times, _HEADER)
        good = load.status == 200
        rows.append(
            {
                "rate / capacity": share,
                "requests/s": share * capacity,
                "good answers/s": int(good.sum()) / times[-1],
                "good / capacity": int(good.sum()) / times[-1] / capacity,
                "of them in time, %": 100 * float((1000 * load.seconds[good] <= _DEADLINE).mean()) if good.any() else 0,
                "p50 of all answers, ms": _median(load),
            }
        )
    return rows


def _capacity(server: Server, bodies: Sequence[bytes], seconds: float) -> float:
    return capacity(server.port, SCORE, bodies, _CLIENTS, seconds / 2)


def _counted(server: Server, status: int) -> float:
    return server.metric(f'serve_requests_total{{path="{SCORE}",status="{status}"}}', 0)


def _median(load: Load) -> float:
    return 1000 * float(np.median(load.seconds))


def _probe(server: Server) -> float:
    """Return the milliseconds until a probe is answered, the longest of ten.

    Each probe opens a connection.
    """
    longest = 0.0
    for _ in range(10):
        start = time.monotonic()
        server.get("/v2/health/live")
        longest = max(longest, time.monotonic() - start)
    return 1000 * longest


@contextmanager
def _attacker(kind: str, server: Server, folder: str) -> Iterator[None]:
    if not kind:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.serving.attackers", kind, str(server.port), folder]
    process = subprocess.Popen(command, cwd=ROOT)
    os.setpriority(os.PRIO_PROCESS, process.pid, 19)  # it shares the core of the measuring clients
    try:
        time.sleep(1)
        yield
    finally:
        process.kill()
        process.wait()
