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
    """Serve a configuration until SIGTERM or Ctrl-C; SIGHUP, or a change of any file it names, reads it again."""
    from zt_proxy.processes import lean

    lean.without_rich()
    from zt_proxy.processes import start

    raise typer.Exit(start.main(config))
