"""The port: one process listens on it, or several beside each other.

Several processes have a socket each, by SO_REUSEPORT, among which the kernel spreads connections by a hash of their
addresses. One socket for all would give a connection to whoever wakes first, who then takes all that wait: of 64
keep-alive connections opened at once, two uvicorn workers got 62 and 2, with a socket each 34 and 30; of 64 under
load, four got 59, 4, 1 and 0, with a socket each 17, 17, 15 and 15.
"""

import os
import socket

from dien_fuxictr.common.errors import UserError

from .log import say

LOCAL = "127.0.0.1"
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Listen on it alone.

    Raises:
        UserError: it is taken, or not to be had.
    """
    try:
        return socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
    except OSError as error:
        raise UserError(f"cannot listen on --host {host} --port {port}: {os.strerror(error.errno or 0)}") from error


def reserve(host: str, port: int) -> socket.socket:
    """Keep it for sockets of `bind_beside` as long as what is returned is open; raises as `listen`.

    Nothing is received by it, as it does not listen.
    """
    with listen(host, port) as alone:  # SO_REUSEPORT would join another server of the same user without a word
        port = alone.getsockname()[1]
    reserved = bind_beside(host, port)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # or whoever does not listen yet is not seen
    return reserved


def bind_beside(host: str, port: int) -> socket.socket:
    """A socket that shares the port; connections come when it listens."""
    bound = socket.socket(_family(host))
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as `create_server` does
    bound.bind((host, port))
    return bound


def announce(bundle: str, host: str, port: int) -> None:
    """Say where it is served, and to whom."""
    who = "only this machine reaches it" if host == LOCAL else "whoever reaches this address may ask"
    say(f"serving {bundle} on http://{f'[{host}]' if ':' in host else host}:{port} ({who})")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
