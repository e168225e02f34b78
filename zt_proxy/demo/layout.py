"""What a run of the demo writes down before anything starts: certificates, ports, secrets and the proxy's YAML file."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trustme

AppKind = Literal["builtin", "node-red"]

PORTAL_HOST, APP_HOST, IDP_HOST = "auth.localhost", "app.localhost", "localhost"
"""Browsers take names under `.localhost` for this machine (RFC 6761 §6.3). Not every resolver does, and the proxy asks
the system's for the provider: so that one is plain `localhost`."""

CLIENT_ID = "zt-proxy-demo"


@dataclass(frozen=True, slots=True)
class Layout:
    """Files and addresses of one run."""

    folder: Path
    kind: AppKind
    port: int
    idp_port: int
    client_secret: str

    @property
    def portal_url(self) -> str:
        """Where people sign in; also the issuer of assertions."""
        return f"https://{PORTAL_HOST}:{self.port}"

    @property
    def app_url(self) -> str:
        """What a person opens; also the audience of the app's assertions."""
        return f"https://{APP_HOST}:{self.port}"

    @property
    def issuer(self) -> str:
        """The demo provider's."""
        return f"https://{IDP_HOST}:{self.idp_port}"

    @property
    def ca(self) -> Path:
        """The development CA, for browsers and for the proxy's calls to the provider."""
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        """One certificate for all names of the demo."""
        return self.folder / "site.pem"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.folder / "site.key"

    @property
    def config(self) -> Path:
        """The proxy's configuration."""
        return self.folder / "zt-proxy.yaml"


def lay_out(folder: Path, kind: AppKind, port: int, idp_port: int) -> Layout:
    """Choose ports, make what is missing in `folder` (mode 0700), and give the layout. The CA lasts over restarts."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    layout = Layout(folder.resolve(), kind, free_port(port), free_port(idp_port), _client_secret(folder))
    ca = _ca(layout)
    leaf = ca.issue_cert(PORTAL_HOST, APP_HOST, IDP_HOST, "127.0.0.1", common_name="zt-proxy demo")
    layout.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    _write_private(layout.key, leaf.private_key_pem.bytes())
    _write_private(layout.folder / "oidc-secret", layout.client_secret.encode())
    (layout.folder / "profiles").mkdir(exist_ok=True)
    (layout.folder / "profiles" / "demo-app.yaml").write_bytes(PROFILE.read_bytes())
    return layout


def _ca(layout: Layout) -> trustme.CA:
    """The CA of an earlier run, so that a browser needs to be told only once, else a new one."""
    key = layout.folder / "ca.key"
    if key.is_file() and layout.ca.is_file():
        return trustme.CA.from_pem(layout.ca.read_bytes(), key.read_bytes())
    ca = trustme.CA(organization_name="zt-proxy demo", organization_unit_name="only on this machine")
    layout.ca.write_bytes(ca.cert_pem.bytes())
    _write_private(key, ca.private_key_pem.bytes())
    return ca


def _client_secret(folder: Path) -> str:
    """That of an earlier run, so that a proxy configured beside the demo goes on working, else a new one."""
    try:
        return (folder / "oidc-secret").read_text() or secrets.token_urlsafe(32)
    except FileNotFoundError:
        return secrets.token_urlsafe(32)


def _write_private(path: Path, content: bytes) -> None:
    """Never readable by others, not even while it is written."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else any free port of 127.0.0.1."""
    for port in (wanted, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as probe:
                found: int = probe.getsockname()[1]
                return found
        except OSError:
            if port == 0:
                raise
    raise AssertionError("port 0 either works or raises")


PROFILE = Path(__file__).with_name("app.yaml")

_BUILTIN = """\
    profile: profiles/demo-app.yaml  # which request means which action
    rules:
      - {id: staff-use, allow: [use], to: {groups: [staff]}, when: {access_level: at-home}}
      - id: staff-abroad
        allow: [use]
        to: {groups: [staff]}
        when: {not: {access_level: at-home}}
        require: {mfa: phishing-resistant, reauth: 5m}  # a passkey, where a code is enough at home
      - {id: makers-build, allow: [build], to: {groups: [makers]}, when: {access_level: at-home}}
      - {id: staff-export, allow: [export], to: {groups: [staff]}, when: {access_level: at-home}}
      - id: releasers-deploy
        allow: [deploy]
        to: {groups: [releasers]}
        when: {access_level: at-home}
        require: {mfa: phishing-resistant, reauth: 5m}  # a passkey, shown in the last five minutes
      - id: working-hours
        deny: [export]
        when: {not: {time: {days: mon-fri, from: "06:00", to: "22:00", zone: Europe/Berlin}}}
        mode: report  # on record alone: zt-proxy impact says whom it would stop
    mask:
      - {name: accounts, fields: ["$..account"], unless: {groups: [releasers]}, with: last4}
    answers: {limit: 16MiB, websocket: pass}  # the live feed names nobody's account
"""

_NODE_RED = """\
    profile: node-red  # which request means which action
    rules:
      - {id: staff-view, allow: [view], to: {groups: [staff]}}
      - {id: makers-build, allow: [use, build, export], to: {groups: [makers]}}
      - id: releasers-deploy
        allow: [deploy]
        to: {groups: [releasers]}
        require: {mfa: phishing-resistant, reauth: 5m}  # a passkey, shown in the last five minutes
"""


def proxy_config(layout: Layout, upstream: str) -> str:
    """The proxy's configuration in front of `upstream`, as YAML."""
    return f"""\
# Written anew at each start of the demo. Copy it to try rules of your own: zt-proxy check FILE, zt-proxy run -c FILE
version: 1
state_dir: proxy-state
listen:
  - name: web
    address: "127.0.0.1:{layout.port}"
    tls: {{certificate: site.pem, key: site.key}}
portal: {{url: "{layout.portal_url}"}}
identity:
  providers:
    demo:
      display_name: Example Company
      issuer: "{layout.issuer}"
      client_id: {CLIENT_ID}
      client_secret: "${{file:oidc-secret}}"
      ca: ca.pem
      acr_values: ["urn:zt:mfa"]
  mfa: {{accept: [provider, passkey, totp]}}  # the provider's second factor, or one of the proxy's own
routes:
  - name: app
    host: {APP_HOST}
    upstream: "{upstream}"
    audience: "{layout.app_url}"
    helper: inject  # a step-up in a small window, without losing what is on the page
{_BUILTIN if layout.kind == "builtin" else _NODE_RED}\
networks: {{this-machine: [127.0.0.0/8, "::1"]}}
geoip: {{insecure_origin_header: X-Demo-Country}}  # so that you can pretend to be abroad; never for real use
access_levels:
  at-home: {{any: [{{network: this-machine}}, {{country: [DE, AT, CH]}}]}}
watch:
  volume:  # more than ten times half a megabyte within ten seconds locks exports until somebody has looked
    factor: 10
    floor: 5MB
    learn: 0s
    windows: [10s]
    respond: enforce
    effect: no-export
    for: until-reviewed
limits: {{drain: 1s}}
log: {{format: console}}
"""
