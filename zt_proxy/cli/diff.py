"""`zt-proxy diff`: a request that two configurations decide differently, or how it was looked for in vain."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zt_proxy.cli import asking
from zt_proxy.cli.operator_client import Json, plain

if TYPE_CHECKING:
    from zt_proxy.config.diff_search import Found, Searched
    from zt_proxy.config.outcomes import Outcome

_EPILOG = """Examples:

  zt-proxy diff zt-proxy.yaml new.yaml

  zt-proxy diff zt-proxy.yaml new.yaml --budget 2000000 --seed 7

  zt-proxy diff a.yaml b.yaml --json | jq '.routes[].found[] | [.request, .before.word, .after.word]'

For each two rules that differ one request is told, in the most ordinary circumstances in which they do. Values come
from both files: each method, path, action, object, group, role, user, claim, network, country and level that is named,
both sides of each bound and of each hour, and something that nobody names. What was left out is said.

Neither file needs its certificates or secrets. Not compared: listeners, sign-in, sessions, how risk is reckoned.

Exit code: 0 no difference was found, 1 there is one, 2 a file is wrong."""
_HOW = {
    "same": "the same rules, roles, masks and profile: nothing to look for",
    "only-before": "only in the first file",
    "only-after": "only in the second file",
}


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(diff)


def diff(
    before: Annotated[Path, typer.Argument(metavar="A.yaml", help="The one configuration.", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="B.yaml", help="The other one.", show_default=False)],
    budget: Annotated[int, typer.Option(min=1000, help="Combinations to try at most, over all routes.")] = 200_000,
    seed: Annotated[int, typer.Option(help="Of what is drawn when not every combination is tried.")] = 0,
    as_json: Json = False,
) -> None:
    """Find requests that two configurations decide differently, or say how they were looked for."""
    from rich.console import Console
    from rich.progress import Progress

    from zt_proxy.config.diff_search import search

    one, other = asking.estate_of(before), asking.estate_of(after)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("searching", total=budget)
        results = search(one, other, budget=budget, seed=seed, tell=lambda count: bar.advance(task, count))
    differ = any(each.found or each.how.startswith("only") for each in results)
    if as_json:
        typer.echo(asking.as_json({"differ": differ, "seed": seed, "routes": [_told(each) for each in results]}))
    else:
        for each in results:
            _show(each, before, after)
        if not differ:
            typer.secho("No difference was found.", fg="green", bold=True)
    raise typer.Exit(1 if differ else 0)


def _told(each: "Searched") -> dict[str, Any]:
    import msgspec

    found = [{**msgspec.to_builtins(one), "explain": shlex.join(one.words)} for one in each.found]
    return {**msgspec.to_builtins(each), "found": found}


def _show(each: "Searched", before: Path, after: Path) -> None:
    name = typer.style(plain(each.route), bold=True)
    if each.how in _HOW:
        typer.secho(f"{name}: {_HOW[each.how]}", fg="yellow" if each.how != "same" else None)
        return
    for found in each.found:
        _difference(name, found, before, after)
    searched = each.requests - each.settled
    values = f"{searched} kind{'' if searched == 1 else 's'} of requests with people and circumstances"
    if each.how == "every":
        how = f"every combination of {values} was tried ({each.tried:,})"
    else:
        how = (
            f"of {each.combinations:,} combinations of {values} {each.tried:,} were tried: the ordinary ones, "
            "those with one thing and with two things otherwise, and drawn ones (--budget)"
        )
    how += f"; about {each.settled} more kinds both have the same rules" if each.settled else ""
    count = len(each.found)
    result = f"{count} difference{'' if count == 1 else 's'}" if count else "no difference"
    typer.echo(f"{name}: {result}; {how}.")


def _difference(name: str, found: "Found", before: Path, after: Path) -> None:
    means = f" ({found.means})" if found.means else ""
    uncertain = "" if found.certain else ", with what the matcher looks at beside method and path"
    typer.echo(f"{name}  {plain(found.request)}{means}{uncertain}, {plain(found.who)}")
    width = max(len(str(before)), len(str(after)))
    for path, outcome, sign, colour in ((before, found.before, "-", "red"), (after, found.after, "+", "green")):
        typer.secho(f"  {sign} {path!s:<{width}}  {plain(_outcome(outcome))}", fg=colour)
    typer.secho(f"    zt-proxy explain -c {shlex.quote(str(after))} {plain(shlex.join(found.words))}", dim=True)


def _outcome(outcome: "Outcome") -> str:
    text = outcome.word + (f" by {outcome.rule}" if outcome.rule else "")
    words = outcome.duties.words()
    if words:
        text += f" ({'; '.join(words)})"
    elif outcome.word != "allow":
        text += f" ({outcome.reason})"
    return text + (f", not known: {', '.join(outcome.missing)}" if outcome.missing else "")
