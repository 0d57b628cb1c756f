"""Port that a server listens on."""

import os
import socket

from dien_fuxictr.common.errors import UserError

from .log import say

LOCAL = "127.0.0.1"
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Listen on the port, which no other process may share.

    Raises:
        UserError: the host is empty or does not exist, or the port is taken or cannot be had.
    """
    if not host:  # the system would read it as all interfaces
        raise UserError(f"--host must not be empty: name an address, {LOCAL} or, for all interfaces, 0.0.0.0")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    where = f"cannot listen on --host {host} --port {port}"
    try:
        socket.getaddrinfo(host, port, family)  # otherwise `create_server` reports "Unknown error"
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"{where}: no such address") from error
    except OSError as error:
        raise UserError(f"{where}: {os.strerror(error.errno or 0)}") from error


def announce(bundle: str, host: str, port: int) -> None:
    """Print the address of the server, and who can reach it."""
    who = "only this machine reaches it" if host == LOCAL else "anyone who reaches this address can send requests"
    say(f"serving {bundle} on http://{f'[{host}]' if ':' in host else host}:{port} ({who})")
