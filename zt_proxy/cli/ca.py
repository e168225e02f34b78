"""`zt-proxy ca`: a small certificate authority for the machines of those who have none."""

import json
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from zt_proxy.core.clock import SystemClock

if TYPE_CHECKING:
    from cryptography import x509

    from zt_proxy.control.integrations.authority import Authority
    from zt_proxy.control.integrations.register import Issued

_INIT = """Examples:

  zt-proxy ca init

  zt-proxy ca init /srv/clients-ca --name "Example clients" --permit-uri example.com --passphrase-file ca.pass"""
_ISSUE = """Examples:

  zt-proxy ca issue crm-sync --san-uri spiffe://example.com/crm-sync

  zt-proxy ca issue crm-sync --san-uri spiffe://example.com/crm-sync --csr crm-sync.csr
  (the key stays with its owner: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256
  -nodes -keyout crm-sync.key -subj /CN=crm-sync -out crm-sync.csr)"""
_REVOKE = """Examples:

  zt-proxy ca revoke crm-sync --reason key-compromise

  zt-proxy ca revoke crm-sync --reason hold        (for now)

  zt-proxy ca revoke crm-sync --undo               (ends a hold; nothing else can be undone)"""
_CRL = """Example, from cron, each day:

  zt-proxy ca crl --ca /srv/clients-ca --out /etc/zt-proxy/certs/clients.crl"""

Folder = Annotated[Path, typer.Option("--ca", help="Folder of the authority.", metavar="DIR")]
Passphrase = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="File with the passphrase of the authority's key.", show_default=False),
]
ListDays = Annotated[
    float,
    typer.Option("--list-days", min=0.01, max=90, help="Days the revocation list is valid; then all are refused."),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Put a copy of the list there, all or nothing.", show_default=False)
]


class Reason(StrEnum):
    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    AFFILIATION_CHANGED = "affiliation-changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation-of-operation"
    PRIVILEGE_WITHDRAWN = "privilege-withdrawn"
    HOLD = "hold"


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="A small certificate authority for integrations: for those who have none.", no_args_is_help=True
    )
    group.command(epilog=_INIT)(init)
    group.command(epilog=_ISSUE)(issue)
    group.command(epilog=_REVOKE)(revoke)
    group.command(epilog=_CRL)(crl)
    group.command("list", epilog="Example:  zt-proxy ca list")(show)
    app.add_typer(group, name="ca")


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make.", metavar="[DIR]")] = Path("ca"),
    name: Annotated[
        str | None, typer.Option(help="What the authority is called: no other by the same.", show_default=False)
    ] = None,
    days: Annotated[float, typer.Option(min=1, max=36_500, help="Days the authority is valid.")] = 3650,
    permit_uri: Annotated[
        list[str] | None, typer.Option(help="Only URIs of this host (.example.com: of all hosts below it).")
    ] = None,
    permit_dns: Annotated[list[str] | None, typer.Option(help="Only DNS names of this domain.")] = None,
    list_days: ListDays = 7,
    passphrase_file: Passphrase = None,
) -> None:
    """Make an authority: key, certificate, and an empty revocation list."""
    from zt_proxy.control.integrations.authority import Authority
    from zt_proxy.control.integrations.subject import Constraints

    with _explained("init"):
        made = Authority.create(
            folder,
            # Names tell authorities apart, in a file of several and in `issuer:`.
            name if name is not None else f"Clients of zt-proxy {secrets.token_hex(4)}",
            SystemClock(),
            days=days,
            list_days=list_days,
            passphrase=_passphrase(passphrase_file),
            constraints=Constraints(tuple(permit_dns or ()), tuple(permit_uri or ())),
        )
    typer.echo(f"""wrote {folder}/: ca.pem, crl.pem (for the proxy), ca.key (the secret of it all), issued.jsonl
valid until {made.not_valid_after_utc:%Y-%m-%d}

A listener for machines, under `listen:` in zt-proxy.yaml:

  - name: machines
    address: "0.0.0.0:9443"
    tls: {{certificate: certs/site.pem, key: certs/site.key}}
    client_certificates: {{required: true, ca: {folder}/ca.pem, crl: {folder}/crl.pem}}

next:  zt-proxy ca issue NAME --san-uri spiffe://example.com/NAME{_at(folder)}
       zt-proxy ca crl{_at(folder)}   each day: after {list_days:g} days without, every machine is refused""")


def issue(
    name: Annotated[str, typer.Argument(help="Name of the integration.", show_default=False)],
    san_uri: Annotated[
        list[str] | None, typer.Option(help="URI it is known by, like spiffe://example.com/NAME.")
    ] = None,
    san_dns: Annotated[list[str] | None, typer.Option(help="DNS name it is known by.")] = None,
    days: Annotated[float, typer.Option(min=0.0001, max=3650, help="Days the certificate is valid.")] = 90,
    csr: Annotated[
        Path | None, typer.Option(help="Sign the key of this request; names are those given here.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for certificate and key.")] = Path(),
    route: Annotated[str, typer.Option(help="Route it shall call, for the printed lines.")] = "ROUTE",
    url: Annotated[str, typer.Option(help="Address it shall call, for the printed lines.")] = "https://HOST:9443/",
    folder: Folder = Path("ca"),
    passphrase_file: Passphrase = None,
) -> None:
    """Issue a client certificate, and print what the configuration needs to know of it."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from zt_proxy.control.integrations.authority import write_new
    from zt_proxy.control.integrations.subject import alternative_names, request_key

    certificate_file, key_file = out / f"{name}.pem", out / f"{name}.key"
    with _opened("issue", folder, passphrase_file) as authority:
        names = alternative_names(san_uri or (), san_dns or ())
        _must_not_exist(certificate_file, *(() if csr else (key_file,)))
        now = _now()
        earlier = [each for each in authority.register.certificates if each.name == name and each.state(now) == "valid"]
        out.mkdir(parents=True, exist_ok=True)
        if csr is None:
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = authority.issue(name, names, key.public_key(), days)
            write_new(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        else:
            certificate = authority.issue(name, names, request_key(csr.read_bytes()), days)
        write_new(certificate_file, certificate.public_bytes(Encoding.PEM), 0o644)
        _warn_when_due(authority)
    typer.echo(f"wrote {certificate_file}" + ("" if csr else f" and {key_file} (secret: hand it to {name} alone)"))
    for each in earlier:
        typer.echo(f"note: an earlier certificate of {name} stays valid until it is revoked: {each.serial}")
    typer.echo(_next_steps(name, certificate, route, url, certificate_file, "KEY" if csr else str(key_file)))


def _next_steps(name: str, certificate: "x509.Certificate", route: str, url: str, file: Path, key: str) -> str:
    from cryptography import x509

    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris, hosts = (san.get_values_for_type(kind) for kind in (x509.UniformResourceIdentifier, x509.DNSName))
    match = f"san_uri: {json.dumps(uris[0])}" if uris else f"san_dns: {json.dumps(hosts[0])}"
    return f"""
It goes into zt-proxy.yaml, with what it may do:

integrations:
  {name}:
    owner: ops@example.com
    purpose: what it is for
    expires: {certificate.not_valid_after_utc:%Y-%m-%d}
    certificate: {{{match}}}
    allow:
      - {{route: {route}, methods: [GET, HEAD], paths: ["/**"]}}

and then:

  curl --cert {shlex.quote(str(file))} --key {shlex.quote(key)} {shlex.quote(url)}"""


def revoke(
    what: Annotated[str, typer.Argument(help="Name, serial number or certificate file.", metavar="NAME|SERIAL|FILE")],
    reason: Annotated[Reason, typer.Option(help="Why; `hold` can be taken back.")] = Reason.UNSPECIFIED,
    undo: Annotated[bool, typer.Option("--undo", help="End a hold.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All certificates of that name.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    out: Out = None,
    list_days: ListDays = 7,
    folder: Folder = Path("ca"),
    passphrase_file: Passphrase = None,
) -> None:
    """Revoke a certificate and sign the new list. A running proxy that watches the list refuses it within a second."""
    with _opened("revoke", folder, passphrase_file) as authority:
        chosen = _chosen(authority, what, every=every, undo=undo)
        words = ", ".join(f"{each.name} ({each.serial})" for each in chosen)
        if not yes:
            if not _asks():
                _refuse("revoke", "without a terminal there is nobody to ask; --yes goes on without")
            typer.confirm(f"{'End the hold of' if undo else 'Revoke'} {words}?", abort=True)
        signed = authority.release(chosen, list_days) if undo else authority.revoke(chosen, reason.value, list_days)
        _copy(signed, out)
    done = "valid again" if undo else ("on hold" if reason is Reason.HOLD else "revoked")
    typer.echo(f"{done}: {words}\nwrote {_written(folder, out)}; {_list_line(signed)}")


def crl(
    out: Out = None,
    list_days: ListDays = 7,
    folder: Folder = Path("ca"),
    passphrase_file: Passphrase = None,
) -> None:
    """Sign the revocation list anew, so that it does not run out."""
    with _opened("crl", folder, passphrase_file) as authority:
        before = authority.list_problem()
        signed = authority.sign_list(list_days)
        _copy(signed, out)
    if before:
        typer.secho(f"note: {before}; sign it daily", fg="yellow", err=True)
    typer.echo(f"wrote {_written(folder, out)}; {_list_line(signed)}")


def show(
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object per certificate.")] = False,
    folder: Folder = Path("ca"),
) -> None:
    """Show what was issued."""
    import msgspec

    from zt_proxy.control.integrations.authority import Authority

    now = _now()
    with _explained("list"):
        register, problem = Authority.look(folder, SystemClock())
    for each in register.certificates:
        if json_output:
            typer.echo(msgspec.json.encode({"state": each.state(now), **msgspec.to_builtins(each)}).decode())
        else:
            state = each.state(now) + (f" ({each.reason})" if each.reason not in ("", "hold", "unspecified") else "")
            typer.echo(
                f"{each.name:<20} {state:<26} until {_day(each.not_after)}  {each.serial}  {' '.join(each.names)}"
            )
    if not register.certificates and not json_output:
        typer.echo("nothing was issued yet")
    if problem:
        typer.secho(f"{problem}: zt-proxy ca crl{_at(folder)}", fg="yellow", err=True)


def _chosen(authority: "Authority", what: str, *, every: bool, undo: bool) -> "list[Issued]":
    """The certificates meant, which the state they are in lets change; else it exits and says why."""
    found = authority.find(what)
    wanted = [each for each in found if (each.revoked is not None if undo else each.state(_now()) in ("valid", "held"))]
    if not wanted:
        states = ", ".join(f"{each.serial} is {each.state(_now())}" for each in found)
        _refuse("revoke", f"{what}: nothing to {'take back' if undo else 'revoke'}: {states}")
    if len(wanted) > 1 and not every:
        serials = ", ".join(each.serial for each in wanted)
        _refuse("revoke", f"{what} has {len(wanted)} certificates: give a serial number, or --all: {serials}")
    return wanted


def _copy(signed: "x509.CertificateRevocationList", out: Path | None) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    from zt_proxy.core.private import replace_file

    if out is not None:
        replace_file(out, signed.public_bytes(Encoding.PEM), 0o644)


def _written(folder: Path, out: Path | None) -> str:
    return f"{folder / 'crl.pem'}" + (f" and {out}" if out else "")


def _list_line(signed: "x509.CertificateRevocationList") -> str:
    return f"{len(signed)} revoked, valid until {signed.next_update_utc:%Y-%m-%d %H:%M} UTC"


def _warn_when_due(authority: "Authority") -> None:
    if problem := authority.list_problem():
        typer.secho(f"{problem}: zt-proxy ca crl{_at(authority.folder)}", fg="yellow", err=True)


def _asks() -> bool:
    return sys.stdin.isatty()


def _must_not_exist(*files: Path) -> None:
    for file in files:
        if file.exists() or file.is_symlink():
            _refuse("issue", f"{file} exists; nothing is overwritten: --out puts the new one elsewhere")


@contextmanager
def _opened(command: str, folder: Path, passphrase_file: Path | None) -> "Iterator[Authority]":
    from zt_proxy.control.integrations.authority import Authority

    with _explained(command), Authority.opened(folder, SystemClock(), _passphrase(passphrase_file)) as authority:
        yield authority


@contextmanager
def _explained(command: str) -> Iterator[None]:
    """Errors as one line and exit code 2."""
    from zt_proxy.core.errors import ConfigurationError

    try:
        yield
    except ConfigurationError as error:
        _refuse(command, error.detail)
    except OSError as error:
        _refuse(command, f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}")


def _passphrase(path: Path | None) -> bytes | None:
    """The first line of the file."""
    from zt_proxy.core.errors import ConfigurationError
    from zt_proxy.core.private import check_private

    if path is None:
        return None
    with path.open("rb") as file:
        check_private(path, os.fstat(file.fileno()))
        line = file.readline().rstrip(b"\r\n")
    if not line:
        raise ConfigurationError(f"{path}: its first line is empty, and that is no passphrase")
    return line


def _now() -> float:
    return SystemClock().now()


def _day(seconds: float) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _at(folder: Path) -> str:
    return "" if folder == Path("ca") else f" --ca {folder}"


def _refuse(command: str, message: str) -> NoReturn:
    typer.echo(f"zt-proxy ca {command}: {message}", err=True)
    raise typer.Exit(2)
