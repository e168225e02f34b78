"""Options that several commands have about a request and who makes it, and what is made of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zt_proxy.cli.operator_client import fail

if TYPE_CHECKING:
    from zt_proxy.config.questions import Fault, Question
    from zt_proxy.config.worlds import Estate

USAGE = 2
_WHO = "Who asks"
_FROM = "From where, how and when"

User = Annotated[str, typer.Option("--user", help="E-mail address or subject.", rich_help_panel=_WHO)]
Provider = Annotated[str, typer.Option(help="Who vouches for the person.", rich_help_panel=_WHO)]
Groups = Annotated[
    list[str] | None, typer.Option("--group", help="A group of the person; more than once.", rich_help_panel=_WHO)
]
Roles = Annotated[list[str] | None, typer.Option("--role", help="A role of the provider.", rich_help_panel=_WHO)]
Claims = Annotated[list[str] | None, typer.Option("--claim", help="NAME=VALUE.", rich_help_panel=_WHO)]
Integration = Annotated[str, typer.Option(help="An integration instead of a person.", rich_help_panel=_WHO)]
Network = Annotated[
    list[str] | None,
    typer.Option("--network", help="Name under `networks`, or `outside` of all.", rich_help_panel=_FROM),
]
Address = Annotated[str, typer.Option(help="Address of the client.", rich_help_panel=_FROM)]
Country = Annotated[str, typer.Option(help="Two letters, such as DE.", rich_help_panel=_FROM)]
Asn = Annotated[int | None, typer.Option(help="Autonomous system.", rich_help_panel=_FROM)]
Device = Annotated[str, typer.Option(help="`known` or `new`.", rich_help_panel=_FROM)]
Level = Annotated[
    str,
    typer.Option(help="Of the sign-in: single, multi or phishing-resistant; left out: multi.", rich_help_panel=_FROM),
]
ProvedAgo = Annotated[
    str, typer.Option(help="How long ago the sign-in was; left out: just now.", rich_help_panel=_FROM)
]
Risk = Annotated[str, typer.Option(help="low, medium or high.", rich_help_panel=_FROM)]
At = Annotated[str, typer.Option(help="When, with a zone: 2026-11-24T10:00+01:00.", rich_help_panel=_FROM)]
Justified = Annotated[str, typer.Option(help="What the person said when asked why.", rich_help_panel=_FROM)]
ApprovedBy = Annotated[str, typer.Option(help="Who agreed.", rich_help_panel=_FROM)]
BreakGlass = Annotated[bool, typer.Option("--break-glass", help="The person broke the glass.", rich_help_panel=_FROM)]


def estate_of(config: Path) -> "Estate":
    """The configuration, ready for questions; ends the program with every problem when there is an error."""
    from zt_proxy.config.problems import ConfigurationProblems, Severity
    from zt_proxy.config.worlds import estate

    try:
        return estate(config)
    except ConfigurationProblems as error:
        for problem in error.problems:
            if problem.severity is Severity.ERROR:
                typer.secho(str(problem), fg="red", err=True)
        raise typer.Exit(USAGE) from error


def pairs(items: list[str] | None, separator: str, what: str) -> dict[str, str | tuple[str, ...]]:
    """`NAME=VALUE` items; several of one name are a list."""
    found: dict[str, str | tuple[str, ...]] = {}
    for item in items or ():
        name, mark, value = item.partition(separator)
        if not mark or not name.strip():
            raise fail(f"{what} {item}: takes NAME{separator}VALUE", USAGE)
        name, value = name.strip(), value.strip()
        before = found.get(name)
        found[name] = value if before is None else (*((before,) if isinstance(before, str) else before), value)
    return found


def duration(text: str, what: str) -> float:
    """Seconds; nothing is none."""
    from zt_proxy.config import units

    try:
        return units.duration(text) if text else 0.0
    except ValueError as error:
        raise fail(f"{what} {text}: {error}", USAGE) from error


def moment(text: str) -> float | None:
    """Epoch seconds; nothing: now."""
    from zt_proxy.config.questions import moment as read
    from zt_proxy.core.clock import SystemClock

    try:
        return read(text, SystemClock().now()) if text else None
    except ValueError as error:
        raise fail(f"--at: {error}", USAGE) from error


def stop_at(found: "list[Fault]", names: "dict[str, str] | None" = None) -> list[str]:
    """Tell what is wrong and end the program, if anything has to be right; else what may be meant, for a note."""
    names = names or {}
    fatal = [fault for fault in found if fault.fatal]
    for fault in fatal:
        option = names.get(fault.key, fault.key.replace("_", "-"))
        typer.secho(f"--{option.removeprefix('--')}: {fault}", fg="red", err=True)
    if fatal:
        raise typer.Exit(USAGE)
    return [str(fault) for fault in found]


def located(question: "Question", estate: "Estate", url: str) -> "Question":
    """With the route and the path of a URL."""
    from urllib.parse import urlsplit

    from msgspec.structs import replace

    from zt_proxy.config.problems import choice
    from zt_proxy.config.questions import below

    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise fail(f"--url {url}: {error}", USAGE) from error
    path = parts.path or "/"
    wanted = host if port in {None, 443} else f"{host}:{port}"
    here = [
        each
        for each in estate.routes.values()
        if each.host == wanted or (port is None and each.host.rpartition(":")[0] == host)
    ]
    if not here:
        hosts = sorted({each.host for each in estate.routes.values()})
        raise fail(f"--url: no route is at `{wanted}`; there are {choice(hosts)}", USAGE)
    fitting = [each for each in here if below(path.encode("ascii", "replace"), each.prefix)]
    if not fitting:
        places = choice(each.prefix.decode() for each in here)
        raise fail(f"--url: no route is at `{path}`; those of {host} are at {places}", USAGE)
    route = max(fitting, key=lambda each: len(each.prefix)).name
    return replace(question, route=route, path=path, query=parts.query or question.query)


def assumed(question: "Question") -> list[str]:
    """What was not said of a person and is taken for granted."""
    if not question.is_person:
        return []
    found = [] if question.level else ["signed in with two factors (--level)"]
    return found if question.proved_ago else [*found, "just now (--proved-ago)"]


def as_json(value: Any) -> str:
    """Indented, for pipes and people."""
    import json

    import msgspec

    return json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=2)
