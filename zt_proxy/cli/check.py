"""`zt-proxy check`: every problem of a configuration file, and what it would serve."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from zt_proxy.config import Problem
    from zt_proxy.config.requirements import Needs
    from zt_proxy.config.schema import Schema
    from zt_proxy.config.schema_rules import Match, Rule

_EPILOG = """Examples:

  zt-proxy check zt-proxy.yaml

  zt-proxy check --strict zt-proxy.yaml   (warnings fail as well)

  zt-proxy check --json zt-proxy.yaml | jq '.problems[].message'

Exit code: 0 fine, 1 errors."""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(check)


def check(
    file: Annotated[Path, typer.Argument(help="The YAML file.", show_default=False)],
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail as well.")] = False,
) -> None:
    """Say everything that is wrong with a configuration file; change nothing."""
    from zt_proxy.config import Severity, load
    from zt_proxy.config import check as check_all

    loaded = load(file)
    problems = check_all(loaded)
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    warnings = len(problems) - errors
    failed = bool(errors or (strict and warnings))
    if json_output:
        answer = {"ok": not failed, "errors": errors, "warnings": warnings, "problems": problems}
        typer.echo(json.dumps(msgspec.to_builtins(answer, enc_hook=str), indent=2))
        raise typer.Exit(int(failed))
    _show(problems)
    if not errors and loaded.schema is not None:
        _summary(loaded.schema)
    if problems:
        typer.echo(f"{file}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    else:
        typer.echo(f"{file}: fine")
    raise typer.Exit(int(failed))


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _show(problems: "list[Problem]") -> None:
    """One line each; with colours on a terminal, and the line of the file below."""
    if not sys.stdout.isatty():
        for problem in problems:
            typer.echo(str(problem))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    colours = {"error": "bold red", "warning": "bold yellow"}
    for problem in problems:
        text = Text(problem.place, style="bold")
        text.append(f": {problem.severity.value}: ", style=colours[problem.severity.value])
        text.append(problem.message)
        if problem.expected:
            text.append(f"; expected {problem.expected}", style="green")
        if problem.hint:
            text.append(f" ({problem.hint})", style="cyan")
        console.print(text)


def _summary(schema: "Schema") -> None:
    """One screen: where it listens, who vouches, what is protected."""
    from zt_proxy.config.build_policy import rules_on
    from zt_proxy.config.requirements import floors_of, needs_of

    for listener in schema.listen:
        typer.echo(f"listen    {listener.name:<14} {listener.address} (TLS {listener.tls.minimum} and up)")
    typer.echo(f"portal    {schema.portal.url}")
    for name, provider in schema.identity.providers.items():
        typer.echo(f"provider  {name:<14} {provider.issuer}")
    for route in schema.routes:
        place = route.host + ("" if route.path == "/" else route.path)
        typer.echo(f"route     {route.name:<14} {place} → {route.upstream.url}" + _mode(route.mode))
        for place, rule in rules_on(route, schema):
            asked = _asked(needs_of(rule, floors_of(schema, route)))
            above = f"  ({place})" if place else ""
            typer.echo(f"  rule    {rule.id:<14} {_rule(rule)}{asked}{above}{_mode(rule.mode)}")
    for name, integration in schema.integrations.items():
        scopes = (f"{_matched(scope)} on {scope.route}" for scope in integration.allow)
        typer.echo(f"machine   {name:<14} allow {', '.join(scopes)}")


def _rule(rule: "Rule") -> str:
    from zt_proxy.config.build_when import KEYS

    denies = rule.deny is not None
    parts = [_matched(match) for match in (rule.deny if denies else rule.allow) or []]
    text = f"{'deny' if denies else 'allow'} {', '.join(parts)}"
    if rule.to is None or rule.to.word:
        text += f" to {rule.to.word if rule.to else 'everyone'}"
    else:
        claims = [f"{name}={'|'.join(values)}" for name, values in rule.to.claims.items()]
        people = [*rule.to.groups, *rule.to.users, *(f"role {role}" for role in rule.to.roles)]
        text += f" to {', '.join([*people, *rule.to.providers, *claims, *rule.to.integrations])}"
    if rule.when is not None:
        text += ", when " + " and ".join(key for key, name in KEYS.items() if getattr(rule.when, name) is not None)
    return text


def _asked(needs: "Needs") -> str:
    """What a person has to prove, the floors of the file and the route included."""
    from zt_proxy.config.units import show_duration
    from zt_proxy.core.session import Level

    text = f", {needs.level.word}" if needs.level > Level.SINGLE else ""
    if needs.reauth is not None:
        text += f", signed in within {show_duration(needs.reauth)}"
    if needs.once:
        text += ", confirmed once for each request"
    if needs.justify:
        text += ", with a reason"
    if needs.approve is not None:
        text += f", approved by {', '.join(sorted(needs.approve.users | needs.approve.groups))}"
    return text


def _matched(match: "Match") -> str:
    what = [" ".join(match.acts), " ".join(match.objects or ())]
    methods = " ".join(match.methods) if match.methods else "" if any(what) else "any method"
    return " ".join(filter(None, (*what, methods, " ".join(match.paths or ()))))


def _mode(mode: str) -> str:
    return "" if mode == "enforce" else f"  [{mode}]"
