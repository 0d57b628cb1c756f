"""Queue in front of the model: admission, order, and refusal in time."""

import asyncio
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn, TypeVar

from .asgi import Receive
from .server_metrics import Metrics

DEADLINE = "x-envoy-expected-rq-timeout-ms"
"""The header by which Envoy, and Istio with it, tells a server how long it will wait, in milliseconds. That of gRPC,
`grpc-timeout`, has units and no proxy sets it for HTTP; Triton's is a parameter in the body."""
T = TypeVar("T")
Steps = Generator[None, None, bytes]
"""An answer that is made in steps, between which other requests may have their turn."""
_TURN = 0.005
"""Seconds of steps in a row; about what one usual request takes."""


class BadDeadline(ValueError):
    """The header's value is not a number of milliseconds."""


class Full(Exception):
    """Error of a request above the largest number in flight."""


class Late(Exception):
    """The answer would come after the deadline."""


class Gone(Exception):
    """The client has disconnected."""


def deadline_of(headers: Mapping[bytes, bytes], began: float) -> float | None:
    """Return the deadline of a request in seconds of `time.monotonic`; None: none.

    Args:
        headers: headers of the request.
        began: time at which its first byte came.

    Raises:
        BadDeadline: the header is not a positive whole number of milliseconds.
    """
    value = headers.get(DEADLINE.encode())
    if value is None:
        return None
    if not value.isdigit() or len(value) > 15 or not int(value):
        raise BadDeadline(
            f"header {DEADLINE} must be whole milliseconds, 1 or more, is {value[:20].decode('latin-1')!r}"
        )
    return began + int(value) / 1000


class _Turns:
    """Duration of turns, estimated like TCP's round trips (RFC 6298).

    Attributes:
        mean: seconds, a moving average.
        expected: seconds that a turn rarely exceeds.
        all: seconds of all turns.
        began: when the turn that runs has begun; None: none runs.
    """

    def __init__(self) -> None:
        self.mean = self.all = self._deviation = self._last = 0.0
        self.began: float | None = None

    @property
    def expected(self) -> float:
        return self.mean + 2 * self._deviation

    def took(self, asked: float) -> None:
        """Measure a turn that has just ended.

        Its time includes the way into the thread and back, since other requests wait for that, too.

        Args:
            asked: time at which it should begin, if no other turn came before it.
        """
        now = time.monotonic()
        seconds, self._last = now - max(asked, self._last), now
        self.all += seconds
        self._deviation += (abs(seconds - self.mean) - self._deviation) / 4
        self.mean += (seconds - self.mean) / 8


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
        self._turns = _Turns()
        self._stepping = asyncio.Lock()  # many calls in steps have one turn among others, not one each
        self._thread = ThreadPoolExecutor(1)

    @property
    def is_full(self) -> bool:
        """Return whether the queue is full."""
        return self._in_flight >= self._most

    @property
    def worked(self) -> float:
        """Return the seconds of all turns."""
        return self._turns.all

    def running_for(self) -> float:
        """Return the seconds since the turn that runs has begun; 0: none runs."""
        began = self._turns.began
        return 0.0 if began is None else time.monotonic() - began

    def require_place(self) -> None:
        """Raise Full if the queue is full."""
        if self.is_full:
            raise Full(f"{self._in_flight} requests are being answered, as many as --max-in-flight allows")

    def require_time(self, deadline: float | None) -> float | None:
        """Return the seconds within which a turn must begin; None: no limit.

        Raises:
            Late: the queue before the turn and the turn itself will end after the deadline.
        """
        if deadline is None:
            return None
        left = deadline - time.monotonic() - (self._turns.expected if self._to_run else 0)
        if left <= self._to_run * self._turns.mean:
            self._drop(Late)
        return left

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold the place of one request within the context.

        Raises:
            Full: there is none.
        """
        self.require_place()
        self._in_flight += 1
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.dec()

    async def run(self, call: Callable[[], bytes | Steps], receive: Receive, deadline: float | None) -> bytes:
        """Return what `call` returns, when its turn has come; a turn is not interrupted.

        Steps that `call` returns run in turns of their own, with those of other requests in between.

        Args:
            call: raises what it likes.
            receive: ASGI callable of the request, whose body has come.
            deadline: as of `deadline_of`.

        Raises:
            Late: what is before it in the queue, and its own turn, will not be done by the deadline.
            Gone: the client disconnected before its turn.
        """
        result = await self._turn(call, receive, deadline)
        if isinstance(result, bytes):
            return result
        steps, answer = result, None
        while answer is None:
            async with self._stepping:
                answer = await self._turn(partial(_some, steps), receive, deadline)
        return answer

    def close(self) -> None:
        """Stop starting calls."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, call: Callable[[], T], receive: Receive, deadline: float | None) -> T:
        """Return what `call` returns; raises as `run`."""
        left = self.require_time(deadline)
        has_turn, asked = not self._to_run, time.monotonic()
        self._to_run += 1
        job = self._thread.submit(self._measured, call)
        ended = _end_of(job)
        try:
            if not has_turn:
                await self._wait(job, ended, receive, left)
            await ended
            self._turns.took(asked)
            return job.result()
        finally:
            self._to_run -= 1
            job.cancel()

    def _measured(self, call: Callable[[], T]) -> T:
        self._turns.began = time.monotonic()
        try:
            return call()
        finally:
            self._turns.began = None

    async def _wait(
        self, job: "Future[Any]", ended: "asyncio.Future[None]", receive: Receive, left: float | None
    ) -> None:
        """Wait for the job's end, while a client waits for the answer."""
        away = asyncio.create_task(_away(receive))
        try:
            await asyncio.wait((ended, away), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and job.cancel():
                self._drop(Gone if away.done() else Late)
        finally:
            away.cancel()

    def _drop(self, reason: type[Late] | type[Gone]) -> NoReturn:
        self._metrics.dropped("deadline" if reason is Late else "disconnected")
        raise reason("the answer would come after the deadline")


def _some(steps: Steps) -> bytes | None:
    """Take steps for a while; returns the answer after the last one."""
    end = time.monotonic() + _TURN
    try:
        while True:
            next(steps)
            if time.monotonic() >= end:
                return None
    except StopIteration as done:
        return done.value


def _end_of(job: "Future[Any]") -> "asyncio.Future[None]":
    """Return a future that is done when the job is.

    `asyncio.wrap_future` does more, at a cost per request.
    """
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
