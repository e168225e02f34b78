"""`zt-proxy suggest`: grants that nobody used, who would lose what, and the patch that takes them back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from zt_proxy.cli.log_options import BEFORE, Config, Logs, count, logs_of, minute, reading, seconds_of
from zt_proxy.cli.operator_client import DEFAULT, fail, plain

if TYPE_CHECKING:
    from zt_proxy.policy.usage import Usage

_EPILOG = """Examples:

  zt-proxy suggest

  zt-proxy suggest --unused 90d -c zt-proxy.yaml > less.patch && patch -p1 < less.patch && zt-proxy check zt-proxy.yaml

  zt-proxy suggest --log state/audit --json | jq '.suggestions[]'

What denies is never suggested to go. Exit code: 0, 2 the file or the log cannot be read."""
_SHOWN = 5


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(suggest)


def suggest(
    unused: Annotated[str, typer.Option(help="Not used for so long.")] = "30d",
    log: Logs = None,
    config: Config = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say which grants nobody used, and print the file's difference without them."""
    from zt_proxy.config import load
    from zt_proxy.config.suggest import patch, suggestions
    from zt_proxy.control.audit import history
    from zt_proxy.core.clock import SystemClock

    window = seconds_of(unused, "--unused")
    start = SystemClock().now() - window
    paths = logs_of(log, config)
    loaded = load(config)
    if loaded.schema is None or loaded.problems:
        raise fail("\n".join(map(str, loaded.problems)) or f"{config}: cannot be read")
    usage = _usage(paths, start, quiet=as_json)
    begins = history.begins(paths)
    found = suggestions(loaded.schema, usage)
    diff = patch(config, found)
    short = begins is None or begins > start
    if as_json:
        answer = {
            "unused": window,
            "decisions": usage.decisions,
            "log_begins": begins,
            "covers": not short,
            "suggestions": [each for each, _ in found],
            "patch": diff,
        }
        typer.echo(msgspec.json.encode(answer).decode("utf-8"))
        return
    if short:
        since = f"begins {minute(begins)}" if begins is not None else "is empty"
        typer.echo(f"# WARNING: the log {since}, and does not cover {unused}: what is used rarely may look unused.")
    typer.echo(f"# {count(usage.decisions, 'decision')} of the last {unused}, {count(len(found), 'grant')} unused.")
    for each, _ in found:
        what = f"rule {each.rule}" if each.kind == "rule" else f"{each.kind} {each.name} of rule {each.rule}"
        names = ", ".join(each.losers[:_SHOWN]) + (", …" if len(each.losers) > _SHOWN else "")
        lose = f"{count(len(each.losers), 'person') if len(each.losers) == 1 else f'{len(each.losers)} people'}"
        by_hand = "" if each.patched else " (not in the patch: do it by hand)"
        typer.echo(
            plain(f"# {each.route}: {what}: {lose} who signed in would lose it{f': {names}' if names else ''}{by_hand}")
        )
    typer.echo(diff, nl=False)


def _usage(paths: list[Path], start: float, *, quiet: bool) -> "Usage":
    from zt_proxy.policy.recorded import is_person, split, told
    from zt_proxy.policy.usage import Usage

    usage = Usage()
    with reading(paths, max(0.0, start - BEFORE), quiet=quiet) as lines:
        for line in lines:
            parts = split(line)
            if parts is None:
                if is_person(line):
                    usage.meet(line)
            elif parts[0].at >= start and (record := told(parts[1])) is not None:
                usage.feed(parts[0], record)
    return usage
