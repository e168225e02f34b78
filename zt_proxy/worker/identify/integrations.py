"""Client certificate → integration: which machine a connection is, at this moment.

A connection keeps what it showed (`Shown`) and the last answer about it. The answer is made again when a revocation
list changed or its own time is over, so that a request costs one comparison of times, and nothing that was revoked,
expired or ended counts any longer than that (ZT-TLS-08, ZT-TLS-09).
"""

import itertools
import math
from collections.abc import Container, Iterable, Mapping

import structlog

from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Machine, Principal
from zt_proxy.link.messages import RevocationList
from zt_proxy.worker.identify.assertion import MACHINE_PREFIX
from zt_proxy.worker.identify.certificate import CertificateFacts, NameKey, Verdict, judge_chain, read_certificate
from zt_proxy.worker.settings import CertificateMatch, IntegrationSettings

log = structlog.get_logger("zt_proxy.identify")

REMEMBERED = 1024
"""Chains that were read, and statements about them, that are kept: clients come back on new connections."""
FOREVER = float("inf")
_EPOCHS = itertools.count()
_NOBODY = Principal("", "", "")


class ClientTerms:
    """What one set of terms asks of clients: `edge.tls` makes it of a file of authorities."""

    __slots__ = ("authorities", "required", "revocation", "source")

    def __init__(
        self,
        source: str,
        authorities: Mapping[NameKey, Container[bytes]],
        *,
        required: bool = False,
        revocation: bool = False,
    ) -> None:
        self.source = source
        """Path of the file of authorities; revocation lists count for the terms that name the same."""
        self.authorities = authorities
        """Subject → keys, for every authority of the file."""
        self.required = required
        self.revocation = revocation


class KnownMachine:
    """A machine as this worker knows it: the same object as long as nothing about it changes."""

    __slots__ = ("machine",)

    def __init__(self, machine: Machine) -> None:
        self.machine = machine


class Shown:
    """What a connection showed under terms that ask for a certificate, and what that means just now."""

    __slots__ = ("chain", "epoch", "fingerprint", "found", "since", "stranger", "terms", "until")

    def __init__(self, terms: ClientTerms, chain: tuple[bytes, ...]) -> None:
        self.terms = terms
        self.chain = chain
        """DER, leaf first, as TLS proved it; empty: no certificate."""
        self.fingerprint = ""
        self.stranger: Machine | None = None
        """The certificate as it is on record while it does not count, with the integration it would be."""
        self.epoch = -1
        self.since = self.until = 0.0
        self.found: KnownMachine | Reason | None = None

    @property
    def speaks_for_machine(self) -> bool:
        """Whoever this is reads no pages: it showed a certificate, or should have."""
        return bool(self.chain) or self.terms.required


class Integrations:
    """The integrations of one worker, by what their certificates say. Compiled once; lists change underneath."""

    def __init__(self, settings: Iterable[IntegrationSettings]) -> None:
        self._by: dict[tuple[str, object], list[tuple[CertificateMatch, IntegrationSettings]]] = {}
        self._principals: dict[str, Principal] = {}
        self._lists: dict[str, dict[bytes, RevocationList]] = {}
        self._read: dict[tuple[bytes, ...], tuple[tuple[bytes, ...], tuple[CertificateFacts, ...] | str]] = {}
        self._machines: dict[tuple[str, str], KnownMachine] = {}
        self._told: set[tuple[str, Reason]] = set()
        self.epoch = next(_EPOCHS)
        """Another whenever an answer may have changed otherwise than by time; no two worlds share one."""
        for one in settings:
            self._principals[one.name] = Principal(
                MACHINE_PREFIX + one.name, "", "", name=one.name, integration=one.name, owner=one.owner
            )
            for match in one.certificates:
                self._by.setdefault(_index_of(match), []).append((match, one))

    def __len__(self) -> int:
        return len(self._principals)

    def revocations(self, lists: Iterable[RevocationList]) -> None:
        """These lists are in force from now on, and no others."""
        by_source: dict[str, dict[bytes, RevocationList]] = {}
        for one in lists:
            by_source.setdefault(one.source, {})[one.issuer] = one
        self._lists = by_source
        self._told.clear()
        self.epoch = next(_EPOCHS)

    def show(self, terms: ClientTerms, chain: tuple[bytes, ...]) -> Shown:
        """A connection's handshake is done: this is what it showed."""
        if not chain:
            return Shown(terms, ())
        known, facts = self._facts(chain)
        shown = Shown(terms, known)
        if isinstance(facts, tuple):
            shown.fingerprint = facts[0].fingerprint
            shown.stranger = Machine(_NOBODY, shown.fingerprint, 0.0)
        return shown

    def identify(self, shown: Shown, now: float) -> KnownMachine | Reason | None:
        """The machine behind a connection, why there is none, or None: no certificate, and none needed."""
        if shown.epoch != self.epoch or not shown.since <= now <= shown.until:
            shown.epoch, shown.found = -1, Reason.CERTIFICATE_UNSUITABLE  # stands until a judgement came to its end
            self._judge(shown, now)
            shown.epoch = self.epoch
        return shown.found

    def _judge(self, shown: Shown, now: float) -> None:
        shown.since, shown.until = -FOREVER, FOREVER
        if not shown.chain:
            shown.found = Reason.CERTIFICATE_REQUIRED if shown.terms.required else None
            return
        _, facts = self._facts(shown.chain)
        if isinstance(facts, str):
            verdict = Verdict(Reason.CERTIFICATE_UNSUITABLE, facts, -FOREVER, FOREVER)
        else:
            lists = self._lists.get(shown.terms.source, {}) if shown.terms.revocation else None
            verdict = judge_chain(facts, shown.terms.authorities, lists, now)
        shown.since, shown.until = verdict.since, verdict.until
        if verdict.reason is not None or isinstance(facts, str):
            shown.found = verdict.reason or Reason.CERTIFICATE_UNSUITABLE
            if shown.found is not Reason.CERTIFICATE_UNSUITABLE and isinstance(facts, tuple):
                self._name_stranger(shown, self._match(facts[0]))
            self._tell(shown.fingerprint, shown.found, verdict.detail)
            return
        shown.found = self._machine(facts[0], shown, now)

    def _name_stranger(self, shown: Shown, found: IntegrationSettings | Reason) -> None:
        """Whose certificate it would be, for the record of its refusal."""
        if not isinstance(found, Reason):
            shown.stranger = Machine(Principal("", "", "", integration=found.name), shown.fingerprint, 0.0)

    def _tell(self, fingerprint: str, reason: Reason, detail: str) -> None:
        """The log says it once for each certificate, however often it comes back."""
        if (fingerprint, reason) in self._told:
            return
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told.add((fingerprint, reason))
        log.warning("client certificate refused", reason=reason.value, detail=detail, sha256=fingerprint)

    def _machine(self, leaf: CertificateFacts, shown: Shown, now: float) -> KnownMachine | Reason:
        found = self._match(leaf)
        if isinstance(found, Reason):
            return found
        if found.expires is not None:
            if now > found.expires:
                shown.since, shown.until = math.nextafter(found.expires, FOREVER), FOREVER
                self._name_stranger(shown, found)
                return Reason.INTEGRATION_EXPIRED
            shown.until = min(shown.until, found.expires)
        machine = Machine(self._principals[found.name], leaf.fingerprint, shown.until)
        # The same object while nothing changed: what was signed for it is found by identity.
        key = (leaf.fingerprint, found.name)
        known = self._machines.get(key)
        if known is not None and known.machine == machine:
            return known
        if len(self._machines) >= REMEMBERED:
            self._machines.clear()
        known = self._machines[key] = KnownMachine(machine)
        return known

    def _match(self, leaf: CertificateFacts) -> IntegrationSettings | Reason:
        """The one integration of a certificate; the common name is never looked at alone (ZT-TLS-06)."""
        keys: list[tuple[str, object]] = [("sha256", leaf.fingerprint), ("subject", leaf.subject_key)]
        keys += [("uri", uri) for uri in leaf.uris]
        keys += [("dns", name) for name in leaf.dns]
        found: dict[str, IntegrationSettings] = {}
        for key in keys:
            for match, integration in self._by.get(key, ()):
                if not _fits(match, leaf):
                    continue
                if match.san_uri and len(leaf.uris) > 1:  # one certificate, one identity (SPIFFE X.509-SVID §2)
                    return Reason.CERTIFICATE_AMBIGUOUS
                found[integration.name] = integration
        if len(found) > 1:
            return Reason.CERTIFICATE_AMBIGUOUS
        return next(iter(found.values()), Reason.CERTIFICATE_UNKNOWN)

    def _facts(self, chain: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], tuple[CertificateFacts, ...] | str]:
        """The chain, as one object however many connections show it, and what it says, or why it cannot be read."""
        known = self._read.get(chain)
        if known is None:
            facts: tuple[CertificateFacts, ...] | str
            try:
                facts = tuple(map(read_certificate, chain))
            except ValueError as error:
                facts = str(error)
            if len(self._read) >= REMEMBERED:
                self._read.clear()
            known = self._read[chain] = (chain, facts)
        return known


def _index_of(match: CertificateMatch) -> tuple[str, object]:
    """Under which of its conditions a match is found; a match without any is found under none."""
    if match.sha256:
        return ("sha256", match.sha256)
    if match.san_uri:
        return ("uri", match.san_uri)
    if match.san_dns:
        return ("dns", match.san_dns)
    return ("subject", match.subject) if match.subject and match.issuer else ("nothing", "")


def _fits(match: CertificateMatch, leaf: CertificateFacts) -> bool:
    return (
        (not match.sha256 or match.sha256 == leaf.fingerprint)
        and (not match.san_uri or match.san_uri in leaf.uris)
        and (not match.san_dns or match.san_dns in leaf.dns)
        and (not match.issuer or match.issuer == leaf.issuer_key)
        and (not match.subject or match.subject == leaf.subject_key)
    )
