"""Client certificates and integrations: whether each can get in, and whether two are mistaken for one another."""

import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from zt_proxy.config import names
from zt_proxy.config.build_machines import certificate_match
from zt_proxy.config.certificates import read_bytes, read_leaf
from zt_proxy.config.check import EXPIRY_WARNING, Checking
from zt_proxy.config.check_identity import NAME
from zt_proxy.config.check_rules import check_match
from zt_proxy.config.problems import Mark, nearest
from zt_proxy.config.schema import Listener
from zt_proxy.config.schema_machines import CertificateMatch, ClientCertificates, Integration
from zt_proxy.config.schema_routes import Route
from zt_proxy.control.integrations import crl
from zt_proxy.worker.identify.certificate import CertificateFacts, parse_name, read_certificate
from zt_proxy.worker.settings import CertificateMatch as Matching

_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:[!-~]+", re.ASCII)
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+", re.ASCII)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def check(checking: Checking) -> None:
    schema = checking.schema
    for listener in schema.listen:
        _terms(checking, listener)
    for name, integration in schema.integrations.items():
        at = schema.at("integrations", name)
        if not NAME.fullmatch(name):
            checking.problems.error(at, f"`{name}` is no name", "lower-case letters, digits, `-` and `_`")
        _integration(checking, name, integration)
    _mistaken(checking)
    _way_in(checking)
    _reach(checking)


# ---- listeners ----


def _terms(checking: Checking, listener: Listener) -> None:
    seen: dict[str, Mark | None] = {}
    everywhere = [terms for terms in listener.client_certificates if not terms.hosts and terms.complete("hosts")]
    for terms in everywhere[1:]:
        checking.problems.error(
            terms.start, "two terms for every server name of the listener", "`hosts` for one of them"
        )
    for terms in listener.client_certificates:
        for index, host in enumerate(terms.hosts):
            _host(checking, listener, terms, index, host)
            at = terms.at("hosts", index)
            if host in seen:
                first = seen[host]
                where = f"first at line {first.line}" if first else ""
                checking.problems.error(at, f"the terms of `{host}` are given twice", hint=where)
            seen.setdefault(host, at)
        if terms.written("hosts") and not terms.hosts and terms.complete("hosts"):
            checking.problems.error(terms.at("hosts"), "`hosts` is empty", "server names, or no `hosts` to mean all")
        _authorities(checking, terms)


def _host(checking: Checking, listener: Listener, terms: ClientCertificates, index: int, host: str) -> None:
    at, problems = terms.at("hosts", index), checking.problems
    base = host.removeprefix("*.")
    if base != base.lower() or not names.is_name(base) or names.is_address(base):
        problems.error(at, f"`{host}` is no server name", "a lower-case name, or `*.` and a name, without a port")
        return
    if host == checking.portal_host and terms.required:
        problems.error(at, f"`{host}` is the portal's host: nobody could sign in without a certificate")
    leaves = [leaf for leaf in (_leaf_of(checking, chain) for chain, _ in _chains(listener)) if leaf is not None]
    if leaves and not any(
        host in leaf or (not host.startswith("*.") and f"*.{_parent(host)}" in leaf) for leaf in leaves
    ):
        covered = any(_parent(name) == base for leaf in leaves for name in leaf)
        if not (host.startswith("*.") and covered):
            problems.error(at, f"no certificate of listener `{listener.name}` covers `{host}`")


def _parent(name: str) -> str:
    return name.partition(".")[2]


def _chains(listener: Listener) -> list[tuple[str, str]]:
    tls = listener.tls
    single = [(tls.certificate, tls.key)] if tls.certificate and tls.key else []
    return single + [(one.certificate, one.key) for one in tls.certificates]


def _leaf_of(checking: Checking, chain: str) -> tuple[str, ...] | None:
    try:
        return read_leaf(checking.path(chain)).names
    except ValueError:
        return None  # told where the certificate is checked


def _authorities(checking: Checking, terms: ClientCertificates) -> None:
    problems, at = checking.problems, terms.at("ca")
    found = checking.attempt(at, read_authority_file, checking.path(terms.ca))
    if found is None:
        return
    subjects = {one.subject for one in found}
    if any(one.issuer not in subjects for one in found):
        problems.error(
            at,
            f"{terms.ca} has an intermediate authority without the one above it: no chain could be proven",
            "every authority up to its root",
        )
    if len({(one.subject_key, one.key) for one in found}) > len({one.subject_key for one in found}):
        problems.warning(
            at,
            f"{terms.ca} has one name with two keys: `issuer` and revocation lists do not tell them apart",
            hint="well while an authority changes its key; for two authorities, two files",
        )
    now = checking.now.timestamp()
    ended = [one for one in found if one.not_after < now]
    if len(ended) == len(found):
        problems.error(at, f"every authority in {terms.ca} has expired")
    elif ended:
        problems.warning(at, f"{len(ended)} of {len(found)} authorities in {terms.ca} have expired")
    elif min(one.not_after for one in found) - now < EXPIRY_WARNING.total_seconds():
        problems.warning(at, f"an authority in {terms.ca} expires within {EXPIRY_WARNING.days} days")
    if terms.written("crl") and not terms.crl and terms.complete("crl"):
        problems.error(terms.at("crl"), "`crl` is empty", "files, or no `crl` to ask nothing about revocation")
    elif terms.crl:
        _lists(checking, terms, {one.subject for one in found if one.not_after >= now}, now)


def read_authority_file(path: Path) -> list[CertificateFacts]:
    """The authorities of a PEM file. Raises ValueError for anything that is none (ZT-TLS-04)."""
    raw = read_bytes(path)
    try:
        loaded = x509.load_pem_x509_certificates(raw)
    except ValueError:
        raise ValueError(f"{path} holds no readable PEM certificate") from None
    found = []
    for number, certificate in enumerate(loaded, 1):
        try:
            facts = read_certificate(certificate.public_bytes(Encoding.DER))
        except ValueError as error:
            raise ValueError(f"certificate {number} of {path} is {error}") from None
        if not facts.authority:
            raise ValueError(f"certificate {number} of {path} is no authority's (CA:TRUE is missing)")
        found.append(facts)
    return found


def _lists(checking: Checking, terms: ClientCertificates, subjects: set[bytes], now: float) -> None:
    """The wrong file named is an error. What a file holds just now, and what time brings about, is a warning: lists are
    written by others while the proxy runs, and no start or reload may wait for them. Whoever they are about is refused.
    """
    problems = checking.problems
    signers = crl.read_authorities(read_bytes(checking.path(terms.ca)))
    listed: set[bytes] = set()
    unread = False
    for index, file in enumerate(terms.crl):
        at = terms.at("crl", index) if len(terms.crl) > 1 else terms.at("crl")
        try:
            for der in crl.split(read_bytes(checking.path(file))):
                found = crl.read(der, signers, now)
                listed.add(found.issuer)
                if found.next_update <= now:
                    problems.warning(
                        at, f"{file} is past its next update: every certificate of {found.name} is refused"
                    )
        except crl.DamagedError as error:
            unread = True
            problems.warning(at, f"{file} {error}: until it is mended, certificates it is about may be refused")
        except crl.ListError as error:
            unread = True
            problems.error(at, f"{file} {error}")
        except ValueError as error:
            unread = True
            problems.error(at, str(error))
    if not unread:
        for signer in signers:
            if signer.issuer in subjects - listed:
                problems.error(
                    terms.at("crl"),
                    f"no list is of {signer.name}: every certificate it issued would be refused",
                    "a list of each authority",
                )


# ---- integrations ----


def _integration(checking: Checking, name: str, integration: Integration) -> None:
    problems = checking.problems
    if not integration.owner.strip():
        problems.error(integration.at("owner"), "`owner` is empty", "a person or a mailbox that answers for it")
    if integration.expires is not None:
        left = integration.expires - checking.now.timestamp()
        if left < 0:
            problems.warning(integration.at("expires"), f"integration `{name}` has expired: it is refused")
        elif left < EXPIRY_WARNING.total_seconds():
            problems.warning(
                integration.at("expires"), f"integration `{name}` expires within {EXPIRY_WARNING.days} days"
            )
    if not integration.certificate and integration.complete("certificate"):
        problems.error(integration.at("certificate"), "`certificate` is empty: nothing could prove who it is")
    for match in integration.certificate:
        _certificate(checking, match)
    if not integration.allow and integration.complete("allow"):
        problems.error(integration.at("allow"), f"`allow` is empty: integration `{name}` could do nothing")
    routes = {route.name: route for route in checking.schema.routes}
    for scope in integration.allow:
        route = routes.get(scope.route)
        if route is None:
            if checking.schema.complete("routes"):
                problems.error(scope.at("route"), f"`{scope.route}` is no route", hint=nearest(scope.route, routes))
            continue
        check_match(checking, route, scope)
        if not (scope.methods or scope.paths or scope.acts or scope.objects):
            problems.warning(scope.start, f"integration `{name}` may do everything on route `{scope.route}`")


def _reach(checking: Checking) -> None:
    """Routes whose port is one where nobody is asked for a certificate. Where ports are mapped, nothing is said."""
    schema = checking.schema
    wanted = {scope.route for one in schema.integrations.values() for scope in one.allow}
    asking = [listener for listener in schema.listen if listener.client_certificates]
    for route in schema.routes:
        host, port = _place(checking, route)
        here = [listener for listener in schema.listen if _port(listener) == port]
        if route.name not in wanted or not here or not asking or any(_asks(listener, host) for listener in here):
            continue
        other = next((_port(listener) for listener in asking if _asks(listener, host)), None)
        checking.problems.warning(
            route.at("host"),
            f"nobody is asked for a certificate at `{host}` on port {port}, so no integration gets to `{route.name}`",
            hint=f"`host: {host}:{other}` if they come in at that port" if other else "",
        )


def _place(checking: Checking, route: Route) -> tuple[str, int]:
    try:
        return names.public_host(route.host, checking.portal_port)
    except ValueError:
        return "", 0  # told where routes are checked


def _port(listener: Listener) -> int:
    try:
        return names.bind(listener.address)[1]
    except ValueError:
        return -1


def _asks(listener: Listener, host: str) -> bool:
    return any(
        not terms.hosts or host in terms.hosts or f"*.{_parent(host)}" in terms.hosts
        for terms in listener.client_certificates
    )


def _certificate(checking: Checking, match: CertificateMatch) -> None:
    problems = checking.problems
    given = [key for key in ("san_uri", "san_dns", "subject", "sha256") if getattr(match, key) is not None]
    if not given and not match.damaged:
        said = "`issuer` alone would match whoever it vouches for" if match.issuer else "an empty `certificate`"
        problems.error(match.start, said, "`san_uri`, `san_dns`, `sha256`, or `issuer` and `subject`")
    if match.subject is not None and match.issuer is None and not match.damaged:
        problems.error(
            match.at("subject"), "`subject` without `issuer`: any authority could give it away", "`issuer` too"
        )
    for key in ("issuer", "subject"):
        text = getattr(match, key)
        if text is not None:
            try:
                parse_name(text)
            except ValueError:
                problems.error(
                    match.at(key), f"`{text}` is no distinguished name", "one such as `CN=crm-sync,O=Example`"
                )
    if match.san_uri is not None and not _URI.fullmatch(match.san_uri):
        problems.error(
            match.at("san_uri"), f"`{match.san_uri}` is no URI", "one such as `spiffe://example.com/crm-sync`"
        )
    elif (
        match.san_uri is not None
        and match.san_uri.lower().startswith("spiffe:")
        and not _SPIFFE.fullmatch(match.san_uri)
    ):
        problems.error(
            match.at("san_uri"),
            f"`{match.san_uri}` is no SPIFFE ID",
            "`spiffe://`, a lower-case trust domain and a path",
        )
    if match.san_dns is not None and (match.san_dns != match.san_dns.lower() or not names.is_name(match.san_dns)):
        problems.error(match.at("san_dns"), f"`{match.san_dns}` is no name", "a lower-case DNS name without `*`")
    if match.sha256 is not None and not _SHA256.fullmatch(match.sha256.replace(":", "")):
        problems.error(match.at("sha256"), "not a SHA-256 fingerprint", "64 hexadecimal digits, colons allowed")


def _mistaken(checking: Checking) -> None:
    """Two integrations that one certificate could be: it would be refused as ambiguous."""
    known: list[tuple[str, Matching]] = []
    for name, integration in checking.schema.integrations.items():
        for match in integration.certificate:
            try:
                matching = certificate_match(match)
            except ValueError:
                continue  # told above
            for other, before in known:
                if other != name and _overlap(matching, before):
                    checking.problems.error(
                        match.start, f"`{name}` and `{other}` would match the same certificate: it would be refused"
                    )
            known.append((name, matching))


def _overlap(one: Matching, other: Matching) -> bool:
    """They share a condition, and contradict each other in none."""
    pairs = [(getattr(one, field), getattr(other, field)) for field in Matching.__struct_fields__]
    named = [
        (left, right)
        for field, (left, right) in zip(Matching.__struct_fields__, pairs, strict=True)
        if field != "issuer"
    ]
    return any(left and left == right for left, right in named) and all(
        not left or not right or left == right for left, right in pairs
    )


def _way_in(checking: Checking) -> None:
    schema, problems = checking.schema, checking.problems
    asking = [terms for listener in schema.listen for terms in listener.client_certificates]
    whole = schema.complete("listen") and not any(listener.damaged for listener in schema.listen)
    if schema.integrations and not asking and whole:
        problems.error(
            schema.at("integrations"),
            "no listener asks for client certificates: no integration could get in",
            "`client_certificates` at a listener",
        )
    if asking and not schema.integrations and schema.complete("integrations"):
        for terms in asking:
            if terms.required:
                problems.warning(
                    terms.start, "certificates are required, and there are no `integrations`: nobody gets in"
                )
    if len({terms.ca for terms in asking}) > 1:
        for name, integration in schema.integrations.items():
            if any(not match.issuer and not match.sha256 for match in integration.certificate):
                problems.warning(
                    schema.at("integrations", name),
                    f"any of several files of authorities can vouch for `{name}`",
                    hint="`issuer` names the one that may",
                )
