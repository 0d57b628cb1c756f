"""Open-loop client: requests leave at given times, answered or not.

A client that waits for an answer before its next request measures a stall only once. Here the latency starts at the
time at which the request should leave, so that each request that a stall delays counts with its whole delay.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import uvloop


@dataclass
class Load:
    """Results of the requests.

    Attributes:
        start: time at which each should leave, in seconds after the first.
        seconds: from then to its answer; infinite without an answer.
        status: status of the answer, 0 without one.
        clock: `time.monotonic` at `start` 0.
    """

    start: np.ndarray
    seconds: np.ndarray
    status: np.ndarray
    clock: float

    def percentile(self, which: float) -> float:
        """Return the milliseconds within which a percentage is answered with 200."""
        return 1000 * float(np.percentile(np.where(self.status == 200, self.seconds, np.inf), which, method="higher"))

    def only(self, which: np.ndarray) -> "Load":
        """Return the results of some of the requests."""
        return Load(self.start[which], self.seconds[which], self.status[which], self.clock)


def poisson_times(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Return times of independent users' requests, on average `rate` per second."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
    return np.cumsum(gaps)


def even_times(rate: float, seconds: float) -> np.ndarray:
    """Return times at equal distances, at which requests only meet on a slow server."""
    return np.arange(int(rate * seconds)) / rate


def send(
    port: int, path: str, bodies: Sequence[bytes], times: np.ndarray, headers: Mapping[str, str] | None = None
) -> Load:
    """Send bodies in turn at these times, over free or new connections."""
    further = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return uvloop.run(_send(port, _requests(path, bodies, further), times))


def capacity(port: int, path: str, bodies: Sequence[bytes], clients: int, seconds: float) -> float:
    """Return answers per second to clients that send as soon as they are answered."""
    return uvloop.run(_saturate(port, _requests(path, bodies, ""), clients, seconds)) / seconds


async def _saturate(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> int:
    end, loop = time.monotonic() + seconds, asyncio.get_running_loop()

    async def one(number: int) -> int:
        good, connection = 0, None
        while time.monotonic() < end:
            if not connection or connection.closed:
                connection = (await loop.create_connection(_Connection, "127.0.0.1", port))[1]
            with suppress(OSError):  # the server has closed it
                status = await connection.ask(requests[number % len(requests)])
                good += status == 200 and time.monotonic() < end
        if connection:
            connection.close()
        return good

    return sum(await asyncio.gather(*(one(number) for number in range(clients))))


def _requests(path: str, bodies: Sequence[bytes], further: str) -> list[bytes]:
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{further}content-type: application/json\r\ncontent-length: "
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


async def _send(port: int, requests: Sequence[bytes], times: np.ndarray) -> Load:
    loop = asyncio.get_running_loop()
    begin = time.monotonic() + 0.05
    load = Load(times, np.full(len(times), np.inf), np.zeros(len(times), dtype=int), begin)
    free: list[_Connection] = []

    async def one(number: int) -> None:
        try:
            while free and free[-1].closed:  # a server closes connections that are idle for seconds
                free.pop()
            connection = free.pop() if free else (await loop.create_connection(_Connection, "127.0.0.1", port))[1]
            status = await connection.ask(requests[number % len(requests)])
        except OSError:
            return
        load.seconds[number] = time.monotonic() - begin - times[number]
        load.status[number] = status
        if not connection.closed:
            free.append(connection)

    tasks = []
    for number, at in enumerate(times):
        if (wait := begin + at - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        tasks.append(loop.create_task(one(number)))
    await asyncio.wait(tasks, timeout=60)
    for connection in free:
        connection.close()
    return load


class _Connection(asyncio.Protocol):
    """One request at a time over HTTP/1.1."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[int] | None = None
        self._received = bytearray()
        self.closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._transport = transport

    def ask(self, request: bytes) -> "asyncio.Future[int]":
        """Return the status of the answer; raise OSError if the connection ends before."""
        self._answer = asyncio.get_running_loop().create_future()
        if self.closed:
            self.connection_lost(None)
        else:
            self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator or not self._answer or self._answer.done():
            return
        lines = head.lower().split(b"\r\n")
        (size,) = (int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        if len(rest) >= size:
            self._received.clear()
            if b"connection: close" in lines:
                self.closed = True
            self._answer.set_result(int(head.split(b" ", 2)[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())
