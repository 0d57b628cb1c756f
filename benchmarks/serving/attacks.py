"""What well-behaved clients get while others attack the server, and of a server with more to do than it can."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson

from ..report import Row
from .attackers import KINDS
from .client import Load, poisson_times, send
from .load import SCORE
from .server import ROOT, Server

_DEADLINE = 50
"""Milliseconds."""
_HEADER = {"x-envoy-expected-rq-timeout-ms": str(_DEADLINE)}
_SHARE = 0.6
"""Of the capacity, what well-behaved clients ask for."""


def attack_rows(server: Server, bodies: Sequence[bytes], users: int, seconds: float) -> list[Row]:
    """Return goodput and latency of well-behaved clients with and without each attacker.

    Args:
        server: under attack.
        bodies: of usual requests.
        users: of a batch of the attacker who sends such.
        seconds: of each measurement.
    """
    capacity = capacity_of(server, bodies, seconds)
    rate = _SHARE * capacity
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        Path(folder, "body").write_bytes(bodies[0])
        batch = {"requests": [orjson.loads(bodies[i % len(bodies)]) for i in range(users)]}
        for request in batch["requests"]:
            request["candidates"] = {name: values[:1] for name, values in request["candidates"].items()}
        Path(folder, "batch").write_bytes(orjson.dumps(batch))
        for kind in ("", *KINDS):
            with _attacker(kind, server, folder):
                load = send(server.port, SCORE, bodies, poisson_times(rate, seconds, seed=5))
                probe = _probe(server)
            good = int((load.status == 200).sum()) / load.start[-1]
            rows.append(
                {
                    "attacker": kind,
                    "requests/s": rate,
                    "good answers/s": good,
                    "p50, ms": load.percentile(50),
                    "p99, ms": load.percentile(99),
                    "probe, ms": probe,
                    "resident, MiB": server.resident_mib(),
                }
            )
    for row in rows:
        row["good / without"] = row["good answers/s"] / rows[0]["good answers/s"]
    return rows


def overload_rows(server: Server, bodies: Sequence[bytes], seconds: float) -> list[Row]:
    """Return what comes of requests with a deadline, at rates below and above what the server can do."""
    capacity = capacity_of(server, bodies, seconds)
    rows: list[Row] = []
    for share in (0.5, 1, 2, 4):
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


def capacity_of(server: Server, bodies: Sequence[bytes], seconds: float) -> float:
    """Return how many requests a second are answered of as many as its queue holds, sent at once and again."""
    count, start = 0, time.monotonic()
    while (spent := time.monotonic() - start) < seconds:
        count += int((send(server.port, SCORE, bodies, np.zeros(48)).status == 200).sum())
    return count / spent if count else 0.0


def _median(load: Load) -> float:
    return 1000 * float(np.median(load.seconds))


def _probe(server: Server) -> float:
    """Milliseconds until a probe over a new connection is answered, the longest of ten."""
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
    try:
        time.sleep(1)
        yield
    finally:
        process.kill()
        process.wait()
