"""Integrations: machines that come in by client certificate, what they are known by and what they may do."""

# ruff: noqa: RUF012 - pydantic copies defaults for every model

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from zt_proxy.config import units
from zt_proxy.config.schema_base import Model
from zt_proxy.config.schema_rules import Match
from zt_proxy.config.tree import Mapping


def one_or_many(value: Any) -> Any:
    """A list of one where a single item was written."""
    return [value] if isinstance(value, Mapping | str) else value


def also_alone(schema: dict[str, Any]) -> None:
    """For editors: a list, or one of its items without the list."""
    items = schema.pop("items", {})
    schema.pop("type", None)
    schema["anyOf"] = [items, {"type": "array", "items": items}]


Files = Annotated[
    list[str],
    BeforeValidator(one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Frequency = Annotated[
    float,
    BeforeValidator(units.frequency),
    WithJsonSchema({"type": "string", "pattern": units.FREQUENCY_PATTERN}),
]
"""Requests a second."""
End = Annotated[float, BeforeValidator(units.end_of), WithJsonSchema({"type": "string", "examples": ["2027-06-30"]})]
"""Epoch seconds of the last moment."""


class ClientCertificates(Model):
    """Who is asked for a client certificate, and whose certificates count. One mapping, or a list of them with `hosts`
    each, for hosts of one port with different terms. What is asked follows the server name of the connection (SNI); a
    request for a host with other terms than its connection is refused (421). A certificate is judged for every request,
    with its whole chain: validity, `clientAuth` among its extended key usages, revocation.
    """

    later: ClassVar[frozenset[str]] = frozenset({"ocsp", "depth", "forward"})

    ca: str
    """PEM file of the authorities, roots and intermediates; the system's never count."""
    required: bool = False
    """Refuse whoever shows no certificate (403); else people may sign in at these hosts as well."""
    crl: Files = []
    """Revocation lists, PEM or DER: a file or several. With them every issuer in a chain needs one that is in force;
    the files are watched. Left out: nothing is asked about revocation."""
    hosts: list[str] = []
    """Server names, also `*.example.com`, without a port; left out: every one of the listener that no other terms
    name."""


class CertificateMatch(Model):
    """How a certificate is known. All that is given must fit, exactly; the common name alone is never looked at."""

    san_uri: str | None = None
    """The one URI in its subject alternative names, such as `spiffe://example.com/crm-sync`."""
    san_dns: str | None = None
    """A DNS name there."""
    issuer: str | None = None
    """Distinguished name of its authority, as `openssl x509 -noout -issuer -nameopt RFC2253` prints it."""
    subject: str | None = None
    """Distinguished name, as `openssl x509 -noout -subject -nameopt RFC2253` prints it; needs `issuer`."""
    sha256: str | None = None
    """Fingerprint of the certificate: 64 hexadecimal digits, colons allowed."""


class Scope(Match):
    """Requests that an integration may make on one route."""

    route: str
    """Name of the route."""


class IntegrationLimits(Model):
    """How much an integration may do."""

    later: ClassVar[frozenset[str]] = frozenset({"bytes", "fields", "concurrent", "records"})

    rate: Frequency | None = None
    """Requests a second, as `20/s`, `600/m` or `5000/h`; more get 429. Of N workers each counts its Nth part, rounded
    up, so that an integration on one connection gets one part."""


class Integration(Model):
    """A machine with a name. It is never a person: rules for people do not allow it anything, and it has no session."""

    later: ClassVar[frozenset[str]] = frozenset({"token", "tokens", "networks", "egress", "outbound", "mask"})

    owner: str
    """Who answers for it: a person or a mailbox."""
    purpose: str = ""
    """What it is for."""
    expires: End | None = None
    """Its last day, or a moment; left out: it ends with its certificate."""
    certificate: Annotated[list[CertificateMatch], BeforeValidator(one_or_many), Field(json_schema_extra=also_alone)]
    """One mapping, or a list of them of which any is enough: while a certificate is changed, there are two."""
    allow: list[Scope]
    """What it may do. The routes' own deny rules win; what nothing allows is denied."""
    limits: IntegrationLimits = IntegrationLimits()
    """How much it may do."""
