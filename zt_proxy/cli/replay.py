"""`zt-proxy replay`: recorded requests under another configuration, and only what changes."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from zt_proxy.cli.log_options import BEFORE, count, minute, reading, since_of
from zt_proxy.cli.operator_client import console, fail, plain

if TYPE_CHECKING:
    from zt_proxy.policy.judged import Places
    from zt_proxy.policy.replay import Report

SAME, CHANGED = 0, 1
_EPILOG = """Examples:

  zt-proxy replay --log state/audit --against new.yaml

  zt-proxy replay --log state/audit --against new.yaml --since 7d --route builder

  zt-proxy replay --log state/audit --against new.yaml --before zt-proxy.yaml --json | jq '.changes[].who'

Exit code: 0 nothing changes, 1 something does, 2 it cannot be said."""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(replay)


def replay(
    log: Annotated[list[Path], typer.Option("--log", help="Folder of an audit log, or its files; may be repeated.")],
    against: Annotated[Path, typer.Option("--against", help="The file whose rules are tried.")],
    before: Annotated[
        Path | None,
        typer.Option(
            help="Compare with what this file decides, instead of with what was recorded.", show_default=False
        ),
    ] = None,
    since: Annotated[str, typer.Option(help="Only the last so long, such as 7d.", show_default=False)] = "",
    route: Annotated[str, typer.Option(help="Only this route.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The changes as CSV on standard output.")] = False,
) -> None:
    """Say which recorded requests would be answered otherwise by the rules of another file."""
    from zt_proxy.policy.replay import Replay

    run = Replay(
        places_of(against), places_of(before) if before is not None else None, since=since_of(since), route=route
    )
    start = since_of(since)
    with reading(log, max(0.0, start - BEFORE), quiet=as_json or as_csv) as lines:
        for line in lines:
            run.feed(line)
    report = run.report()
    if as_json:
        typer.echo(msgspec.json.encode(report).decode("utf-8"))
    elif as_csv:
        typer.echo(_csv(report), nl=False)
    else:
        _show(report)
    raise typer.Exit(CHANGED if report.changed else SAME)


def places_of(path: Path) -> "Places":
    """The routes of a file, ready to be asked. Says what is wrong with it and raises typer.Exit(2)."""
    from zt_proxy.config import ConfigurationProblems
    from zt_proxy.config.worlds import estate
    from zt_proxy.policy.judged import Places

    try:
        found = estate(path)
    except (ConfigurationProblems, OSError) as error:
        raise fail(error) from error
    return Places(found.routes.values(), found.origins.settings)


def _csv(report: "Report") -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("count", "who", "route", "action", "before", "after", "rule_before", "rule_after", "reason", "example")
    writer.writerow(names)
    for change in report.changes:
        writer.writerow([_cell(getattr(change, name)) for name in names])
    return text.getvalue()


def _cell(value: object) -> object:
    """Text that a spreadsheet does not take for a formula (CWE-1236), without control characters."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text[:1] in "=+-@" and text else text


def _show(report: "Report") -> None:
    if report.first:
        typer.echo(
            f"{count(report.decisions, 'decision')} on record, {minute(report.first)} to {minute(report.last)}; "
            f"{report.compared} compared."
        )
    else:
        typer.secho("The log has no decision of that time and route.", fg="yellow")
    if report.changes:
        _table(report)
        typer.secho(
            f"{count(report.changed, 'decision')} would change, "
            f"{report.turned} of them from allowed to not allowed or back.",
            fg="yellow",
        )
    elif report.compared:
        typer.secho("Nothing would change.", fg="green")
    unknown = sum(report.not_comparable.values())
    if unknown:
        typer.echo(f"{count(unknown, 'decision')} not comparable:")
        for why, number in sorted(report.not_comparable.items(), key=lambda each: -each[1]):
            typer.echo(f"  {number:>8}  {plain(why)}")


def _table(report: "Report") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("count", "who", "route", "action", "was", "would be", "by rule", "example"):
        table.add_column(name, justify="right" if name == "count" else "left")
    for change in report.changes:
        rules = (
            change.rule_after
            if change.rule_after == change.rule_before
            else (f"{change.rule_before or '-'} → {change.rule_after or change.reason}")
        )
        colour = "" if not change.turns else "green" if change.after.startswith("allow") else "red"
        table.add_row(
            str(change.count), *(Text(plain(text)) for text in (change.who, change.route, change.action or "-")),
            change.before, Text(change.after, style=colour), Text(plain(rules)), Text(plain(change.example)),
        )  # fmt: skip
    console().print(table)
