"""The queue before the model: how many are let in, and who is dropped before his turn comes."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NoReturn

from .asgi import Receive
from .metrics import Metrics

DEADLINE = "x-envoy-expected-rq-timeout-ms"
"""The header by which Envoy, and Istio with it, tells a server how long it will wait, in milliseconds. That of gRPC,
`grpc-timeout`, has units and no proxy sets it for HTTP; Triton's is a parameter in the body."""


class BadDeadline(ValueError):
    """The header's value is no number of milliseconds."""


class Full(Exception):
    """As many are in flight as may be."""


class Late(Exception):
    """The deadline has passed before the turn came."""


class Gone(Exception):
    """The client has gone away."""


def deadline_of(headers: Mapping[bytes, bytes]) -> float | None:
    """When nobody will wait any more, in seconds of `time.monotonic`; None: never.

    Raises:
        BadDeadline: the header has another value than whole milliseconds, 1 or more.
    """
    value = headers.get(DEADLINE.encode())
    if value is None:
        return None
    if not value.isdigit() or len(value) > 15 or not int(value):
        raise BadDeadline(
            f"header {DEADLINE} must be whole milliseconds, 1 or more, is {value[:20].decode('latin-1')!r}"
        )
    return time.monotonic() + int(value) / 1000


class Queue:
    """Runs one call after the other, in a thread.

    Args:
        most: requests in flight, from `place` on.
        metrics: count what is in flight and what is dropped.
    """

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most, self._metrics = most, metrics
        self._in_flight = 0
        self._to_run = 0
        self._thread = ThreadPoolExecutor(1)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place of one request.

        Raises:
            Full: there is none.
        """
        if self._in_flight >= self._most:
            raise Full(f"{self._in_flight} requests are being answered, as many as allowed")
        self._in_flight += 1
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.dec()

    async def run(self, call: Callable[[], bytes], receive: Receive, deadline: float | None) -> bytes:
        """What `call` returns, when its turn has come; then it is not interrupted any more.

        Args:
            call: raises what it likes.
            receive: of the request, whose body has come.
            deadline: as of `deadline_of`.

        Raises:
            Late: the deadline passed before the turn came.
            Gone: the client went away before the turn came.
        """
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            self._drop(Late)
        has_turn = not self._to_run
        self._to_run += 1
        job = self._thread.submit(call)
        ended = _end_of(job)
        try:
            if not has_turn:
                await self._wait(job, ended, receive, left)
            await ended
            return job.result()
        finally:
            self._to_run -= 1
            job.cancel()

    def close(self) -> None:
        """Begin no call any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _wait(
        self, job: "Future[bytes]", ended: "asyncio.Future[None]", receive: Receive, left: float | None
    ) -> None:
        """For its end, as long as anybody waits for the answer."""
        away = asyncio.create_task(_away(receive))
        try:
            await asyncio.wait((ended, away), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and job.cancel():
                self._drop(Gone if away.done() else Late)
        finally:
            away.cancel()

    def _drop(self, reason: type[Late] | type[Gone]) -> NoReturn:
        self._metrics.dropped("deadline" if reason is Late else "disconnected")
        raise reason("the deadline has passed before its turn came")


def _end_of(job: "Future[bytes]") -> "asyncio.Future[None]":
    """Done when the job is; `asyncio.wrap_future` does more, which each request would pay for."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    job.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(end))
    return ended


async def _away(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
