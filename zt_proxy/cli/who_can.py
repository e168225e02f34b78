"""`zt-proxy who-can`: of everybody who is known, who may do something, and what the others lack."""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from zt_proxy.cli import asking
from zt_proxy.cli.known_people import Known, of_file, of_proxy
from zt_proxy.cli.operator_client import DEFAULT, Config, Json, Refused, Socket, Unreachable, fail, plain

if TYPE_CHECKING:
    from zt_proxy.config.questions import Question
    from zt_proxy.config.worlds import Estate, RouteWorld
    from zt_proxy.core.types import Facts
    from zt_proxy.policy.samples import Sample

_EPILOG = """Examples:

  zt-proxy who-can deploy builder

  zt-proxy who-can deploy builder --object flow:billing --network office --device known --risk low

  zt-proxy who-can POST:/flows builder --people people.yaml --json | jq '.may[].who'

An action is tried with every kind of request that the route's profile reads as that action: whoever may make some of
them alone is told with how many. People are those whom the running proxy has seen sign in, or those of a file:

  - {user: ann@example.com, groups: \\[makers], claims: {dept: ops}}

What is not said of the circumstances is not known, and a condition about it is neither met nor unmet.

Exit code: 0 somebody may, 1 nobody may, 2 the question makes no sense, or people cannot be asked for."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One person. `may`: `yes`, `after` what is asked for, `some` of the requests, `no`."""

    who: str
    may: str
    provider: str = ""
    groups: tuple[str, ...] = ()
    rule: str = ""
    duties: tuple[str, ...] = ()
    why: str = ""
    """Of who may not: the reason, and the first criterion that is not met."""
    requests: str = ""
    """`3 of 5`, with `some`."""


def register(app: typer.Typer) -> None:
    app.command("who-can", epilog=_EPILOG)(who_can)


def who_can(
    what: Annotated[str, typer.Argument(metavar="ACTION|METHOD:PATH", help="Such as deploy, or POST:/flows.")],
    route: Annotated[str, typer.Argument(help="Name of the route.")],
    config: Config = DEFAULT,
    object_name: Annotated[str, typer.Option("--object", help="With an action: KIND:NAME.")] = "",
    people: Annotated[Path | None, typer.Option(help="Ask about these, in YAML or JSON.")] = None,
    network: asking.Network = None,
    address: asking.Address = "",
    country: asking.Country = "",
    asn: asking.Asn = None,
    device: asking.Device = "",
    level: asking.Level = "",
    proved_ago: asking.ProvedAgo = "",
    risk: asking.Risk = "",
    at: asking.At = "",
    only_may: Annotated[bool, typer.Option("--only", help="Leave out who may not.")] = False,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Say who may do something, of everybody who is known, and what the others lack."""
    from zt_proxy.config.questions import Question, faults

    estate = asking.estate_of(config)
    method, _, path = what.partition(":") if ":" in what else ("GET", "", "")
    question = Question(
        route=route,
        method=method,
        path=path,
        network=tuple(network or ()),
        address=address,
        country=country,
        asn=asn,
        device=device,
        level=level,
        proved_ago=asking.duration(proved_ago, "--proved-ago"),
        risk=risk,
        at=asking.moment(at),
    )
    asking.stop_at(faults(question, estate), {"route": "ROUTE", "method": "METHOD:PATH", "path": "METHOD:PATH"})
    samples = None if path else _samples(estate.routes[route], what, object_name)
    try:
        known = of_file(people) if people is not None else of_proxy(config, socket)
        answers = _ask_all(estate, question, samples, known)
    except (Unreachable, Refused) as error:
        raise fail(f"{error}; --people FILE asks about those of a file", asking.USAGE) from error
    except ValueError as error:
        raise fail(error, asking.USAGE) from error
    counts = Counter(answer.may for answer in answers)
    able = len(answers) - counts["no"]
    if as_json:
        told = {"what": what, "route": route, "people": len(answers), "count": dict(counts)}
        told |= {"may": [each for each in answers if each.may != "no"]}
        told |= {} if only_may else {"may_not": [each for each in answers if each.may == "no"]}
        typer.echo(asking.as_json(told))
    else:
        _show(answers, what, route, only_may=only_may)
    raise typer.Exit(0 if able else 1)


def _samples(world: "RouteWorld", action: str, object_name: str) -> "list[Sample]":
    """Requests that mean the action, of the object if one is named. Ends the program when there are none."""
    from zt_proxy.config.problems import choice, nearest
    from zt_proxy.core.types import Action
    from zt_proxy.policy.samples import samples_of

    words = [each.value for each in Action]
    if action not in words:
        hint = f"({near})" if (near := nearest(action, words)) else ""
        raise fail(f"`{action}` is no action; expected {choice(words)}, or METHOD:PATH {hint}".rstrip(), 2)
    if world.profile_spec is None:
        raise fail(f"route `{world.name}` has no profile: nobody knows what its requests do; say METHOD:PATH", 2)
    kind, _, name = object_name.partition(":")
    if object_name and not name:
        raise fail(f"--object {object_name}: expected KIND:NAME, such as flow:billing", asking.USAGE)
    every = samples_of(world.profile_spec, world.prefix.decode(), {kind: [name]} if name else {})
    found = [each for each in every if each.act.action is not None and each.act.action.value == action]
    if name:
        kinds = sorted({each.act.kind for each in found if each.act.kind})
        found = [each for each in found if each.act.kind == kind and each.act.object == name]
        if not found:
            raise fail(f"nothing on `{world.name}` is `{action}` of `{object_name}`; kinds: {choice(kinds)}", 2)
    if not found:
        raise fail(f"no request on `{world.name}` is `{action}`, by its profile", asking.USAGE)
    return found


def _ask_all(
    estate: "Estate", question: "Question", samples: "list[Sample] | None", known: Iterable[Known]
) -> list[Answer]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from zt_proxy.core.clock import SystemClock

    now, answers = SystemClock().now(), []
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} people asked about"))
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("asking", total=None)
        for person in known:
            answers.append(_ask(estate, question, samples, person, now))
            bar.advance(task)
    order = {"yes": 0, "after": 1, "some": 2, "no": 3}
    return sorted(answers, key=lambda each: (order[each.may], each.who, each.provider))


def _ask(estate: "Estate", question: "Question", samples: "list[Sample] | None", person: Known, now: float) -> Answer:
    from msgspec.structs import replace

    from zt_proxy.config.outcomes import outcome_of
    from zt_proxy.config.questions import pose

    asked = replace(
        question,
        user=person.shown,
        subject=person.subject or person.shown,
        provider=person.provider if person.provider in estate.schema.identity.providers else "",
        groups=person.groups,
        roles=person.roles,
        claims=person.claims,
    )
    first = pose(asked, estate, now)
    world, results = first.world, []
    tried = [first.facts] if samples is None else [_about(first.facts, sample) for sample in samples]
    for facts in tried:
        decision = world.decide(facts)
        results.append((outcome_of(world, facts, decision), facts))
    may = [each for each in results if each[0].word == "allow"]
    later = [each for each in results if each[0].later]
    best, facts = (may or later or results)[0]
    able = len(may) + len(later)
    word = "no" if not able else "some" if able < len(results) else "yes" if len(may) == len(results) else "after"
    return Answer(
        who=person.shown,
        may=word,
        provider=person.provider,
        groups=person.groups,
        rule=best.rule,
        duties=tuple(best.duties.words()),
        why="" if able else _why(world, facts, best.reason, best.rule),
        requests=f"{able} of {len(results)}" if word == "some" else "",
    )


def _about(facts: "Facts", sample: "Sample") -> "Facts":
    from msgspec.structs import replace

    return replace(facts, method=sample.method.encode(), path=sample.path.encode(), act=sample.act)


def _why(world: "RouteWorld", facts: "Facts", reason: str, rule: str) -> str:
    from zt_proxy.cli.explain_view import nearest_of

    if rule:
        return f"{reason} by {rule}"
    lacking = nearest_of(world.explain(facts))
    return f"{lacking.id}: {lacking.unmet}" if lacking is not None else reason


def _show(answers: list[Answer], what: str, route: str, *, only_may: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from zt_proxy.cli.explain_view import WIDTH

    table = Table(
        Column("may", no_wrap=True), Column("who", overflow="fold"), Column("rule", overflow="fold"),
        Column("with, or lacking", overflow="fold"), box=None, pad_edge=False,
    )  # fmt: skip
    colours = {"yes": "green", "after": "yellow", "some": "yellow", "no": "red"}
    for each in answers:
        if each.may == "no" and only_may:
            continue
        said = f"[{colours[each.may]}]{each.may}[/]" + (f" {each.requests}" if each.requests else "")
        more = each.why or "; ".join(each.duties)
        table.add_row(said, escape(plain(each.who)), escape(each.rule), escape(plain(more)))
    if answers:
        Console(width=WIDTH, highlight=False).print(table)
    counts = Counter(answer.may for answer in answers)
    may, after, some = counts["yes"], counts["after"], counts["some"]
    parts = [f"{may} may", f"{after} may after what is asked for", f"{some} may in part", f"{counts['no']} may not"]
    if not answers:
        typer.secho("Nobody is known yet: people are from their first sign-in on. --people FILE asks about others.")
        return
    typer.secho(f"{plain(what)} on {route}: of {len(answers)} people, {', '.join(parts)}.", bold=True)
