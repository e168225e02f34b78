"""A verified token's claims → a sign-in, or a refusal (OpenID Connect Core §3.1.3.7; FIELD's real-world deviations)."""

import hashlib
import hmac
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from zt_proxy.control.identity.levels import attested
from zt_proxy.control.identity.presets import PRESETS
from zt_proxy.control.identity.strict import printable, string_list
from zt_proxy.control.identity.tokens import VerifiedToken, token_error
from zt_proxy.control.identity.types import NotAdmitted, VerifiedLogin
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import SKEW
from zt_proxy.core.errors import ProviderError, Reason
from zt_proxy.core.keys import Secret, b64encode
from zt_proxy.core.session import ClaimValue, Level, Principal

MAX_GROUPS = 5_000
MAX_IAT_AGE = 600.0
"""Seconds: a token fetched directly from the token endpoint was made just now."""
_LATEST = 1e11
"""Epoch seconds beyond which a time is nonsense (year 5138)."""

log = structlog.get_logger(__name__)


class Expectation(msgspec.Struct, frozen=True):
    """What this sign-in asked for. Times are seconds since the epoch, `max_age` seconds."""

    nonce: str
    access_token: Secret
    now: float
    max_age: float | None
    forced_after: float | None


def login_from_token(
    token: VerifiedToken, raw: Secret, settings: ProviderSettings, expected: Expectation
) -> VerifiedLogin:
    """Raises ProviderError: LOGIN_TOKEN_INVALID, LOGIN_NOT_FRESH or LOGIN_GROUPS_OVERAGE."""
    claims = token.claims
    if claims.get("iss") != settings.issuer:  # equality of whole strings; a list never equals one (ZT-OIDC-08)
        raise token_error("ID token: iss is not the configured issuer")
    _check_audience(claims, settings.client_id)
    issued = _check_times(claims, expected.now)
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), expected.nonce.encode()):
        raise token_error("ID token: nonce is not that of this sign-in")
    subject = claims.get("sub")
    if printable(subject, 255) is None or not str(subject).isascii():
        raise token_error("ID token: sub is not a printable ASCII string of at most 255 characters")
    _check_access_token_hash(claims, token.header.alg, expected.access_token)
    PRESETS[settings.preset].check(claims, settings.tenant)
    auth_time = _check_freshness(claims, expected)
    proved = attested(claims, settings)
    return VerifiedLogin(
        principal=_principal(claims, str(subject), settings),
        acr=proved.acr,
        amr=proved.amr,
        auth_time=auth_time,
        mfa=settings.insecure_no_mfa or proved.level >= Level.MULTI,
        level=proved.level,
        id_token=raw,
        provider_sid=printable(claims.get("sid"), 255),
        provider=settings.name,
        issued=issued,
    )


def renewed_principal(
    token: VerifiedToken, access_token: Secret, settings: ProviderSettings, who: Principal, now: float
) -> Principal:
    """Who the person is by the ID token of a refresh: issuer, audience and subject are those of the sign-in (OpenID
    Connect Core §12.2). What it says of the proof is not looked at: nobody has proved anything.

    Raises ProviderError: LOGIN_TOKEN_INVALID for a token that says nothing here; NotAdmitted for one that is to be
    believed, and says that the session is nobody's of here any more: with the reason that a sign-in would be given.
    """
    claims = token.claims
    if claims.get("iss") != settings.issuer or who.issuer != settings.issuer:
        raise token_error("ID token: iss is not that of the sign-in")
    _check_audience(claims, settings.client_id)
    _check_times(claims, now)
    _check_access_token_hash(claims, token.header.alg, access_token)
    if claims.get("sub") != who.subject:
        raise NotAdmitted(Reason.LOGIN_OTHER_SUBJECT, "a refresh gave another person's ID token", status=403)
    try:
        PRESETS[settings.preset].check(claims, settings.tenant)
        return _principal(claims, who.subject, settings)
    except ProviderError as error:
        raise NotAdmitted(error.reason, error.detail, status=error.status) from None


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    aud = claims.get("aud")
    audiences = [aud] if isinstance(aud, str) else string_list(aud) or []
    if client_id not in audiences:  # an empty list names nobody (FIELD 26)
        raise token_error("ID token: aud does not name this client")
    if "azp" in claims and claims["azp"] != client_id:
        raise token_error("ID token: azp is another client")
    if len(audiences) > 1 and "azp" not in claims:
        raise token_error("ID token: several audiences and no azp")


def check_time(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 §2); None when absent. Strings, bools and absurd values are refused."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise token_error(f"ID token: {name} is not a number")
    if not math.isfinite(value) or not 0 <= value <= _LATEST:
        raise token_error(f"ID token: {name} is not a time")
    return float(value)


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    """Gives `iat`. Skew is allowed both ways (ZT-OIDC-17)."""
    expires, issued, not_before = (check_time(claims, name) for name in ("exp", "iat", "nbf"))
    if expires is None or issued is None:
        raise token_error("ID token: exp or iat is missing")
    if now >= expires + SKEW:
        raise token_error("ID token: expired")
    if issued > now + SKEW or (not_before is not None and not_before > now + SKEW):
        raise token_error("ID token: from the future; compare the clocks of proxy and provider")
    if issued < now - MAX_IAT_AGE - SKEW:
        raise token_error("ID token: issued too long ago")
    return issued


def _check_access_token_hash(claims: Mapping[str, Any], alg: str, access_token: Secret) -> None:
    """OpenID Connect Core §3.1.3.6, when the provider sends it. Ed25519 hashes with SHA-512."""
    if "at_hash" not in claims:
        return
    digest = hashlib.new("sha512" if alg == "EdDSA" else f"sha{alg[2:]}", access_token.reveal().encode()).digest()
    sent = claims["at_hash"]
    right = b64encode(digest[: len(digest) // 2])
    if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), right.encode()):
        raise token_error("ID token: at_hash is not that of the access token")


def _check_freshness(claims: Mapping[str, Any], expected: Expectation) -> float:
    """Gives the time of the proof; 0, longer ago than anything asks for, where the provider does not say it. `iat`
    would make a proof of last week fresh: the provider may have let somebody through without a question.

    A provider that was asked for freshness must say when the proof was made.
    """
    auth_time = check_time(claims, "auth_time")
    asked = expected.max_age is not None or expected.forced_after is not None
    if auth_time is None:
        if asked:
            raise ProviderError(
                Reason.LOGIN_NOT_FRESH, "ID token has no auth_time although it was asked for", status=403
            )
        return 0.0
    if auth_time > expected.now + SKEW:
        raise token_error("ID token: auth_time is in the future")
    if expected.max_age is not None and expected.now - auth_time > expected.max_age + SKEW:
        raise ProviderError(Reason.LOGIN_NOT_FRESH, "auth_time is older than max_age allows", status=403)
    if expected.forced_after is not None and auth_time < expected.forced_after - SKEW:
        raise ProviderError(Reason.LOGIN_NOT_FRESH, "auth_time is before a fresh proof was asked for", status=403)
    return auth_time


def _principal(claims: Mapping[str, Any], subject: str, settings: ProviderSettings) -> Principal:
    preset = PRESETS[settings.preset]
    email = printable(claims.get("email"), 320)
    if email is not None and ("@" not in email or " " in email or not preset.email_is_verified(claims, email)):
        email = None
    if email is not None and email.rpartition("@")[2].lower() in settings.foreign_domains:
        log.warning("address of another provider's domain was ignored", provider=settings.name)
        email = None
    return Principal(
        subject=subject,
        issuer=settings.issuer,
        provider=settings.name,
        email=email,
        name=printable(claims.get("name"), 256),
        groups=_groups(claims, settings),
        roles=frozenset(_names(preset.roles(claims), "roles", settings.name)),
        claims={
            name: value
            for name in settings.claims
            # An unverified address must not come back through the side door.
            if (name != "email" or email is not None) and (value := _claim_value(claims.get(name))) is not None
        },
    )


def _groups(claims: Mapping[str, Any], settings: ProviderSettings) -> frozenset[str]:
    name = settings.groups_claim
    groups = _names(claims.get(name), name, settings.name)
    if not groups and is_overage(claims, name) and not settings.directory:
        raise ProviderError(
            Reason.LOGIN_GROUPS_OVERAGE, f"the provider left {name} out because there are too many", status=403
        )
    if len(groups) > MAX_GROUPS:
        raise ProviderError(Reason.LOGIN_GROUPS_OVERAGE, f"{name} has more than {MAX_GROUPS} entries", status=403)
    return frozenset(groups)


def is_overage(claims: Mapping[str, Any], name: str) -> bool:
    """Entra's ways to say that groups are not in the token (distributed claims, OpenID Connect Core §5.6.2)."""
    elsewhere = claims.get("_claim_names")
    return bool(claims.get("hasgroups")) or (isinstance(elsewhere, dict) and name in elsewhere)


def _names(value: object, claim: str, provider: str) -> list[str]:
    """The names in a list claim. Any other shape counts as no names, whole: nothing is split or picked out of it."""
    if value is None:
        return []
    names = string_list(value)
    if names is None:
        log.warning("claim is not a list of strings and was ignored", provider=provider, claim=claim)
        return []
    if not all(name and name.isprintable() for name in names):
        raise token_error(f"ID token: {claim} has entries that are empty or not printable")
    return names


def _claim_value(value: object) -> ClaimValue | None:
    """A claim in the shapes that rules can compare; None for any other."""
    if isinstance(value, str | bool | int | float):
        return value
    names = string_list(value)
    return None if names is None else tuple(names)
