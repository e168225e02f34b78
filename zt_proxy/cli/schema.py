"""`zt-proxy schema`: the JSON Schema of the configuration file, for editors."""

import json
from pathlib import Path
from typing import Annotated

import typer

_EPILOG = """Examples:

  zt-proxy schema > zt-proxy.schema.json

  zt-proxy schema --output zt-proxy.schema.json

Editors with a YAML language server use it after this first line of the file:

  # yaml-language-server: $schema=zt-proxy.schema.json"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(schema)


def schema(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; left out: standard output.", show_default=False),
    ] = None,
) -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from zt_proxy.config.reference import json_schema

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    if output is None:
        typer.echo(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        typer.echo(f"{output} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(1) from None
