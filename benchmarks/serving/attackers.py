"""Clients that attack a server: `python -m benchmarks.serving.attackers`.

The arguments are KIND PORT FOLDER. The folder has `body`, of a usual request, and `batch`, of one with many users. An
attacker continues until it is ended.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

_HEAD = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"


class Attack:
    """Connection and requests of an attacker."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        body, batch = (folder / "body").read_bytes(), (folder / "batch").read_bytes()
        self._request = _HEAD % (b"/v1/score", len(body)) + body
        self._batch = _HEAD % (b"/v1/score:batch", len(batch)) + batch

    async def silent(self) -> None:
        """Connect, and send nothing."""
        reader, writer = await self._connect()
        await reader.read()
        writer.close()

    async def slow(self) -> None:
        """Send the headers of a request, then its body at one byte per half second."""
        _, writer = await self._connect()
        head = self._request.index(b"\r\n\r\n") + 4
        writer.write(self._request[:head])
        for byte in self._request[head:]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.5)
        writer.close()

    async def endless(self) -> None:
        """Send a header that does not end."""
        _, writer = await self._connect()
        writer.write(b"GET / HTTP/1.1\r\na: ")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async def batches(self) -> None:
        """Send batch after batch."""
        await self._ask(self._batch)

    async def storm(self) -> None:
        """Send requests without a pause, whatever the answers are."""
        await self._ask(self._request)

    async def connections(self) -> None:
        """Send requests without a pause, each over a new connection."""
        reader, writer = await self._connect()
        writer.write(self._request)
        await _answer(reader)
        writer.close()

    async def _ask(self, request: bytes) -> None:
        reader, writer = await self._connect()
        while True:
            writer.write(request)
            await _answer(reader)

    def _connect(self) -> Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        return asyncio.open_connection("127.0.0.1", self._port)


KINDS: dict[str, tuple[int, Callable[[Attack], Awaitable[None]]]] = {
    "silent": (300, Attack.silent),
    "slow": (300, Attack.slow),
    "endless": (4, Attack.endless),
    "batches": (4, Attack.batches),
    "storm": (256, Attack.storm),
    "connections": (256, Attack.connections),
}
"""Name -> clients at a time, what each does."""


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    (size,) = (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(size)


async def _attack(kind: str, attack: Attack) -> None:
    count, act = KINDS[kind]

    async def again() -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                await act(attack)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(again() for _ in range(count)))


if __name__ == "__main__":
    asyncio.run(_attack(sys.argv[1], Attack(int(sys.argv[2]), Path(sys.argv[3]))))
