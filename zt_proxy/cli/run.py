"""`zt-proxy run`: serve a configuration until SIGTERM."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Example:  zt-proxy run -c zt-proxy.yaml",
    )(run)


def run(
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file to serve.")],
) -> None:
    """Serve a configuration until SIGTERM or Ctrl-C."""
    from zt_proxy.processes import single

    raise typer.Exit(single.main(config))
