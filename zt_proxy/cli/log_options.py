"""What commands that read the audit log share: where it is, from when on, and how far they are."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from zt_proxy.cli.operator_client import fail

DAY = 86_400.0
BEFORE = DAY
"""Seconds by which reading begins earlier than the window: who somebody is, their sign-in says."""
_BIG = 32 * 1024 * 1024

Logs = Annotated[
    list[Path] | None,
    typer.Option("--log", help="Folder of an audit log, or its files; may be repeated.", show_default=False),
]
Config = Annotated[
    Path, typer.Option("--config", "-c", help="The file that is served; it says where the log is.", show_default=True)
]


def seconds_of(text: str, option: str) -> float:
    """A duration on the command line, in seconds. Raises typer.Exit(2)."""
    from zt_proxy.config.units import duration

    try:
        return duration(text)
    except ValueError as error:
        raise fail(f"{option} {text}: {error}") from error


def since_of(text: str) -> float:
    """The moment that long ago, in epoch seconds; 0 for an empty text: from the beginning."""
    from zt_proxy.core.clock import SystemClock

    return SystemClock().now() - seconds_of(text, "--since") if text else 0.0


def logs_of(logs: Sequence[Path] | None, config: Path) -> list[Path]:
    """Where the log is: as given, or where the file says. Raises typer.Exit(2)."""
    from zt_proxy.config import load
    from zt_proxy.config.build import audit_dir

    if logs:
        return list(logs)
    if not config.is_file():
        raise fail(f"{config}: no such file; name the log with --log, or the file that is served with -c")
    loaded = load(config)
    if loaded.schema is None:
        raise fail(f"{config}: cannot be read; name the log with --log")
    return [audit_dir(loaded.base, loaded.schema)]


@contextmanager
def reading(paths: Sequence[Path], since: float, *, quiet: bool = False) -> Iterator[Iterator[bytes]]:
    """The lines from then on, with a progress bar on standard error where there are many of them.

    What cannot be read ends the command with exit code 2.
    """
    from rich.progress import Progress

    from zt_proxy.control.audit import history, verify

    try:
        size = verify.size_of(paths)
        shown = size > _BIG and sys.stderr.isatty() and not quiet
        from rich.console import Console

        with Progress(transient=True, disable=not shown, console=Console(stderr=True)) as bar:
            task = bar.add_task("reading the log")
            yield history.lines(
                paths, since, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
    except OSError as error:
        raise fail(error) from error


def day(at: float) -> str:
    """`2026-03-09`, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def minute(at: float) -> str:
    """`2026-03-09 14:05 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def count(number: int, word: str) -> str:
    """`1 request`, `2 requests`."""
    return f"{number} {word}" + ("" if number == 1 else "s")
