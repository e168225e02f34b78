"""`zt-proxy reload`: have the running proxy read its file now, and say what came of it."""

import json
import time
from typing import Annotated, Any

import typer

from zt_proxy.cli.operator_client import (
    DEFAULT,
    Config,
    Json,
    Refused,
    Socket,
    Unreachable,
    ask,
    fail,
    plain,
    socket_of,
)

PATIENCE = 100.0
"""Seconds; the guard alone may take sixty."""
_POLL = 0.2
REFUSED = 1
_EPILOG = """Examples:

  zt-proxy reload

  zt-proxy reload -c /etc/zt-proxy/zt-proxy.yaml --json

  zt-proxy reload --force --reason "the finance team moves to its own route"   (whatever `guard` says)

Exit code: 0 the file is in force, 1 it is refused and the one before stays, 2 the proxy cannot be asked."""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(reload)


def reload(
    config: Config = DEFAULT,
    force: Annotated[bool, typer.Option("--force", help="Take it over whatever `guard` says, this once.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it goes on record.", show_default=False)] = "",
    as_json: Json = False,
    socket: Socket = None,
) -> None:
    """Have the running proxy read its configuration again."""
    try:
        path = socket_of(config, socket)
        token = ask(path, "POST", "/reload", {"force": force, "reason": reason})["token"]
        answer = _answer(path, str(token))
    except (Unreachable, Refused) as error:
        raise fail(error) from error
    problem = str(answer.get("problem", ""))
    if as_json:
        typer.echo(json.dumps({"epoch": answer.get("epoch"), "problem": problem}))
    elif problem:
        typer.secho(plain(problem), fg="red", err=True)
        typer.secho("The configuration before stays in force.", err=True)
    else:
        typer.secho(f"In force: configuration {answer.get('epoch')} since the start.", fg="green")
    raise typer.Exit(REFUSED if problem else 0)


def _answer(path: Any, token: str) -> dict[str, Any]:
    """What came of it. Control may be on its way into the new configuration itself: a moment without answer is none."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            answer = ask(path, "GET", f"/reload?token={token}")
            if answer.get("done"):
                return answer
        except Unreachable:
            if time.monotonic() >= until:
                raise
        if time.monotonic() >= until:
            raise Unreachable(f"nothing was heard of the reload within {PATIENCE:g} s; `zt-proxy status` says more")
        time.sleep(_POLL)
