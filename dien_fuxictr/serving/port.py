"""The port that a server listens on."""

import os
import socket

from dien_fuxictr.common.errors import UserError

from .log import say

LOCAL = "127.0.0.1"
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Listen on it alone.

    Raises:
        UserError: it is taken, or not to be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UserError(f"cannot listen on --host {host} --port {port}: {os.strerror(error.errno or 0)}") from error


def announce(bundle: str, host: str, port: int) -> None:
    """Say where it is served, and to whom."""
    who = "only this machine reaches it" if host == LOCAL else "whoever reaches this address may ask"
    say(f"serving {bundle} on http://{f'[{host}]' if ':' in host else host}:{port} ({who})")
