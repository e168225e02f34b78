"""The signed statement of who asks, which every permitted request carries upstream as `X-ZT-Assertion`.

A compact JWT (RFC 7519), ES256 (RFC 7518 §3.4), at most `LIFE` seconds good and used for at most half of that, so that
whoever gets one always has a minute to verify it. Signing costs some 50 µs and happens once a minute for each session
and route; between, a request costs one dict look-up.

The cache is a dict in the order of signing. All entries live equally long, so its front is what ends first: making
room drops the oldest, and nothing needs to be moved on a hit.
"""

from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key

from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ClientError, ConfigurationError, Reason, UnavailableError
from zt_proxy.core.keys import b64encode
from zt_proxy.core.session import Machine, Session
from zt_proxy.link.messages import SigningKey

LIFE = 120
"""Seconds between `iat` and `exp`; an upstream that tolerates 30 s of skew accepts it for 150."""

MACHINE_PREFIX = "integration:"
"""Begins `sub` of an integration; a person whose provider calls them so gets no statement."""

PORTAL_LIFE = 60
PORTAL_AUDIENCE = "zt-portal"
"""`aud` of what a worker tells the portal; no route may have it."""
PORTAL_TYPE = "zt-portal+jwt"
"""`typ` of the same: explicit typing, so that neither kind can stand in for the other (RFC 8725 §3.11)."""

_ECDSA = ec.ECDSA(SHA256())


class Statement(NamedTuple):
    """What an assertion says of the request, besides who asks; empty fields are left out."""

    action: str = ""
    """As the route's profile reads the request."""
    risk: str = ""
    """`low`, `medium` or `high`."""
    justification: str = ""
    """What the person said when asked why."""
    approved_by: str = ""
    break_glass: bool = False
    roles: tuple[str, ...] = ()
    """Of the configuration, beside the provider's."""


PLAIN = Statement()


class _Claims(msgspec.Struct, omit_defaults=True):
    iss: str
    aud: str
    sub: str
    groups: list[str]
    roles: list[str]
    amr: list[str]
    iat: int
    nbf: int
    exp: int
    auth_time: int | None = None
    sid: str | None = None
    acr: str = ""
    email: str | None = None
    name: str | None = None
    integration: str | None = None
    action: str = ""
    risk: str = ""
    device: str = ""
    justification: str = ""
    approved_by: str = ""
    break_glass: bool = False


class _PortalClaims(msgspec.Struct, omit_defaults=True):
    iss: str
    aud: str
    host: str
    client: str
    rid: str
    iat: int
    nbf: int
    exp: int
    sid: str | None = None


class Signed:
    """One assertion and until when it may be sent again. `lines` is the caller's, for what it makes of the token."""

    __slots__ = ("lines", "renew_at", "session", "signed_at", "signer", "token")

    def __init__(
        self, signer: "_Signer", session: Session | Machine, signed_at: int, renew_at: float, token: bytes
    ) -> None:
        self.signer = signer
        self.session = session
        self.signed_at = signed_at
        self.renew_at = renew_at
        self.token = token
        self.lines = b""


class _Signer:
    """One private key, with both JOSE headers encoded once."""

    __slots__ = ("_assertion", "_key", "_portal")

    def __init__(self, key: SigningKey) -> None:
        try:
            private = load_der_private_key(key.private_der, password=None)
        except (ValueError, TypeError) as error:
            raise ConfigurationError("the assertion key is not a PKCS#8 private key") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise ConfigurationError("the assertion key is not on the curve P-256")
        self._key = private
        self._assertion = _segment({"alg": "ES256", "kid": key.kid, "typ": "JWT"}) + b"."
        self._portal = _segment({"alg": "ES256", "kid": key.kid, "typ": PORTAL_TYPE}) + b"."

    def sign(self, claims: _Claims | _PortalClaims) -> bytes:
        """The compact form; the signature is r || s, 32 bytes each (RFC 7518 §3.4), not DER."""
        head = self._assertion if isinstance(claims, _Claims) else self._portal
        text = head + _segment(claims)
        r, s = decode_dss_signature(self._key.sign(text, _ECDSA))
        return text + b"." + b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).encode("ascii")


def _segment(value: object) -> bytes:
    return b64encode(msgspec.json.encode(value)).encode("ascii")


_Key = tuple[str, str, Statement]


class AssertionSigner:
    """Signs assertions for the routes of one worker. A reload of the configuration makes a new one.

    `issuer` is the portal's origin. Until `key` was called once, and for a route with the portal's own audience,
    signing raises: a request without a signed statement must not go upstream.
    """

    __slots__ = ("_cache", "_capacity", "_issuer", "_now", "_signer")

    def __init__(self, issuer: str, clock: Clock, *, capacity: int = 10_000) -> None:
        self._issuer = issuer
        self._now = clock.now
        self._capacity = capacity
        self._cache: dict[_Key, Signed] = {}
        self._signer: _Signer | None = None

    def key(self, key: SigningKey) -> None:
        """Sign with this key from now on. Raises ConfigurationError if it is not a P-256 key; the old one then stays.

        What the old key signed is not sent again: the key may have been changed because it leaked.
        """
        self._signer = _Signer(key)
        self._cache.clear()

    def header(self, session: Session, audience: str, route: str) -> bytes:
        """The assertion of `session` for `route`, as the value of `X-ZT-Assertion`.

        Raises UnavailableError(CONTROL_UNAVAILABLE) while there is no key.
        """
        return self.signed(session, audience, route).token

    def signed(self, session: Session, audience: str, route: str, statement: Statement = PLAIN) -> Signed:
        """As `header`, with room beside the token for the header lines made of it."""
        entry = self._cache.get((session.sid, route, statement))
        # Another Session object means that control said something new: a step-up, a refresh, other groups.
        # A clock that was set back would stretch the reuse, hence both bounds.
        if entry is not None and entry.session is session and entry.signed_at <= self._now() < entry.renew_at:
            return entry
        return self._sign(session, audience, route, statement)

    def good(self, signed: Signed, session: Session, at: float) -> bool:
        """What was signed may be sent again for this session at `at` (epoch seconds)."""
        return signed.signer is self._signer and signed.session is session and signed.signed_at <= at < signed.renew_at

    def machine(self, machine: Machine, audience: str, route: str, statement: Statement = PLAIN) -> Signed:
        """The same for an integration, whose `sub` is `integration:NAME` and which has no session."""
        entry = self._cache.get((machine.fingerprint, route, statement))
        if entry is not None and entry.session is machine and entry.signed_at <= self._now() < entry.renew_at:
            return entry
        now = int(self._now())
        principal = machine.principal
        claims = _Claims(
            iss=self._issuer,
            aud=audience,
            sub=principal.subject,
            name=principal.name,
            groups=[],
            roles=[],
            amr=[],
            integration=principal.integration,
            action=statement.action,
            iat=now,
            nbf=now,
            exp=int(min(now + LIFE, machine.until)),
        )
        return self._keep((machine.fingerprint, route, statement), machine, claims)

    def portal_header(self, *, host: str, client: str, sid: str | None, request_id: str) -> bytes:
        """What this worker vouches for towards the portal: for which host, from which address, in which session.

        Never cached. Raises UnavailableError(CONTROL_UNAVAILABLE) while there is no key.
        """
        now = int(self._now())
        return self._ready().sign(
            _PortalClaims(
                iss=self._issuer,
                aud=PORTAL_AUDIENCE,
                host=host,
                client=client,
                sid=sid,
                rid=request_id,
                iat=now,
                nbf=now,
                exp=now + PORTAL_LIFE,
            )
        )

    def forget(self, *sids: str) -> None:
        """Drop what was signed for these sessions; none given drops everything. One pass, however many."""
        if not sids:
            self._cache.clear()
            return
        gone = frozenset(sids)
        for key in [key for key in self._cache if key[0] in gone]:
            del self._cache[key]

    def __len__(self) -> int:
        return len(self._cache)

    def _ready(self) -> _Signer:
        if self._signer is None:
            raise UnavailableError(Reason.CONTROL_UNAVAILABLE, "no assertion key has arrived yet")
        return self._signer

    def _sign(self, session: Session, audience: str, route: str, statement: Statement) -> Signed:
        now = int(self._now())
        principal = session.principal
        if principal.subject.startswith(MACHINE_PREFIX):
            raise ClientError(Reason.CREDENTIALS_MIXED, "a provider gives a person the name of a machine", status=403)
        claims = _Claims(
            iss=self._issuer,
            aud=audience,
            sub=principal.subject,
            email=principal.email,
            name=principal.name,
            groups=sorted(principal.groups),
            roles=sorted(principal.roles.union(statement.roles)),
            acr=session.acr,
            amr=list(session.amr),
            auth_time=int(session.auth_time) or None,  # the provider did not say
            sid=session.sid,
            action=statement.action,
            risk=statement.risk,
            device="" if session.device_known is None else "known" if session.device_known else "new",
            justification=statement.justification,
            approved_by=statement.approved_by,
            break_glass=statement.break_glass,
            iat=now,
            nbf=now,
            # No statement outlives what it states.
            exp=min(now + LIFE, int(session.absolute_deadline)),
        )
        return self._keep((session.sid, route, statement), session, claims)

    def _keep(self, key: _Key, who: Session | Machine, claims: _Claims) -> Signed:
        signer = self._ready()
        if claims.aud == PORTAL_AUDIENCE:
            raise ConfigurationError(f"route {key[1]}: the audience {PORTAL_AUDIENCE} is the portal's own")
        now = claims.iat
        entry = Signed(signer, who, now, now + (claims.exp - now) / 2, signer.sign(claims))
        self._make_room(key, now)
        self._cache[key] = entry
        return entry

    def _make_room(self, key: _Key, now: int) -> None:
        """Forget the entry that is replaced (so that the order stays that of signing), the ended, and the oldest."""
        cache = self._cache
        cache.pop(key, None)
        while cache:
            oldest = next(iter(cache))
            if len(cache) < self._capacity and cache[oldest].renew_at > now:
                return
            del cache[oldest]
