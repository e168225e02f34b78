"""`zt-proxy explain`: what would be decided about a request, and why, rule by rule."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zt_proxy.cli import asking
from zt_proxy.cli.operator_client import DEFAULT, Config, Json, Socket, fail

if TYPE_CHECKING:
    from zt_proxy.config.questions import Posed, Question
    from zt_proxy.config.worlds import Estate
    from zt_proxy.core.types import Effect

CHALLENGED, DENIED = 3, 4

_EPILOG = """Examples:

  zt-proxy explain --url https://flows.example.com/flows --method POST --user ann@example.com

  zt-proxy explain --route builder -X POST --path /flows --group releasers --network office --at 2026-11-24T10:00+01:00

  zt-proxy explain --route builder --path /red/comms --websocket --group staff --device new --country DE --risk medium

  zt-proxy explain --route crm --method PATCH --path /api/contacts/7 --integration crm-sync --json

  zt-proxy explain --request 4tq0m1bXk7cJ5u8wVn2d      (one of the record: the id is on the page and in X-Request-Id)

What is not said is not known, and a condition about it is neither met nor unmet. Groups may be left out when the
running proxy knows the person. Nothing is asked of the platform, and nobody notices.

Exit code: 0 allowed, 3 challenged (sign-in, proof, reason, approval), 4 denied, 2 the question makes no sense."""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(explain)


def explain(
    config: Config = DEFAULT,
    url: Annotated[str, typer.Option(help="Host and path at once: https://host/path.")] = "",
    route: Annotated[str, typer.Option(help="Name of the route.")] = "",
    method: Annotated[str, typer.Option("--method", "-X", help="Upper case.")] = "GET",
    path: Annotated[str, typer.Option(help="As it is sent.")] = "",
    query: Annotated[str | None, typer.Option(help="Without the `?`.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="NAME:VALUE; more than once.")] = None,
    body: Annotated[str, typer.Option(help="File with the body, or `-`.")] = "",
    websocket: Annotated[bool, typer.Option("--websocket", help="It opens a WebSocket.")] = False,
    request: Annotated[str, typer.Option(help="Id of a request on the record, instead of all the rest.")] = "",
    log: Annotated[Path | None, typer.Option(help="With --request: the log; left out: the configuration's.")] = None,
    user: asking.User = "",
    provider: asking.Provider = "",
    group: asking.Groups = None,
    role: asking.Roles = None,
    claim: asking.Claims = None,
    integration: asking.Integration = "",
    network: asking.Network = None,
    address: asking.Address = "",
    country: asking.Country = "",
    asn: asking.Asn = None,
    device: asking.Device = "",
    level: asking.Level = "",
    proved_ago: asking.ProvedAgo = "",
    risk: asking.Risk = "",
    at: asking.At = "",
    justified: asking.Justified = "",
    approved_by: asking.ApprovedBy = "",
    break_glass: asking.BreakGlass = False,
    everything: Annotated[bool, typer.Option("--all", help="Rules about other requests as well.")] = False,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Say what would be decided about a request, and why: every rule, every criterion."""
    from zt_proxy.config.questions import Question, faults, pose
    from zt_proxy.core.clock import SystemClock
    from zt_proxy.core.errors import ClientError
    from zt_proxy.core.types import Effect

    estate = asking.estate_of(config)
    act, notes = None, list[str]()
    if request:
        from zt_proxy.cli.explain_record import recalled

        try:
            question, act, notes = recalled(estate, request, log, socket)
        except ValueError as error:
            raise fail(error, asking.USAGE) from error
    else:
        question = Question(
            route=route,
            method=method,
            path=path,
            query=query,
            headers={name: _one(value) for name, value in asking.pairs(header, ":", "--header").items()},
            body=_body(body),
            websocket=websocket,
            user=user,
            provider=provider,
            groups=tuple(group or ()),
            roles=tuple(role or ()),
            claims=asking.pairs(claim, "=", "--claim"),
            integration=integration,
            network=tuple(network or ()),
            address=address,
            country=country,
            asn=asn,
            device=device,
            level=level,
            proved_ago=asking.duration(proved_ago, "--proved-ago"),
            risk=risk,
            at=asking.moment(at),
            justified=justified,
            approved_by=approved_by,
            break_glass=break_glass,
        )
        if url:
            question = asking.located(question, estate, url)
        elif not route:
            only = list(estate.routes)
            if len(only) != 1:
                raise fail("say --url, or --route and --path", asking.USAGE)
            question = _replace(question, route=only[0])
        question, notes = known(question, config, socket, notes)
    notes += asking.stop_at(
        faults(question, estate), {"groups": "group", "roles": "role", "claims": "claim", "headers": "header"}
    )
    try:
        posed = pose(question, estate, SystemClock().now(), act)
    except ClientError as error:
        raise fail(f"the proxy refuses this: {error}", DENIED) from error
    if posed.needs_body:
        notes.append("what this request means stands in its body: say --body FILE")
    effect = _tell(question, estate, posed, notes, as_json=as_json, everything=everything)
    raise typer.Exit({Effect.ALLOW: 0, Effect.CHALLENGE: CHALLENGED, Effect.DENY: DENIED}[effect])


def _tell(
    question: "Question", estate: "Estate", posed: "Posed", notes: list[str], *, as_json: bool, everything: bool
) -> "Effect":
    from zt_proxy.cli import explain_view
    from zt_proxy.config.outcomes import outcome_of

    trace = posed.world.explain(posed.facts)
    outcome = outcome_of(posed.world, posed.facts, trace.decision)
    view = explain_view.View(question, posed, trace, outcome, tuple(notes), tuple(asking.assumed(question)))
    if as_json:
        typer.echo(asking.as_json(view.told()))
    else:
        view.show(everything=everything)
    return trace.decision.effect


def known(question: "Question", config: Path, socket: Path | None, notes: list[str]) -> "tuple[Question, list[str]]":
    """With what the running proxy knows of the person, where nothing is said of them."""
    from zt_proxy.cli.known_people import find

    if not question.user or question.groups or question.roles or question.claims:
        return question, notes
    person, why = find(config, question.user, question.provider, socket)
    if person is None:
        return question, [*notes, f"groups of {question.user} are not known ({why}): say --group"]
    told = f"groups and claims of {question.user} as the running proxy knows them"
    return (
        _replace(
            question,
            user=person.email or person.subject,
            subject=person.subject,
            name=person.name or "",
            provider=person.provider,
            groups=person.groups,
            roles=person.roles,
            claims=person.claims,
        ),
        [*notes, told],
    )


def _replace(question: "Question", **changes: object) -> "Question":
    from msgspec.structs import replace

    return replace(question, **changes)


def _one(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _body(name: str) -> str | None:
    if not name:
        return None
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f"--body {name}: {error}", asking.USAGE) from error
