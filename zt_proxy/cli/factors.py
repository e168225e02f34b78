"""`zt-proxy factors`: second factors of the proxy's own, as an administrator sees them."""

import json
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

User = Annotated[str, typer.Argument(help="Subject or e-mail address.", show_default=False)]
Why = Annotated[str, typer.Option("--reason", help="Why, for the audit record.")]

_LIST = """Examples:

  zt-proxy factors list alice@example.com

  zt-proxy factors list alice --json | jq -r '.people[].factors[].kind'

Exit code: 0 fine, 1 nobody of this name has factors, 2 the proxy is not running or not yours to ask."""

_RESET = """Examples:

  zt-proxy factors reset alice@example.com --reason "phone lost, called back on her desk phone"

  zt-proxy factors reset alice --issuer https://sso.example.com

Whoever signs in next with this person's password can enrol: make sure first that it is them who asks. With
`identity.mfa.enrolment: grant` they also need `zt-proxy factors grant`.

Exit code: 0 in force on every worker, 1 nobody of this name has factors, or several people do,
2 the proxy is not running or not yours to ask, 3 done, and a worker has yet to confirm the end of the sessions."""

_GRANT = """Examples:

  zt-proxy factors grant alice@example.com

  zt-proxy factors grant alice --for 2h --reason "new phone"

A grant is good for one factor. It is needed by everybody with `identity.mfa.enrolment: grant`, and by somebody who has
a passkey and adds a factor without using it.

Exit code: 0 granted, 2 the proxy is not running or not yours to ask."""


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Passkeys and one-time passwords: list, reset, permit to enrol.", no_args_is_help=True)
    group.command("list", epilog=_LIST)(list_factors)
    group.command(epilog=_RESET)(reset)
    group.command(epilog=_GRANT)(grant)
    app.add_typer(group, name="factors")


def list_factors(user: User, config: Config = DEFAULT, socket: Socket = None, as_json: Json = False) -> None:
    """List somebody's factors, and when each was last used."""
    found = _ask(config, socket, "GET", f"/factors?{urlencode({'user': user})}")
    if as_json:
        typer.echo(json.dumps(found))
    elif found["people"]:
        _print(found["people"], found["at"])
    else:
        typer.echo(f"Nobody called {plain(user)} has factors.")
    raise typer.Exit(0 if found["people"] else NOBODY)


def reset(
    user: User,
    config: Config = DEFAULT,
    socket: Socket = None,
    issuer: Annotated[str, typer.Option(help="Of this provider's issuer, when several know the person.")] = "",
    reason: Why = "",
    as_json: Json = False,
) -> None:
    """Remove all factors of a person and end their sessions, so that they can start afresh."""
    done = _ask(config, socket, "POST", "/factors/reset", {"user": user, "issuer": issuer, "reason": reason})
    sessions = done["sessions"]
    if as_json:
        typer.echo(json.dumps(done))
    else:
        count = done["factors"]
        typer.secho(
            f"{count} factor{'' if count == 1 else 's'} removed, "
            f"{sessions['revoked']} session{'' if sessions['revoked'] == 1 else 's'} ended.",
            bold=True,
        )
        if not sessions["in_force"]:
            typer.secho(f"In force everywhere within {sessions['certain_in']:.1f} s.", fg="yellow")
    raise typer.Exit(0 if sessions["in_force"] else UNCONFIRMED)


def grant(
    user: User,
    config: Config = DEFAULT,
    socket: Socket = None,
    lifetime: Annotated[str, typer.Option("--for", help="How long, such as `2h` or `3d`; 30 days at most.")] = "24h",
    reason: Why = "",
    as_json: Json = False,
) -> None:
    """Permit a person to add one factor."""
    from zt_proxy.config.units import duration

    try:
        seconds = duration(lifetime)
    except ValueError as error:
        raise fail(f"--for: {error}") from error
    done = _ask(config, socket, "POST", "/factors/grant", {"user": user, "lifetime": seconds, "reason": reason})
    typer.echo(json.dumps(done) if as_json else f"{plain(user)} may add one factor within {ago(seconds)}.")


def _ask(config: Any, socket: Any, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        return ask(socket_of(config, socket), method, target, body)
    except Unreachable as error:
        raise fail(error) from error
    except Refused as error:
        if error.body.get("providers"):
            typer.secho("Choose with --issuer.", fg="yellow", err=True)
        raise fail(error, NOBODY if error.status in {404, 409} else NOT_THERE) from error


def _print(people: list[dict[str, Any]], now: float) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table("who", "kind", "name", "added", "last used", Column("", no_wrap=True), box=None, pad_edge=False)
    for person in people:
        who = f"{person['email'] or person['subject']} ({person['issuer']})"
        for each in person["factors"]:
            used = each["last_used"]
            table.add_row(
                escape(plain(who)),
                each["kind"],
                escape(plain(each["name"])),
                f"{ago(now - each['created'])} ago",
                f"{ago(now - used)} ago" if used is not None else "never",
                _state(each),
            )
    console().print(table)


def _state(factor: dict[str, Any]) -> str:
    if factor["disabled"]:
        return "disabled: its counter did not rise"
    if factor["kind"] == "recovery":
        return f"{factor['remaining']} left"
    return "" if factor["usable"] else "not accepted"
