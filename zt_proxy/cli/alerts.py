"""`zt-proxy alerts`: what watching has told of."""

import json
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from zt_proxy.cli.operator_client import (
    DEFAULT,
    Config,
    Json,
    Refused,
    Socket,
    Unreachable,
    ago,
    ask,
    console,
    fail,
    plain,
    socket_of,
)

_EPILOG = """Examples:

  zt-proxy alerts

  zt-proxy alerts --since 24h --user alice@example.com

  zt-proxy alerts --kind volume --json | jq -r '.alerts[] | [.id, .summary, .lock] | @tsv'

An alert with an `=>` has locked somebody: `zt-proxy locks` shows the lock, `zt-proxy unlock` lifts it. The last ten
thousand alerts are here; all of them are in the audit log, as lines of the type `alert`.

Exit code: 0 fine (also when there are none), 2 the proxy is not running or not yours to ask."""
_COLOURS = {"high": "red", "medium": "yellow"}


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(alerts)


def alerts(
    config: Config = DEFAULT,
    socket: Socket = None,
    since: Annotated[str, typer.Option(help="Only of the last so long, such as `24h` or `7d`.")] = "",
    user: Annotated[str, typer.Option(help="Only of this subject or e-mail address.")] = "",
    kind: Annotated[str, typer.Option(help="Only `volume`, `first-use`, `change`, `notify` or `break-glass`.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most alerts to ask for.")] = 100,
    as_json: Json = False,
) -> None:
    """List alerts, the newest first."""
    from zt_proxy.config.units import duration

    try:
        seconds = duration(since) if since else None
    except ValueError as error:
        raise fail(f"--since: {error}") from error
    try:
        path = socket_of(config, socket)
        found = ask(path, "GET", f"/alerts?{urlencode({'limit': 1_000 if user or kind or since else limit})}")
    except (Unreachable, Refused) as error:
        raise fail(error) from error
    wanted = user.casefold()
    chosen = [
        each
        for each in found["alerts"]
        if (seconds is None or each.get("last_at", each["at"]) >= found["at"] - seconds)
        and (not kind or each["kind"] == kind)
        and (not user or wanted in (each.get("user", "").casefold(), each.get("email", "").casefold()))
    ][:limit]
    if as_json:
        typer.echo(json.dumps({"at": found["at"], "alerts": chosen}))
    elif chosen:
        _print(chosen, found["at"])
    else:
        typer.echo("No alerts.")


def _print(found: list[dict[str, Any]], now: float) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table(
        "alert", "when", "severity", Column("what", overflow="fold"), "times", "then", box=None, pad_edge=False
    )
    for each in found:
        colour = _COLOURS.get(each["severity"], "dim")
        table.add_row(
            each["id"],
            f"{ago(now - each['at'])} ago",
            f"[{colour}]{escape(plain(each['severity']))}[/]",
            escape(plain(each["summary"])),
            str(each.get("count", 1)),
            escape(plain(_then(each))),
        )
    console().print(table)


def _then(alert: dict[str, Any]) -> str:
    """What came of it."""
    lock = alert.get("suggested")
    if lock is None:
        return ""
    what = f"{lock['effect']} {lock['kind']} {'until reviewed' if 'lasts' not in lock else 'for ' + ago(lock['lasts'])}"
    if alert.get("lock"):
        return f"=> {what} ({alert['lock']})"
    if alert.get("not_locked"):
        return f"not locked: {alert['not_locked']}"
    return f"advised: {what}"
