"""`zt-proxy status`: the running proxy at a glance."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_EPILOG = """Examples:

  zt-proxy status

  zt-proxy status -c /etc/zt-proxy/zt-proxy.yaml --watch

  zt-proxy status --json | jq '.workers[] | {worker, heard, websockets}'

Exit code: 0 all is well, 1 it runs and something is wrong, 2 it is not running or not yours to ask."""

_FULL = 0.25
"""Share of a record ring that is worth a colour."""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(status)


def status(
    config: Config = DEFAULT,
    socket: Socket = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew each second, until Ctrl-C.")] = False,
) -> None:
    """Show processes, workers and their link, configuration, sessions and the audit log of a running proxy."""
    try:
        path = socket_of(config, socket)
        if watch and not as_json:
            _watch(path)
            return
        while True:
            found = ask(path, "GET", "/status")
            typer.echo(json.dumps(found)) if as_json else _print(found)
            if not watch:
                break
            time.sleep(1)
    except (Unreachable, Refused) as error:
        raise fail(error) from error
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    raise typer.Exit(1 if found["problems"] else 0)


def _watch(path: Any) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(Text("…"), screen=True, auto_refresh=False) as live:
        while True:
            try:
                shown: RenderableType = _view(ask(path, "GET", "/status"))
            except (Unreachable, Refused) as error:
                shown = Text(plain(str(error)), style="bold red")
            live.update(shown, refresh=True)
            time.sleep(1)


def _print(found: dict[str, Any]) -> None:
    console().print(_view(found))


def _view(found: dict[str, Any]) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    lines = [Text(line) for line in _lines(found)]
    problems = [Text(f"! {plain(problem)}", style="bold red") for problem in found["problems"]]
    return Group(*lines, "", _processes(found), "", _workers(found), *([""] if problems else []), *problems)


def _lines(found: dict[str, Any]) -> list[str]:
    configuration, record = found["configuration"], found["record"]
    since = ago(found["at"] - configuration["loaded"]) if configuration["loaded"] else "the start"
    listeners = ", ".join(f"{each['name']} {each['address']}" for each in found["listeners"])
    sessions = "?" if found["sessions"] is None else found["sessions"]
    durable = "every record is durable" if record["ok"] else "RECORDS ARE NOT BECOMING DURABLE"
    return [
        f"configuration  epoch {configuration['epoch']}, for {since}  {plain(configuration['path'])}".rstrip(),
        f"listeners      {plain(listeners) or 'none'}",
        f"sessions       {sessions}; {found['open']} requests and streams of signed-in people under way",
        f"audit log      line {record['seq']}; {durable}; fullest ring {record['ring_used']:.0%}",
    ]


def _processes(found: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table("process", "pid", "state", "up", "restarts", box=None, pad_edge=False)
    for each in found["processes"]:
        colour = "green" if each["state"] == "running" else "yellow" if each["state"] != "down" else "red"
        table.add_row(
            each["name"], str(each["pid"]), f"[{colour}]{each['state']}[/]", ago(each["uptime"]), str(each["restarts"])
        )
    return table


def _workers(found: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(
        "worker", "link", "changes", "connections", "requests", "websockets", "sessions cached", "ring",
        box=None, pad_edge=False,
    )  # fmt: skip
    for each in found["workers"]:
        link = f"{each['heard']:.1f} s ago" if each["connected"] else "[red]not connected[/]"
        behind = found["sequence"] - each["applied"]
        table.add_row(
            str(each["worker"]),
            link,
            f"{each['applied']}" if behind <= 0 else f"[yellow]{behind} behind[/]",
            str(each["connections"]),
            str(each["requests"]),
            str(each["websockets"]),
            str(each["sessions_cached"]),
            f"[{'red' if each['ring_used'] > _FULL else 'green'}]{each['ring_used']:.0%}[/]",
        )
    return table
