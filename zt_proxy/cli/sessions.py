"""`zt-proxy sessions`: who is signed in, and the end of it."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from zt_proxy.cli.operator_client import (
    DEFAULT,
    NOT_THERE,
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

NOBODY = 1
UNCONFIRMED = 3

_LIST = """Examples:

  zt-proxy sessions list

  zt-proxy sessions list --user alice@example.com

  zt-proxy sessions list --host flows.example.com --limit 0 --json | jq -r '.sessions[].email'

Exit code: 0 fine (also when there are none), 2 the proxy is not running or not yours to ask."""

_REVOKE = """Examples:

  zt-proxy sessions revoke --user alice@example.com --reason "laptop stolen"

  zt-proxy sessions revoke --user alice --provider corp --reason "left the company"

  zt-proxy sessions revoke --sid 3vQ9yH2sT0m1bXk7cJ5u8w --reason "seen abroad"

  zt-proxy sessions revoke --all --yes --reason "incident 4711"

What was open (WebSockets, event streams, up- and downloads) is cut, and new requests have to sign in again.
The order is on the audit record before it is carried out.
An integration's access ends with its certificate: `zt-proxy ca revoke`.

Exit code: 0 in force on every worker, 1 there is no such session, or several providers know the person,
2 the proxy is not running or not yours to ask, 3 done, and a worker has yet to confirm."""


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Who is signed in: list sessions, end them everywhere at once.", no_args_is_help=True)
    group.command("list", epilog=_LIST)(list_sessions)
    group.command(epilog=_REVOKE)(revoke)
    app.add_typer(group, name="sessions")


def list_sessions(
    config: Config = DEFAULT,
    socket: Socket = None,
    user: Annotated[str, typer.Option(help="Subject or e-mail address.")] = "",
    provider: Annotated[str, typer.Option(help="Only people this provider vouched for.")] = "",
    host: Annotated[str, typer.Option(help="Only who is signed in at this host.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Most sessions to show; 0: all.")] = 100,
    as_json: Json = False,
) -> None:
    """List live sessions, the newest sign-in first."""
    try:
        path = socket_of(config, socket)
        page, found, more = _all(path, {"user": user, "provider": provider, "host": host}, limit)
    except (Unreachable, Refused) as error:
        raise fail(error) from error
    if as_json:
        typer.echo(json.dumps({"sessions": found, "integrations": page["integrations"], "more": more}))
        return
    _print(found, page["at"])
    for name, count in sorted(page["integrations"].items()):
        typer.echo(f"integration {plain(name)}: {count} open")
    if more:
        typer.secho("There are more: --limit 0 shows all.", dim=True)


def _all(path: Path, wanted: dict[str, str], limit: int) -> tuple[dict[str, Any], list[dict[str, Any]], bool]:
    """Page by page, until there are enough or no more: the last answer, the sessions, and whether there are more."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        query = {name: value for name, value in {**wanted, "after": after}.items() if value}
        page = ask(path, "GET", f"/sessions?{urlencode(query)}")
        found += page["sessions"]
        after = page["following"]
        if not after or (limit and len(found) > limit):
            break
    return page, found[: limit or None], bool(after) or bool(limit and len(found) > limit)


def _print(found: list[dict[str, Any]], now: float) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    if not found:
        typer.echo("Nobody is signed in.")
        return
    sid = Column("sid", no_wrap=True, min_width=22)
    table = Table("who", "provider", "signed in", "active", "ends in", "at", "open", sid, box=None, pad_edge=False)
    for each in found:
        ends = min(each["idle_deadline"], each["absolute_deadline"]) - now
        table.add_row(
            escape(plain(each["email"] or each["subject"])),
            escape(plain(each["provider"])),
            f"{ago(now - each['created'])} ago",
            f"{ago(now - each['last_activity'])} ago",
            f"{ago(ends)}{' idle' if each['idle_deadline'] < each['absolute_deadline'] else ''}",
            escape("\n".join(each["hosts"])),
            str(each["open"]),
            escape(each["sid"]),
        )
    console().print(table)


def revoke(
    config: Config = DEFAULT,
    socket: Socket = None,
    user: Annotated[str, typer.Option(help="Every session of this person: subject or e-mail address.")] = "",
    provider: Annotated[str, typer.Option(help="With --user: of this provider, when several know the person.")] = "",
    sid: Annotated[str, typer.Option(help="This session; `sessions list` and the audit log show the id.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every session of everybody.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the audit record.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --all.")] = False,
    as_json: Json = False,
) -> None:
    """End sessions everywhere at once."""
    if [bool(user), bool(sid), everything].count(True) != 1:
        raise fail("say exactly one of --user, --sid and --all")
    order: dict[str, Any] = {"reason": reason}
    order |= {"user": user} if user else {"sid": sid} if sid else {"everything": True}
    order |= {"provider": provider} if provider else {}
    try:
        path = socket_of(config, socket)
        if everything and not yes:
            _make_sure(ask(path, "GET", "/status")["sessions"])
        done = ask(path, "POST", "/sessions/revoke", order)
    except Unreachable as error:
        raise fail(error) from error
    except Refused as error:
        if error.body.get("providers"):
            typer.secho("Choose with --provider.", fg="yellow", err=True)
        raise fail(error, NOBODY if error.status in {404, 409} else NOT_THERE) from error
    if as_json:
        typer.echo(json.dumps(done))
    else:
        _say(done)
    raise typer.Exit(0 if done["in_force"] else UNCONFIRMED)


def _make_sure(count: int | None) -> None:
    if not sys.stdin.isatty():
        raise fail("--all ends every session; say --yes if that is meant")
    if not typer.confirm(f"End all {count or ''} sessions, and cut what they have open?"):
        raise typer.Exit(NOT_THERE)


def _say(done: dict[str, Any]) -> None:
    count = done["revoked"]
    for each in done["sessions"]:
        typer.echo(f"ended {each['sid']}  {plain(each['email'] or each['subject'])}  {plain(', '.join(each['hosts']))}")
    typer.secho(f"{count} session{'' if count == 1 else 's'} ended.", bold=True)
    if done["in_force"]:
        typer.secho("In force on every worker.", fg="green")
        return
    for worker in done["waiting"]:
        state = "has not confirmed" if worker["connected"] else "is not connected"
        typer.secho(
            f"Worker {worker['worker']} {state}; its lease ends in {worker['lease_ends_in']:.1f} s.", fg="yellow"
        )
    if not done["waiting"]:
        typer.secho("Control began a moment ago; a worker that it does not know may go on for a while.", fg="yellow")
    typer.secho(f"In force everywhere within {done['certain_in']:.1f} s in any case.", fg="yellow")
