"""The operator's commands' way to the running proxy: HTTP over the private socket in its runtime folder."""

import http.client
import json
import pwd
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

SOCKET = "operator.sock"
TIMEOUT = 15.0
"""Seconds for one answer; a revocation waits for every worker."""
NOT_THERE = 2
"""Exit code: the proxy is not running, or not yours, or the command line makes no sense."""

Config = Annotated[
    Path,
    typer.Option("--config", "-c", help="The file that is served; it says where the socket is.", show_default=True),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Socket = Annotated[
    Path | None,
    typer.Option("--socket", help="The socket itself, if the file names another folder by now.", show_default=False),
]
DEFAULT = Path("zt-proxy.yaml")
WIDE = 240
"""Columns of what goes into a file or a pipe."""


class Unreachable(Exception):
    """The proxy cannot be asked; the text says why and what to do."""


class Refused(Exception):
    """The proxy said no: HTTP `status`, and the body it said it with."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(str(body.get("problem", f"HTTP {status}")))
        self.status = status
        self.body = body


def socket_of(config: Path, given: Path | None = None) -> Path:
    """Where the proxy that serves this file listens for its operator, unless that is given.

    The file may be wrong by now: then the proxy still serves the one before, and has something to say about it. Raises
    Unreachable when there is no such file.
    """
    from zt_proxy.config import load
    from zt_proxy.config.build import runtime_dir

    if given is not None:
        return given
    if not config.is_file():
        raise Unreachable(f"{config}: no such file; name the file that is served with -c")
    loaded = load(config)
    if loaded.schema is not None:
        return runtime_dir(loaded.base, loaded.schema) / SOCKET
    text = config.read_text("utf-8", "replace")
    base = config.absolute().parent
    runtime = _value(text, "runtime_dir")
    return (base / runtime if runtime else base / (_value(text, "state_dir") or "state") / "run") / SOCKET


def _value(text: str, key: str) -> str:
    found = re.search(rf"^{key}:[ \t]*[\"']?([^\"'#\n]+)", text, re.MULTILINE)
    return found[1].strip() if found else ""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(self._path))


def ask(path: Path, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer of the proxy at this socket. Raises Unreachable and Refused."""
    connection = _UnixConnection(path)
    try:
        connection.request(method, target, None if body is None else json.dumps(body))
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        raise Unreachable(f"the proxy is not running: nobody answers at {path}") from error
    except PermissionError as error:
        raise Unreachable(f"{path} is not yours: run this as {_owner(path)}or as root") from error
    except TimeoutError as error:
        raise Unreachable(f"the proxy did not answer within {TIMEOUT:g} s") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unreachable(f"{path}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status >= 400 or not isinstance(answer, dict):
        raise Refused(response.status, answer if isinstance(answer, dict) else {})
    return answer


def _owner(path: Path) -> str:
    """The user that runs the proxy, as far as this user may know."""
    for place in (path, *path.parents):
        try:
            return f"{pwd.getpwuid(place.stat().st_uid).pw_name} (who runs the proxy) "
        except (OSError, KeyError):
            continue
    return ""


def fail(problem: object, code: int = NOT_THERE) -> typer.Exit:
    """Say it on standard error; `raise` what this gives."""
    typer.secho(plain(str(problem)), fg="red", err=True)
    return typer.Exit(code)


def plain(text: str) -> str:
    """What came from providers and clients, without anything that moves a terminal's cursor or turns its letters."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def console() -> "Console":
    """For tables; as wide as they need to be where no terminal sets a bound."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def ago(seconds: float) -> str:
    """A duration for people: `48 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = int(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
