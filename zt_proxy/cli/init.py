"""`zt-proxy init`: a commented configuration that works, from flags or questions."""

import json
import os
import sys
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NoReturn

import typer

_EPILOG = """Examples:

  zt-proxy init                                  (asks)

  zt-proxy init --platform node-red --host flows.example.com --upstream http://127.0.0.1:1880
  --portal https://auth.example.com --issuer https://sso.example.com/realms/main --client-id zt-proxy"""


class Platform(StrEnum):
    GENERIC = "generic"
    NODE_RED = "node-red"
    N8N = "n8n"


TITLES = {Platform.GENERIC: "one web platform", Platform.NODE_RED: "Node-RED", Platform.N8N: "n8n"}
UPSTREAMS = {
    Platform.GENERIC: "http://127.0.0.1:8080",
    Platform.NODE_RED: "http://127.0.0.1:1880",
    Platform.N8N: "http://127.0.0.1:5678",
}


def register(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(init)


def init(
    platform: Annotated[Platform | None, typer.Option(help="What is protected.", show_default=False)] = None,
    host: Annotated[str, typer.Option(help="Public host name of the platform.", show_default=False)] = "",
    upstream: Annotated[str, typer.Option(help="URL at which the proxy reaches it.", show_default=False)] = "",
    portal: Annotated[str, typer.Option(help="Public URL where people sign in.", show_default=False)] = "",
    issuer: Annotated[str, typer.Option(help="Issuer URL of the OpenID provider.", show_default=False)] = "",
    client_id: Annotated[str, typer.Option(help="Client id registered there.", show_default=False)] = "",
    issuer_ca: Annotated[
        str, typer.Option(help="PEM file of the CA of the issuer's certificate, if not a public one.")
    ] = "",
    certificate: Annotated[str, typer.Option(help="PEM chain for both host names.")] = "certs/site.pem",
    key: Annotated[str, typer.Option(help="PEM key of it.")] = "certs/site.key",
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("zt-proxy.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented configuration file for a platform."""
    asks = sys.stdin.isatty()
    if output.exists() and not force:
        _refuse(f"{output} exists; --force overwrites it")
    platform = platform or (_ask_platform() if asks else Platform.GENERIC)
    questions = {
        "--host": ("Public host name of the platform", host, ""),
        "--upstream": ("URL at which the proxy reaches it", upstream, UPSTREAMS[platform]),
        "--portal": ("Public URL where people sign in", portal, ""),
        "--issuer": ("Issuer URL of the OpenID provider", issuer, ""),
        "--client-id": ("Client id registered there", client_id, "zt-proxy"),
    }
    missing = [flag for flag, (_, given, default) in questions.items() if not given and not default]
    if missing and not asks:
        _refuse(f"missing: {' '.join(missing)} (without a terminal there is nobody to ask)")
    answers = {
        flag: given or (typer.prompt(question, default=default or None) if asks else default)
        for flag, (question, given, default) in questions.items()
    }
    text = render(
        platform,
        host=answers["--host"],
        upstream=answers["--upstream"],
        portal=answers["--portal"],
        issuer=answers["--issuer"],
        client_id=answers["--client-id"],
        issuer_ca=issuer_ca,
        certificate=certificate,
        key=key,
        file=output,
    )
    _write(output, text, force)
    redirect = f"{answers['--portal'].rstrip('/')}/.zt/callback"
    typer.echo(f"wrote {output}\nnext:  register the redirect URI {redirect} at the provider")
    typer.echo(f"       export ZT_OIDC_SECRET=…\n       zt-proxy check {output}\n       zt-proxy run -c {output}")


def render(
    platform: Platform,
    *,
    host: str,
    upstream: str,
    portal: str,
    issuer: str,
    client_id: str,
    issuer_ca: str = "",
    certificate: str,
    key: str,
    file: Path,
) -> str:
    """The text of a starter file. Exits with code 2 when an answer cannot be right."""
    from zt_proxy.config import names

    try:
        _, portal_host, portal_port = names.origin(portal)
        names.public_host(host, portal_port)
        names.upstream(upstream)
        names.issuer(issuer)
    except ValueError as error:
        _refuse(str(error))
    scheme, issuer_host = names.issuer(issuer)
    origin = f"https://{names.join(portal_host, portal_port)}"
    values = {
        "TITLE": TITLES[platform],
        "FILE": file.name,
        "LISTEN": json.dumps(f"0.0.0.0:{portal_port}"),
        "CERTIFICATE": _quote(certificate),
        "KEY": _quote(key),
        "PORTAL": _quote(origin),
        "REDIRECT": f"{origin}/.zt/callback",
        "SIGNED_OUT": f"{origin}/.zt/signed-out",
        "ISSUER": _quote(issuer),
        "CLIENT_ID": _quote(client_id),
        "HOST": _quote(host),
        "UPSTREAM": _quote(upstream),
    }
    if issuer_ca:
        values["ISSUER"] += f"\n      ca: {_quote(issuer_ca)}"
    if scheme == "http" and names.is_loopback(issuer_host):
        values["ISSUER"] += "\n      insecure_http: true   # only for a provider on this machine"
    starters = files("zt_proxy.cli") / "starters"
    text = (starters / "head.yaml").read_text("utf-8") + (starters / f"{platform.value}.yaml").read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"<{name}>", value)
    return text


def _quote(text: str) -> str:
    """JSON strings are YAML strings: no answer can become anything but a value."""
    return json.dumps(text, ensure_ascii=False)


def _ask_platform() -> Platform:
    words = "/".join(Platform)
    while True:
        said = typer.prompt(f"What is protected ({words})", default=Platform.GENERIC.value)
        if said in list(Platform):
            return Platform(said)


def _write(path: Path, text: str, force: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        _refuse(f"{path} cannot be written: {error.strerror or type(error).__name__}")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _refuse(message: str) -> NoReturn:
    typer.echo(f"zt-proxy init: {message}", err=True)
    raise typer.Exit(2)
