"""Metrics of a server, in the text format of Prometheus.

Workers count in files of the folder PROMETHEUS_MULTIPROC_DIR, which is set before `prometheus_client` is imported; the
worker that is asked adds up all files. Counters of a dead worker stay, its gauges are removed (`mark_process_dead`).
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from .request import Inputs

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (
    *(0.0002, 0.0005),
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.01, 0.012, 0.015, 0.02, 0.03, 0.05),
    *(0.1, 0.2, 0.5, 1, 2, 5),
)
"""Close to each other around 10 ms, which p99 is to keep: a quantile that is read from buckets is as exact as they."""
NO_PATH, NO_REQUEST = "(none of these)", "(no HTTP request)"
"""Path labels of answers to unknown paths, and to requests that the HTTP parser refuses."""


class Metrics:
    """Metrics of one server, with a registry of their own."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        requests = Counter("serve_requests", "Answers", ["path", "status"], registry=registry)
        seconds = Histogram("serve_stage_seconds", "Of a request", ["stage"], buckets=_SECONDS, registry=registry)
        self._candidates = Counter("serve_candidates", "Candidates scored", registry=registry)
        ids = Counter("serve_ids", "Ids looked up", ["field"], registry=registry)
        unknown = Counter(
            "serve_unknown_ids", "Of them, out of the vocabulary or missing", ["field"], registry=registry
        )
        # Kept per request: `labels` would look it up under a lock each time.
        self._requests, self._seconds = cache(requests.labels), cache(seconds.labels)
        self._ids, self._unknown = cache(ids.labels), cache(unknown.labels)
        live = {"registry": registry, "multiprocess_mode": "livesum"}
        self.in_flight = Gauge("serve_in_flight", "Requests that are being answered", **live)
        self._model = Gauge("serve_model", "Workers that answer with this model", ["digest", "expid"], **live)
        self._serving: tuple[str, str] | None = None
        self._written: Gauge | None = None
        self._reloads = Counter("serve_reloads", "Other bundles found", ["result"], registry=registry)
        for result in ("loaded", "refused"):
            self._reloads.labels(result)
        self._each_reload = Gauge(
            "serve_reload_seconds",
            "Of each reload and each refusal of one",
            ["result", "old", "new", "validation", "trained", "golden", "asked_by"],
            registry=registry,
            multiprocess_mode="max",
        )
        self._dropped = Counter("serve_dropped", "Requests that nobody waited for", ["reason"], registry=registry)
        for reason in ("deadline", "disconnected"):
            self._dropped.labels(reason)
        self._own = self._of_all = registry
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder:
            self._of_all = CollectorRegistry()
            self._of_all.register(_Counted(Path(folder)))
        self._of_all.register(_Processes(Path(folder) if folder else None))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block, if it succeeds."""
        start = time.perf_counter()
        yield
        self.took(name, time.perf_counter() - start)

    def took(self, stage: str, seconds: float) -> None:
        """Count how long a stage took."""
        self._seconds(stage).observe(seconds)

    def answered(self, path: str, status: int) -> None:
        """Count an answer; `path` is one of the server's, or `NO_PATH`."""
        self._requests(path, status).inc()

    def refused_by_http(self, status: int) -> None:
        """Count an answer to an invalid HTTP request.

        The application does not get the request.
        """
        self._requests(NO_REQUEST, status).inc()

    def scored(self, inputs: Inputs) -> None:
        """Count what was in a request."""
        self._candidates.inc(inputs.count)
        for field, count in inputs.ids.items():
            self._ids(field).inc(count)
            self._unknown(field).inc(inputs.unknown[field])

    def serves(self, digest: str, expid: str, written: float) -> None:
        """Set the model that answers from now on.

        Args:
            digest: digest of its bundle.
            expid: experiment id.
            written: time at which its bundle was written, in seconds since 1970.
        """
        if self._serving:
            self._model.labels(*self._serving).set(0)
        self._serving = digest, expid
        self._model.labels(digest, expid).set(1)
        if not self._written:  # a worker without a model would otherwise report 0, the oldest time
            self._written = Gauge(
                "serve_bundle_written_timestamp_seconds",
                "When the bundle that answers was written; the oldest one of all workers",
                registry=self._own,
                multiprocess_mode="livemin",
            )
        self._written.set(written)

    def reloaded(self, result: str, seconds: float, **of: str) -> None:
        """Count a bundle that was loaded or refused.

        Args:
            result: the result.
            seconds: duration.
            of: further labels of `serve_reload_seconds`.
        """
        self._reloads.labels(result).inc()
        self._each_reload.labels(result=result, **of).set(seconds)

    def dropped(self, reason: str) -> None:
        """Count a request whose turn has not come in time."""
        self._dropped.labels(reason).inc()

    def text(self) -> bytes:
        """Return all metrics of all workers."""
        return generate_latest(self._of_all)


class _Counted(Collector):
    """Collector of the counts of all workers.

    A worker's file is empty at first, and stays empty if the worker is killed just then; the `collect` of
    `MultiProcessCollector` fails on an empty file (https://github.com/prometheus/client_python/issues/1199).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = []
        for file in self._folder.glob("*.db"):
            with suppress(FileNotFoundError):  # a dead worker's gauges
                if file.stat().st_size:
                    files.append(str(file))
        return MultiProcessCollector.merge(files)


class _Processes(Collector):
    """Collector of CPU time, memory, open files and start of each process, by `pid`.

    It needs /proc. `ProcessCollector` only reports the process that is asked, a different one each time.

    Args:
        folder: folder in which workers count, each in files with its number; None: this process is alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for pid in self._pids():
            for one in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():
                family = families.setdefault(one.name, Metric(one.name, one.documentation, one.type))
                for sample in one.samples:
                    family.add_sample(sample.name, {"pid": pid}, sample.value)
        return families.values()

    def _pids(self) -> list[str]:
        if not self._folder:
            return [str(os.getpid())]
        # The gauges of a dead worker are removed, its counters stay.
        return sorted({file.stem.rpartition("_")[2] for file in self._folder.glob("gauge_livesum_*.db")})
