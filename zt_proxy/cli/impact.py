"""`zt-proxy impact`: what rules in report mode would have done, from the record of what they did not do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from zt_proxy.cli.log_options import DAY, Config, Logs, count, day, logs_of, minute, reading, since_of
from zt_proxy.cli.operator_client import DEFAULT, console, plain

if TYPE_CHECKING:
    from zt_proxy.policy.impact import Impact, Row

_EPILOG = """Examples:

  zt-proxy impact

  zt-proxy impact --since 7d --by person

  zt-proxy impact --log state/audit --by day --json | jq '.rows[]'

Exit code: 0, 2 the log cannot be read."""
_DID = {
    "deny": "denied",
    "allow": "allowed",
    "mask": "masked the answers to",
    "limit": "counted, for a limit,",
    "notify": "told of",
}


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(impact)


def impact(
    since: Annotated[str, typer.Option(help="The last so long.")] = "30d",
    log: Logs = None,
    by: Annotated[Literal["rule", "person", "action", "day"], typer.Option(help="What each line is about.")] = "rule",
    config: Config = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say what rules, routes and files in report mode would have done to recorded requests."""
    from zt_proxy.policy.impact import Impact
    from zt_proxy.policy.recorded import decisions

    paths, start = logs_of(log, config), since_of(since)
    found = Impact(by)
    with reading(paths, start, quiet=as_json) as lines:
        for head, told in decisions(lines, start):
            found.feed(head, told)
    begins = _begins(paths)
    if as_json:
        answer = {
            "decisions": found.decisions,
            "reported": found.reported,
            "first": found.first,
            "last": found.last,
            "log_begins": begins,
            "by": by,
            "rows": [{**msgspec.to_builtins(row), "subject": _subject(row, by)} for row in found.rows()],
        }
        typer.echo(msgspec.json.encode(answer).decode("utf-8"))
        return
    _show(found, by, begins, start)


def _begins(paths: list[Path]) -> float | None:
    from zt_proxy.control.audit import history

    return history.begins(paths)


def _subject(row: "Row", by: str) -> str:
    return day(int(row.subject) * DAY) if by == "day" else row.subject


def _show(found: "Impact", by: str, begins: float | None, start: float) -> None:
    covered = "" if begins is None or begins <= start else f"; the log begins {minute(begins)}"
    if not found.decisions:
        typer.secho(f"No decision is on record in that time{covered}.", fg="yellow")
        return
    if not found.reported:
        typer.echo(
            f"Nothing was reported in {count(found.decisions, 'decision')} from {minute(found.first)} to "
            f"{minute(found.last)}{covered}. Either no rule is in report mode, or none of them would have changed "
            "anything."
        )
        return
    typer.echo(
        f"{count(found.decisions, 'decision')} from {minute(found.first)} to {minute(found.last)}{covered}; "
        f"{found.reported} would have gone otherwise."
    )
    if by == "rule":
        for row in found.rows():
            typer.echo(_sentence(row))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (by, "route", "would", "requests", "people", "example"):
        table.add_column(name, justify="right" if name in {"requests", "people"} else "left")
    for row in found.rows():
        cells = (_subject(row, by), row.route, row.would, str(row.requests), str(row.people), row.example)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    console().print(table)


def _sentence(row: "Row") -> str:
    people = "1 person" if row.people == 1 else f"{row.people} people"
    names = ", ".join(row.named[:3]) + (", …" if row.people > 3 else "")
    what = row.subject if row.subject.startswith("nothing allows it") else f"rule {row.subject}"
    did = _DID.get(row.would, f"asked for {row.would} on")
    requests = count(row.requests, "request")
    return plain(f"{row.route}: {what} would have {did} {requests} of {people} ({names}), such as {row.example}")
