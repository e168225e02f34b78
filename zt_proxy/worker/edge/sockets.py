"""Listening sockets: what makes one, and what tells two listeners apart. Light: the supervisor imports it too."""

import errno
import os
import socket

from zt_proxy.worker.settings import ListenerSettings

BACKLOG = 1024
Key = tuple[str, str, int]
"""Name, host and port of a listener: with another of these it is another listener."""


def key_of(listener: ListenerSettings) -> Key:
    return listener.name, listener.host, listener.port


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound TCP socket that does not listen yet; `shared` lets other sockets of this user have the same address.

    Raises OSError that names the address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio looks at it: without, accepted connections get no TCP_NODELAY.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        # The bare error does not say which of the addresses: 443 without the right to it is the usual one.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise OSError(error.errno or errno.EINVAL, f"{why}: cannot listen on {host}:{port}") from error
    return made
