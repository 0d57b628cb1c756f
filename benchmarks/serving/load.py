"""Measure a server under load: highest rate, cost of HTTP, reloads, memory."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..report import Row
from .client import Load, even_times, poisson_times, send
from .server import Server

SCORE = "/v1/score"
P99 = 10.0
"""Milliseconds that a server is to keep."""
_STAGES = ("decode", "encode", "model")


def cost_rows(name: str, server: Server, bodies: Sequence[bytes], rate: float, seconds: float) -> list[Row]:
    """Return the CPU time of a request by parts, at a low rate."""
    send(server.port, SCORE, bodies, poisson_times(rate, 2, seed=1))
    before = _counted(server)
    answered = int((send(server.port, SCORE, bodies, poisson_times(rate, seconds, seed=2)).status == 200).sum())
    cpu, *stages = 1000 * (_counted(server) - before) / answered
    parts = {f"{stage}, ms": ms for stage, ms in zip(_STAGES, stages, strict=True)}
    return [
        {
            "served": name,
            "requests": answered,
            "CPU, ms": cpu,
            **parts,
            "beside the model, %": 100 * (1 - stages[-1] / cpu),
        }
    ]


def _counted(server: Server) -> np.ndarray:
    sums = [server.metric(f'serve_stage_seconds_sum{{stage="{stage}"}}') for stage in _STAGES]
    return np.array([server.cpu_seconds(), *sums])


def rate_rows(name: str, server: Server, bodies: Sequence[bytes], rates: Sequence[float], seconds: float) -> list[Row]:
    """Return one row per rate and kind of times, up to a p99 of a second or more."""
    rows: list[Row] = []
    send(server.port, SCORE, bodies, poisson_times(min(rates), 2, seed=1))
    for kind, times_of in (("even", even_times), ("Poisson", partial(poisson_times, seed=2))):
        for rate in tqdm(sorted(rates), f"{name}, {kind}", leave=False, disable=None):
            before = server.cpu_seconds()
            load = send(server.port, SCORE, bodies, times_of(rate, seconds))
            cpu = server.cpu_seconds() - before
            answered = int((load.status == 200).sum())
            row = {"served": name, "times": kind, "requests/s": rate, **_latencies(load)}
            rows.append({**row, "CPU, ms": 1000 * cpu / max(answered, 1)})
            if row["p99, ms"] >= 1000:
                break
    return rows


def _latencies(load: Load) -> Row:
    return {
        "requests": len(load.status),
        "refused": int((load.status != 200).sum()),
        "p50, ms": load.percentile(50),
        "p99, ms": load.percentile(99),
        "longest, ms": load.percentile(100),
    }


def highest_rates(rows: Sequence[Row]) -> list[Row]:
    """Return the highest rate with p99 below `P99` per server and kind of times."""
    found: dict[tuple[str, str], float] = {}
    for key in dict.fromkeys((row["served"], row["times"]) for row in rows):
        found[key] = 0
        for row in (row for row in rows if (row["served"], row["times"]) == key):
            if row["p99, ms"] >= P99:
                break
            found[key] = row["requests/s"]
    return [
        {"served": name, "times": kind, f"requests/s with p99 below {P99:g} ms": rate}
        for (name, kind), rate in found.items()
    ]


def reload_rows(
    server: Server,
    link: Path,
    pairs: Mapping[str, Sequence[Path]],
    bodies: Sequence[bytes],
    rate: float,
    seconds: float,
) -> list[Row]:
    """Return latencies without reloads, and of requests during reloads.

    Reloads switch between the bundles of a pair.
    """
    quiet = send(server.port, SCORE, bodies, poisson_times(rate, seconds, seed=3))
    rows: list[Row] = [{"vocabularies": "", "reloads": 0, **_latencies(quiet), "p99 / without": 1.0}]
    for vocabularies, bundles in pairs.items():
        with reloading(server, link, bundles, every=seconds / 10) as reloads:
            busy = send(server.port, SCORE, bodies, poisson_times(rate, seconds, seed=4))
        start = busy.clock + busy.start
        during = busy.only(np.any([(start >= begin) & (start <= end) for begin, end in reloads], axis=0))
        ratio = during.percentile(99) / quiet.percentile(99)
        latencies = _latencies(during)
        rows.append({"vocabularies": vocabularies, "reloads": len(reloads), **latencies, "p99 / without": ratio})
    return rows


@contextmanager
def reloading(server: Server, link: Path, bundles: Sequence[Path], every: float) -> Iterator[list[tuple[float, float]]]:
    """Switch the symlink to the other bundle again and again within the context.

    A switch follows some seconds after the last bundle answers. The yielded list gets the time of each switch and of
    the new bundle's first answer, by `time.monotonic`, as they happen.
    """
    ended, reloads = threading.Event(), []

    def run() -> None:
        while not ended.wait(every):
            before, begin = server.get("/v1/model"), time.monotonic()
            switch(link, next(bundle for bundle in bundles if bundle.resolve() != link.resolve()))
            while server.get("/v1/model") == before:
                time.sleep(0.05)
            reloads.append((begin, time.monotonic()))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield reloads
    finally:
        ended.set()
        thread.join()


def switch(link: Path, bundle: Path) -> None:
    """Point the symlink to the bundle, atomically."""
    new = link.with_name(f"{link.name}.new")
    new.symlink_to(bundle)
    os.replace(new, link)


def memory_rows(
    server: Server,
    link: Path,
    bundles: Sequence[Path],
    bodies: Sequence[bytes],
    rate: float,
    minutes: float,
    reloads: int,
) -> list[Row]:
    """Return resident memory under load, ten times, while bundles are reloaded."""
    rows: list[Row] = []
    with reloading(server, link, bundles, every=60 * minutes / (reloads + 1)) as done:
        for part in tqdm(range(10), "memory", leave=False, disable=None):
            load = send(server.port, SCORE, bodies, poisson_times(rate, 6 * minutes, seed=part))
            rows.append(
                {
                    "minutes": minutes * (part + 1) / 10,
                    "reloads": len(done),
                    "requests": len(load.status),
                    "not answered": int((load.status != 200).sum()),
                    "resident, MiB": server.resident_mib(),
                }
            )
    return rows
