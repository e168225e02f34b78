"""`zt-proxy demo`: everything on this machine, to look at; or a provider alone, to try a configuration of one's own."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_EPILOG = """Examples:

  zt-proxy demo

  zt-proxy demo --app node-red

  zt-proxy demo --provider-only     (then: zt-proxy init, check, run)

  zt-proxy demo --code JBSWY3DPEHPK3PXP"""


class App(StrEnum):
    BUILTIN = "builtin"
    NODE_RED = "node-red"


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(demo)


def demo(
    app: Annotated[App, typer.Option(help="What stands behind the proxy.")] = App.BUILTIN,
    state: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path(".state/demo"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the proxy; another one if it is busy.")] = 8443,
    provider_only: Annotated[
        bool, typer.Option("--provider-only", help="Certificates and the provider alone, for a proxy of your own.")
    ] = False,
    provider_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the provider.")] = 8444,
    code: Annotated[
        str | None,
        typer.Option(metavar="SECRET", help="Show the code of this moment, as an authenticator app would, and end."),
    ] = None,
) -> None:
    """Start a demo provider, an app and the proxy on this machine, until Ctrl-C.

    The provider's people are invented and their passwords printed: nothing of it is for real use.
    """
    if code is not None:
        _show_code(code)
        return
    try:
        from zt_proxy.demo import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("zt_proxy"):
            raise
        typer.secho(
            f"The demo needs the package {error.name.partition('.')[0]}: pip install 'zt-proxy[demo]'",
            fg="red",
            err=True,
        )
        raise typer.Exit(2) from None
    if provider_only:
        raise typer.Exit(asyncio.run(run.run_provider(state, port=port, idp_port=provider_port)))
    raise typer.Exit(asyncio.run(run.run(state, app.value, port=port, idp_port=provider_port)))


def _show_code(secret: str) -> None:
    from zt_proxy.core.clock import SystemClock
    from zt_proxy.demo import totp

    now = SystemClock().now()
    try:
        code = totp.code_at(totp.from_base32(secret), now)
    except ValueError:
        typer.secho("That is no secret: letters A to Z and digits 2 to 7, in groups or not.", fg="red", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{code}   (for {totp.seconds_left(now)} more seconds)")
