"""`zt-proxy test`: the cases beside a configuration, and which rules they never reach."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zt_proxy.cli import asking
from zt_proxy.cli.operator_client import DEFAULT, Config, Json, fail, plain

if TYPE_CHECKING:
    from zt_proxy.config.case_runs import Coverage, Ran

_EPILOG = """Examples:

  zt-proxy test                                     (zt-proxy.tests.yaml and tests/*.yaml beside zt-proxy.yaml)

  zt-proxy test -c policy.yaml cases/builder.yaml --min-coverage 80

  zt-proxy test --json | jq '.failed[].name'

A file of cases:

  defaults: {route: builder}

  cases:

  - {name: a maker may not deploy, groups: \\[makers], method: POST, path: /flows, expect: deny}

Needs no running proxy, no certificates and no secrets. The format is described in docs/how-to/policy-tests.md.

Exit code: 0 all as expected, 1 a case came out otherwise or too few rules are covered, 2 the files are wrong."""


def register(app: typer.Typer) -> None:
    app.command("test", epilog=_EPILOG)(run_cases)


def run_cases(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[CASES.yaml]...", help="Left out: those beside the configuration.")
    ] = None,
    config: Config = DEFAULT,
    min_coverage: Annotated[
        float, typer.Option("--min-coverage", min=0, max=100, help="Percent of rules that have to decide in some case.")
    ] = 0.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name the cases that came out right too.")] = False,
    as_json: Json = False,
) -> None:
    """Run the cases beside a configuration: requests, and what has to be decided about them."""
    from zt_proxy.config.case_runs import coverage, run
    from zt_proxy.config.cases import beside, load_cases
    from zt_proxy.core.clock import SystemClock

    estate = asking.estate_of(config)
    chosen = list(files or beside(config))
    if not chosen:
        wanted = f"{config.stem}.tests.yaml and {config.parent / 'tests'}/*.yaml"
        raise fail(f"no cases: {wanted} are not there; name a file, or write one", asking.USAGE)
    loaded = [load_cases(path, estate) for path in chosen]
    errors = [problem for each in loaded for problem in each.errors]
    problems = [problem for each in loaded for problem in each.problems]
    if errors and as_json:
        typer.echo(asking.as_json({"ok": False, "problems": problems}))
    elif problems:
        for problem in problems:
            typer.secho(str(problem), fg="red" if problem in errors else "yellow", err=True)
    if errors:
        raise typer.Exit(asking.USAGE)
    now = SystemClock().now()
    ran = [run(case, estate, now) for each in loaded for case in each.cases]
    covered = coverage(ran, estate)
    short = covered.percent < min_coverage
    failed = [each for each in ran if not each.passed]
    if as_json:
        typer.echo(asking.as_json(_told(ran, covered, problems, ok=not failed and not short)))
    else:
        _show(ran, covered, verbose=verbose)
        if short:
            typer.secho(f"Covered are {covered.percent:.0f} %, wanted {min_coverage:g} %.", fg="red", bold=True)
    raise typer.Exit(1 if failed or short else 0)


def _told(ran: "list[Ran]", covered: "Coverage", problems: list[Any], *, ok: bool) -> dict[str, Any]:
    return {
        "ok": ok,
        "passed": sum(each.passed for each in ran),
        "failed": [
            {
                "name": each.case.name,
                "place": each.case.place,
                "differences": each.differences,
                "hint": each.hint,
                "outcome": each.outcome,
            }
            for each in ran
            if not each.passed
        ],
        "by_the_clock": [each.case.name for each in ran if each.by_the_clock],
        "coverage": {
            "percent": round(covered.percent, 1),
            "decided": [{"route": route, "rule": rule} for route, rule in covered.decided],
            "never": [{"route": route, "rule": rule, "line": line} for route, rule, line in covered.never],
        },
        "problems": problems,
    }


def _show(ran: "list[Ran]", covered: "Coverage", *, verbose: bool) -> None:
    for each in ran:
        if each.passed:
            if verbose:
                typer.echo(f"{typer.style('ok  ', fg='green')}  {plain(each.case.name)}")
            continue
        name = typer.style(plain(each.case.name), bold=True)
        typer.echo(f"{typer.style('FAIL', fg='red', bold=True)}  {name}  {each.case.place}")
        width = max(len(difference.what) for difference in each.differences)
        for difference in each.differences:
            typer.secho(f"      - {difference.what:<{width}}  {plain(difference.expected)}", fg="red")
            typer.secho(f"      + {difference.what:<{width}}  {plain(difference.got)}", fg="green")
        decided = each.outcome.rule if each.outcome is not None else ""
        if decided:
            typer.secho(f"        decided by {decided}", dim=True)
        if each.hint:
            typer.secho(f"        nearest: {plain(each.hint)}", dim=True)
    timed = [each for each in ran if each.by_the_clock]
    for each in timed:
        typer.secho(f"note  {plain(each.case.name)}: a rule asks for the time; say `at`", fg="yellow")
    failed = sum(not each.passed for each in ran)
    right = len(ran) - failed
    typer.secho(f"{right} of {len(ran)} cases as expected.", fg="red" if failed else "green", bold=True)
    every = len(covered.decided) + len(covered.never)
    typer.echo(f"{len(covered.decided)} of {every} rules decided in some case ({covered.percent:.0f} %).")
    for route, rule, line in covered.never:
        where = f"  line {line}" if line else ""
        typer.secho(f"  never: {route} {rule}{where}", fg="yellow")
