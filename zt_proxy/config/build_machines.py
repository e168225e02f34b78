"""Client certificates and integrations, from the checked schema to plain settings."""

from collections.abc import Callable, Iterable
from pathlib import Path

from zt_proxy.config.build_policy import request_match
from zt_proxy.config.schema import Listener, Schema
from zt_proxy.config.schema_machines import CertificateMatch, Integration
from zt_proxy.control.settings import RevocationSource
from zt_proxy.policy.spec import Audience, RequestMatch, RuleEffect, RuleSpec
from zt_proxy.worker.identify.certificate import parse_name
from zt_proxy.worker.settings import CertificateMatch as Matching
from zt_proxy.worker.settings import ClientCertificateSettings, IntegrationSettings


def client_certificates(listener: Listener, path: Callable[[str], Path]) -> tuple[ClientCertificateSettings, ...]:
    """The terms of one listener."""
    return tuple(
        ClientCertificateSettings(path(terms.ca), terms.required, tuple(terms.hosts), bool(terms.crl))
        for terms in listener.client_certificates
    )


def revocation(schema: Schema, path: Callable[[str], Path]) -> tuple[RevocationSource, ...]:
    """The lists of each file of authorities, however many listeners name it."""
    found: dict[Path, dict[Path, None]] = {}
    for listener in schema.listen:
        for terms in listener.client_certificates:
            if terms.crl:
                found.setdefault(path(terms.ca), {}).update((path(file), None) for file in terms.crl)
    return tuple(RevocationSource(ca, tuple(files)) for ca, files in found.items())


def integrations(schema: Schema) -> tuple[IntegrationSettings, ...]:
    """Who comes in by certificate."""
    return tuple(
        IntegrationSettings(
            name,
            one.owner,
            tuple(map(certificate_match, one.certificate)),
            one.expires,
            one.limits.rate,
        )
        for name, one in schema.integrations.items()
    )


def certificate_match(match: CertificateMatch) -> Matching:
    """Raises ValueError for a distinguished name that is none."""
    return Matching(
        sha256=(match.sha256 or "").replace(":", "").lower(),
        san_uri=match.san_uri or "",
        san_dns=match.san_dns or "",
        issuer=parse_name(match.issuer) if match.issuer is not None else (),
        subject=parse_name(match.subject) if match.subject is not None else (),
    )


def scopes(integrations: Iterable[tuple[str, Integration]]) -> dict[str, list[RuleSpec]]:
    """Route → one rule for each integration with something to do there."""
    found: dict[str, list[RuleSpec]] = {}
    for name, one in integrations:
        matches: dict[str, list[RequestMatch]] = {}
        for scope in one.allow:
            matches.setdefault(scope.route, []).append(request_match(scope))
        for route, allowed in matches.items():
            found.setdefault(route, []).append(
                RuleSpec(
                    rule_of(name), RuleEffect.ALLOW, Audience.MATCHING, matches=tuple(allowed), integrations=(name,)
                )
            )
    return found


def rule_of(name: str) -> str:
    """Id of the rule that an integration's own `allow` makes; no rule of a file can have it."""
    return f"integration:{name}"
