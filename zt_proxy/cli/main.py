"""`zt-proxy`: one command per file, each with a `register(app)`."""

import typer

from zt_proxy.cli import (
    alerts,
    audit,
    ca,
    check,
    demo,
    diff,
    explain,
    factors,
    impact,
    init,
    locks,
    profile,
    reload,
    replay,
    run,
    schema,
    sessions,
    status,
    suggest,
    test_policy,
    verify_upstream,
    who_can,
)

app = typer.Typer(
    name="zt-proxy",
    help="Identity-aware reverse proxy for low-code platforms and their integrations.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)

COMMANDS = (
    run,
    check,
    init,
    schema,
    profile,
    replay,
    impact,
    suggest,
    reload,
    explain,
    who_can,
    test_policy,
    diff,
    status,
    sessions,
    locks,
    factors,
    alerts,
    audit,
    ca,
    verify_upstream,
    demo,
)
for command in COMMANDS:
    command.register(app)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
