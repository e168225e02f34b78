"""What the token endpoint answers (RFC 6749 §5). Nothing of a body shows in an error but a checked error code."""

import re

import msgspec

from zt_proxy.control.identity.fetch import Reply, invalid, json_body
from zt_proxy.control.identity.strict import parse_object
from zt_proxy.control.identity.types import LoginRefused
from zt_proxy.core.errors import ProviderError
from zt_proxy.core.keys import Secret

WHAT = "token endpoint"
_OF_THE_PERSON = frozenset(
    ("invalid_grant", "interaction_required", "login_required", "consent_required", "access_denied")
)
"""Errors that say no to this sign-in, or to this person from now on, and nothing of the set-up: beside RFC 6749 §5.2
those of OpenID Connect Core §3.1.2.6, which Entra ID answers refreshes with where it wants to see the person."""
_ERROR_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


class Renewal(msgspec.Struct, frozen=True):
    """A successful answer to a refresh token (RFC 6749 §6)."""

    access_token: Secret
    id_token: Secret | None
    """May be left out (OpenID Connect Core §12.2)."""
    refresh_token: Secret | None
    """The one to use from now on; None: the same as before, or none at all."""
    lifetime: float | None
    """Seconds that the access token is good for."""


class Tokens(msgspec.Struct, frozen=True):
    """A successful answer to an authorization code."""

    id_token: Secret
    access_token: Secret
    refresh_token: Secret | None = None
    lifetime: float | None = None
    """See `Renewal`."""


def read_tokens(reply: Reply) -> Tokens:
    """Raises LoginRefused for a code that does not count, ProviderError(PROVIDER_INVALID) for anything else."""
    answer = read_renewal(reply)
    if answer.id_token is None:
        raise invalid(f"{WHAT}: no id_token; is the scope openid granted?")
    return Tokens(answer.id_token, answer.access_token, answer.refresh_token, answer.lifetime)


def read_renewal(reply: Reply) -> Renewal:
    """Raises LoginRefused for a token that does not count (any more), ProviderError(PROVIDER_INVALID) otherwise."""
    if reply.status in {400, 401, 403}:
        raise _refusal(reply)
    body = json_body(reply, WHAT)
    try:
        answer = parse_object(body)
    except ValueError as error:
        raise invalid(f"{WHAT}: {error}") from None
    kind, access_token, id_token = (answer.get(name) for name in ("token_type", "access_token", "id_token"))
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise invalid(f"{WHAT}: token_type is not Bearer")
    if not isinstance(access_token, str) or not access_token:
        raise invalid(f"{WHAT}: no access_token")
    again, lifetime = answer.get("refresh_token"), answer.get("expires_in")
    return Renewal(
        access_token=Secret(access_token),
        id_token=Secret(id_token) if isinstance(id_token, str) and id_token else None,
        refresh_token=Secret(again) if isinstance(again, str) and again else None,
        lifetime=float(lifetime) if isinstance(lifetime, int | float) and not isinstance(lifetime, bool) else None,
    )


def _refusal(reply: Reply) -> ProviderError:
    code = error_code(reply)
    if not code:
        return invalid(f"{WHAT}: status {reply.status} without an OAuth error")
    if code in _OF_THE_PERSON:  # such as a used, expired or foreign code
        return LoginRefused(code)
    return invalid(f"{WHAT}: refused with {code}")


def error_code(reply: Reply) -> str:
    """The `error` of a refusal (§5.2); empty when the body is no JSON object."""
    try:
        return safe_code(parse_object(reply.body).get("error"))
    except ValueError:
        return ""


def safe_code(value: object) -> str:
    """`value` if it is a short code of safe characters, else `unreadable_error`."""
    return value if isinstance(value, str) and _ERROR_CODE.fullmatch(value) else "unreadable_error"
