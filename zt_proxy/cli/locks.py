"""`zt-proxy lock`, `unlock`, `locks`: stop somebody or something at once, for a while, and let them go again."""

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

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

_LOCK = """Examples:

  zt-proxy lock user alice@example.com --reason "laptop stolen" --until-reviewed

  zt-proxy lock user alice --provider corp --effect step-up --for 1h --reason "sign-in from an odd place"

  zt-proxy lock session 3vQ9yH2sT0m1bXk7cJ5u8w --effect read-only --for 30m

  zt-proxy lock integration crm-sync --effect no-export --for 2h --reason "ten times the usual volume"

  zt-proxy lock route flows --effect read-only --for 15m --yes --reason "incident 4711"

Effects, the strongest first: block (nothing goes through), step-up (only who proves anew who they are), read-only,
no-export. What is open and may not go on (WebSockets, event streams, up- and downloads) is cut at once. The order is on
the audit record before it is carried out; `zt-proxy unlock` takes it back. The operator's socket itself cannot be
locked. docs/how-to/locks.md says which requests each effect stops.

Exit code: 0 in force on every worker, 1 there is no such target, or several people have this name,
2 the proxy is not running or not yours to ask, 3 done, and a worker has yet to confirm."""

_UNLOCK = """Examples:

  zt-proxy unlock 3f9a2c01 --reason "it was her, called back"

  zt-proxy unlock --user alice@example.com

  zt-proxy unlock --route flows

Without an id every lock of that user, session, device, integration or route is lifted.

Exit code: 0 in force on every worker, 1 there is no such lock, 2 the proxy is not running or not yours to ask,
3 done, and a worker has yet to confirm."""

_LIST = """Examples:

  zt-proxy locks

  zt-proxy locks --all

  zt-proxy locks --json | jq -r '.locks[] | [.id, .kind, .value, .effect] | @tsv'

  zt-proxy locks --review 3f9a2c01 --reason "backup job, agreed with ops"

A review lifts a lock that waits for one; a lock with a time runs on and shows who looked into it.

Exit code: 0 fine (also when there are none), 1 there is no lock to review, 2 the proxy is not running or not yours to
ask, 3 reviewed, and a worker has yet to confirm."""


class Kind(StrEnum):
    USER = "user"
    SESSION = "session"
    DEVICE = "device"
    INTEGRATION = "integration"
    ROUTE = "route"


class Effect(StrEnum):
    BLOCK = "block"
    STEP_UP = "step-up"
    READ_ONLY = "read-only"
    NO_EXPORT = "no-export"


Why = Annotated[str, typer.Option("--reason", help="Why, for the audit record and for whoever reviews it.")]
Provider = Annotated[str, typer.Option(help="With a user: whose, when several providers know the name.")]


def register(app: typer.Typer) -> None:
    app.command(epilog=_LOCK)(lock)
    app.command(epilog=_UNLOCK)(unlock)
    app.command("locks", epilog=_LIST)(list_locks)


def lock(
    kind: Annotated[Kind, typer.Argument(help="What to lock.", show_default=False)],
    value: Annotated[
        str,
        typer.Argument(
            help="A user's subject or e-mail address, the id of a session or device, the name of an integration or "
            "route.",
            show_default=False,
        ),
    ],
    config: Config = DEFAULT,
    socket: Socket = None,
    effect: Annotated[Effect, typer.Option(help="What the lock does.")] = Effect.BLOCK,
    for_: Annotated[
        str, typer.Option("--for", help="How long, such as 30m, 1h or 7d; 1h if not said.", show_default=False)
    ] = "",
    until_reviewed: Annotated[
        bool, typer.Option("--until-reviewed", help="Until somebody has looked into it and lifts it.")
    ] = False,
    provider: Provider = "",
    reason: Why = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before locking a route.")] = False,
    as_json: Json = False,
) -> None:
    """Lock a user, session, device, integration or route, everywhere at once."""
    if for_ and until_reviewed:
        raise fail("say either --for or --until-reviewed")
    order = {
        "kind": kind.value,
        "value": value,
        "effect": effect.value,
        "lasts": None if until_reviewed else _seconds(for_ or "1h"),
        "provider": provider,
        "reason": reason,
    }
    try:
        path = socket_of(config, socket)
        if kind is Kind.ROUTE and not yes:
            _make_sure(path, value, effect)
        done = ask(path, "POST", "/locks", order)
    except (Unreachable, Refused) as error:
        raise _failed(error) from error
    if as_json:
        typer.echo(json.dumps(done))
    else:
        made = done["lock"]
        typer.secho(f"locked {made['id']}  {_target(made)}  {made['effect']}  {_until(made, made['at'])}", bold=True)
        if not done["known"]:
            typer.secho(
                "Nobody of this name has a session or factors: whoever comes with it is locked. Check the spelling.",
                fg="yellow",
            )
        _confirmed(done)
        typer.secho(f"Undo: zt-proxy unlock {made['id']}", dim=True)
    raise typer.Exit(0 if done["in_force"] else UNCONFIRMED)


def unlock(
    id: Annotated[str, typer.Argument(help="Of the lock; `zt-proxy locks` shows it.", show_default=False)] = "",
    config: Config = DEFAULT,
    socket: Socket = None,
    user: Annotated[str, typer.Option(help="Every lock of this user: subject or e-mail address.")] = "",
    session: Annotated[str, typer.Option(help="Every lock of this session.")] = "",
    device: Annotated[str, typer.Option(help="Every lock of this device.")] = "",
    integration: Annotated[str, typer.Option(help="Every lock of this integration.")] = "",
    route: Annotated[str, typer.Option(help="Every lock of this route.")] = "",
    provider: Provider = "",
    reason: Why = "",
    as_json: Json = False,
) -> None:
    """Lift a lock, everywhere at once."""
    named = {"user": user, "session": session, "device": device, "integration": integration, "route": route}
    chosen = [(kind, value) for kind, value in named.items() if value]
    if len(chosen) + bool(id) != 1:
        raise fail("say the id of one lock, or exactly one of --user, --session, --device, --integration and --route")
    order: dict[str, Any] = {"reason": reason}
    order |= {"id": id} if id else {"kind": chosen[0][0], "value": chosen[0][1], "provider": provider}
    _end(config, socket, "/locks/lift", order, "unlocked", as_json)


def list_locks(
    config: Config = DEFAULT,
    socket: Socket = None,
    everything: Annotated[bool, typer.Option("--all", help="Also the last thousand that are over.")] = False,
    review: Annotated[str, typer.Option(help="Id of a lock that you have looked into.")] = "",
    reason: Why = "",
    as_json: Json = False,
) -> None:
    """List the locks in force: who, what, since when, why, until when, by whom."""
    if review:
        _end(config, socket, "/locks/review", {"id": review, "reason": reason}, "reviewed", as_json)
    try:
        found = ask(socket_of(config, socket), "GET", "/locks?past=1" if everything else "/locks")
    except (Unreachable, Refused) as error:
        raise _failed(error) from error
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found["locks"]:
        typer.echo("Nothing is locked.")
    _print(found["locks"], found["at"])
    if found["past"]:
        typer.secho("\nOver:", bold=True)
        _print(found["past"], found["at"])


def _end(config: Path, socket: Path | None, target: str, order: dict[str, Any], word: str, as_json: bool) -> None:
    """Lift or review, and say so. Ends the command."""
    try:
        done = ask(socket_of(config, socket), "POST", target, order)
    except (Unreachable, Refused) as error:
        raise _failed(error) from error
    if as_json:
        typer.echo(json.dumps(done))
    else:
        for each in done["locks"]:
            typer.secho(f"{word} {each['id']}  {_target(each)}  {each['effect']}", bold=True)
        _confirmed(done)
    raise typer.Exit(0 if done["in_force"] else UNCONFIRMED)


def _seconds(text: str) -> float:
    from zt_proxy.config.units import duration

    try:
        return duration(text)
    except ValueError as error:
        raise fail(f"--for: {error}") from error


def _make_sure(path: Path, route: str, effect: Effect) -> None:
    if not _asks_a_person():
        raise fail("a lock of a route concerns everybody who uses it; say --yes if that is meant")
    count = ask(path, "GET", "/status")["sessions"]
    signed_in = f" There are {count} sessions." if count else ""
    if not typer.confirm(f"Lock the route {plain(route)} ({effect.value}) for everybody?{signed_in}"):
        raise typer.Exit(NOT_THERE)


def _asks_a_person() -> bool:
    return sys.stdin.isatty()


def _failed(error: Unreachable | Refused) -> typer.Exit:
    if isinstance(error, Refused):
        if error.body.get("providers"):
            typer.secho("Choose with --provider.", fg="yellow", err=True)
        return fail(error, NOBODY if error.status in {404, 409} else NOT_THERE)
    return fail(error)


def _confirmed(done: dict[str, Any]) -> None:
    if done["in_force"]:
        typer.secho("In force on every worker.", fg="green")
        return
    for worker in done["waiting"]:
        state = "has not confirmed" if worker["connected"] else "is not connected"
        typer.secho(
            f"Worker {worker['worker']} {state}; its lease ends in {worker['lease_ends_in']:.1f} s.", fg="yellow"
        )
    typer.secho(f"In force everywhere within {done['certain_in']:.1f} s in any case.", fg="yellow")


def _target(each: dict[str, Any]) -> str:
    """`user alice@example.com (00u1, corp)`."""
    shown = each.get("shown") or each["value"]
    more = [text for text in (each["value"] if shown != each["value"] else "", each.get("provider", "")) if text]
    return plain(f"{each['kind']} {shown}{' (' + ', '.join(more) + ')' if more else ''}")


def _until(each: dict[str, Any], now: float) -> str:
    if each["expires"] is None:
        return "until reviewed"
    return f"for {ago(each['expires'] - now)}, until {_when(each['expires'])}"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _print(found: list[dict[str, Any]], now: float) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    if not found:
        return
    table = Table(
        Column("id", no_wrap=True), "locked", "effect", "since", "ends", "by", "cause", box=None, pad_edge=False
    )
    for each in found:
        table.add_row(
            each["id"],
            escape(_target(each)),
            each["effect"],
            f"{ago(now - each['at'])} ago",
            escape(_ends(each, now)),
            escape(plain(each["by"])),
            escape(plain(each["cause"])),
        )
    console().print(table)


def _ends(each: dict[str, Any], now: float) -> str:
    if each.get("ended") is not None:
        who = each.get("ended_by", "")
        why = each.get("ended_reason", "")
        how = f"lifted by {who}{f': {why}' if why else ''}" if who else "ran out"
        return plain(f"{how}, {ago(now - each['ended'])} ago")
    looked = f", reviewed by {each['reviewed']}" if each.get("reviewed") else ""
    return plain(f"{'in ' + ago(each['expires'] - now) if each['expires'] is not None else 'when reviewed'}{looked}")
