"""Opens many TLS keep-alive connections, asks once on each, and holds them: run as a process of its own.

    python -m benchmarks.idle_client HOST PORT AUTHORITY COOKIE PATH LENGTH COUNT

One JSON object per line on standard output: `{"open": N}` as they are opened; once all are, it waits for a line on
standard input and answers `{"idle": N}`, how many are still open with nothing to read. Ends when standard input does.
"""

import json
import select
import socket
import ssl
import sys

_POLL_SECONDS = 10.0


def _say(**fields: int) -> None:
    print(json.dumps(fields), flush=True)


def read_answer(connection: ssl.SSLSocket, length: int) -> None:
    """Read one answer; `ValueError` unless it is a 200 with Content-Length and a body of exactly `length` bytes."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    if status.split(b" ")[1:2] != [b"200"]:
        raise ValueError(f"answered {status!r}")
    if b"content-length: %d" % length not in [field.lower() for field in fields]:
        raise ValueError(f"answer without Content-Length {length}: {fields!r}")
    while len(body) < length:
        body += _receive(connection)
    if len(body) != length:
        raise ValueError(f"{len(body)} bytes for {length}")


def _receive(connection: ssl.SSLSocket) -> bytes:
    block = connection.recv(65536)
    if not block:
        raise ValueError("closed before the answer was whole")
    return block


def still_idle(connections: list[ssl.SSLSocket]) -> int:
    """How many of the connections are open with nothing to read: one the server has closed is readable."""
    poller = select.poll()
    for connection in connections:
        poller.register(connection, select.POLLIN)
    return len(connections) - len(poller.poll(0))


def main(arguments: list[str]) -> None:
    """Open the connections, report, hold them until standard input ends."""
    host, port, authority, cookie, path, length, count = arguments
    context = ssl.create_default_context(cafile=authority)
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\n\r\n".encode("ascii")
    connections = []
    for number in range(1, int(count) + 1):
        plain = socket.create_connection(("127.0.0.1", int(port)), timeout=_POLL_SECONDS)
        connection = context.wrap_socket(plain, server_hostname=host)
        connection.sendall(request)
        read_answer(connection, int(length))
        connections.append(connection)
        if number % 100 == 0 or number == int(count):
            _say(open=number)
    for _ in sys.stdin:
        _say(idle=still_idle(connections))


if __name__ == "__main__":
    main(sys.argv[1:])
