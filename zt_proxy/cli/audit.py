"""`zt-proxy audit`: verify the hash-chained log offline, and watch it live."""

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

_POLL = 0.2
_BIG = 64 * 1024 * 1024
_COLOURS = {"allow": "green", "challenge": "yellow", "deny": "red"}


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="The record of every decision: verify it offline, watch it live.", no_args_is_help=True)
    group.command(epilog="Example:  zt-proxy audit verify state/audit")(verify)
    group.command(epilog="Example:  zt-proxy audit follow state/audit --filter effect=deny")(follow)
    app.add_typer(group, name="audit")


def verify(
    paths: Annotated[list[Path], typer.Argument(help="Log directory, or its files in order.", show_default=False)],
    expect: Annotated[
        str, typer.Option(help="SEQ:HASH of a line noted elsewhere; the log must contain exactly it.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check the hash chain of a log. Exit code 0: it holds; 1: it does not; 2: it cannot be read."""
    from rich.progress import Progress

    from zt_proxy.control.audit import verify as verifier

    try:
        head = _expected(expect)
        with Progress(transient=True, disable=as_json or not sys.stderr.isatty()) as bar:
            task = bar.add_task("verifying", visible=verifier.size_of(paths) > _BIG)
            report = verifier.verify(
                paths, expect=head, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
    except (OSError, ValueError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from error
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(report).decode("utf-8"))
    else:
        _print_report(report)
    raise typer.Exit(0 if report.ok else 1)


def _expected(text: str) -> Any:
    from zt_proxy.control.audit.chain import Head

    if not text:
        return None
    seq, colon, digest = text.partition(":")
    if not colon or not seq.isdecimal() or len(digest) != 64:
        raise ValueError("--expect takes SEQ:HASH, for example 1042:9f86…, as `audit verify` prints it")
    return Head(int(seq), digest.lower())


def _print_report(report: Any) -> None:
    for note in report.notes:
        typer.secho(f"note: {note}", fg="yellow")
    if report.problem is not None:
        problem = report.problem
        typer.secho(f"{problem.file}:{problem.line}: {problem.kind}: {problem.detail}", fg="red", bold=True)
        typer.echo(f"{report.lines} lines before it hold.")
        return
    files = "1 file" if report.files == 1 else f"{report.files} files"
    typer.secho(
        f"The chain holds: {report.lines} lines in {files}, {report.first_seq} to {report.last_seq}.", fg="green"
    )
    typer.echo(f"Head {report.last_seq}:{report.last_hash}")


def follow(
    path: Annotated[Path, typer.Argument(help="Log directory, or one of its files.", show_default=False)],
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="FIELD=VALUE, for example effect=deny; all must hold.")
    ] = None,
    user: Annotated[str, typer.Option(help="Only this person: subject or e-mail address.")] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Matching lines to show first.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lines as they are.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop at the end instead of waiting for more.")] = False,
) -> None:
    """Show records as they come, over rotations, until Ctrl-C."""
    wanted: dict[str, str] = {}
    for entry in filters or []:
        field, equals, value = entry.partition("=")
        if not equals or not field:
            typer.secho(f"--filter {entry}: takes FIELD=VALUE", fg="red", err=True)
            raise typer.Exit(2)
        wanted[field] = value
    if not path.exists():
        typer.secho(f"{path}: no such file or directory", fg="red", err=True)
        raise typer.Exit(2)
    try:
        for raw in _chosen(path, wanted, user, lines, once=once):
            typer.echo(raw.decode("ascii", "backslashreplace") if as_json else _human(raw))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _chosen(path: Path, wanted: dict[str, str], user: str, first: int, *, once: bool) -> Iterator[bytes]:
    """Matching lines: the last `first` of those that are there, then what comes."""
    from collections import deque

    directory = path if path.is_dir() else path.parent
    recent: deque[bytes] = deque(maxlen=first)
    caught_up = False
    people: dict[str, bool] = {}
    for raw in _tail(directory, path):
        if raw is None:
            if not caught_up:
                yield from recent
                caught_up = True
            if once:
                return
            time.sleep(_POLL)
        elif _matches(raw, wanted, user, people):
            if caught_up:
                yield raw
            else:
                recent.append(raw)


def _tail(directory: Path, start: Path) -> Iterator[bytes | None]:
    """Complete lines of the log's files from `start` on, for ever; None whenever there is no more for now."""
    from zt_proxy.control.audit.chain import log_files

    current: Path | None = None if start.is_dir() else start
    while current is None:
        files = log_files(directory)[-2:]  # the one before as well: a new file may have no lines yet
        if files:
            current = files[0]
        else:
            yield None
    while True:
        with current.open("rb") as file:
            while True:
                position = file.tell()
                raw = file.readline()
                following = None
                if not raw.endswith(b"\n"):
                    file.seek(position)
                    # Looked for before the last read: once there is a next file, this one is complete.
                    following = next((p for p in log_files(directory) if p.name > current.name), None)
                    raw = file.readline()
                if raw.endswith(b"\n"):
                    yield raw[:-1]
                elif following is not None:
                    current = following
                    break
                else:
                    file.seek(position)
                    yield None


def _matches(raw: bytes, wanted: dict[str, str], user: str, people: dict[str, bool]) -> bool:
    """Whether a record fits. An end record names no person: it fits if its decision did."""
    try:
        record = json.loads(raw)
    except ValueError:
        return not wanted and not user
    if not isinstance(record, dict):
        return False
    if user:
        request = str(record.get("id", ""))
        if record.get("type") == "end":
            if not people.pop(request, False):
                return False
        elif user not in (record.get("sub"), record.get("email")):
            return False
        else:
            people[request] = True
    return all(_text(record.get(field)) == value for field, value in wanted.items())


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def _human(raw: bytes) -> str:
    """One line for people. Field values stay escaped as in the log: a terminal gets no control bytes."""
    try:
        record = json.loads(raw)
        at = datetime.fromtimestamp(float(record.get("at", 0)), UTC)
    except (ValueError, AttributeError, TypeError, OverflowError):
        return typer.style(f"unreadable: {raw.decode('ascii', 'backslashreplace')}", fg="red")

    def show(field: str) -> str:
        value = record.get(field)
        return json.dumps(value)[1:-1].replace("\x7f", "\\u007f") if isinstance(value, str) else _text(value)

    when = typer.style(at.astimezone().strftime("%H:%M:%S.%f")[:-3], dim=True)
    kind = record.get("type")
    if kind == "decision":
        effect = show("effect")
        who = show("email") or show("sub") or "-"
        rule = f" ({show('rule')})" if record.get("rule") else ""
        reported = f" would be: {', '.join(map(_text, record['reported']))}" if record.get("reported") else ""
        return (
            f"{when} {typer.style(f'{effect:9}', fg=_COLOURS.get(effect), bold=True)} {who} {show('method')} "
            f"{show('host')}{show('path')} {show('reason')}{rule}{reported} "
            + typer.style(f"{show('client')} {show('id')}", dim=True)
        )
    if kind == "end":
        milliseconds = float(record.get("duration", 0)) * 1000
        return typer.style(
            f"{when} end       {show('status')} {show('bytes_out')} B {milliseconds:.1f} ms {show('id')}", dim=True
        )
    rest = " ".join(f"{f}={show(f)}" for f in record if f not in ("seq", "prev", "hash", "v", "at", "type"))
    label = show("type") or "?"
    return f"{when} {typer.style(f'{label:9}', fg='cyan')} {rest}"
