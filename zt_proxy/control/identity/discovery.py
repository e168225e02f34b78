"""The provider's metadata (OpenID Connect Discovery 1.0, RFC 8414), fetched at first use and kept for an hour."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog

from zt_proxy.control.identity.fetch import Fetcher, SingleFlight, invalid, json_body
from zt_proxy.control.identity.strict import parse_object, string_list
from zt_proxy.control.settings import ProviderSettings
from zt_proxy.core.clock import Clock
from zt_proxy.core.errors import ConfigurationError, ProviderError, Reason

REFRESH = 3_600.0
"""Seconds after which metadata is fetched anew."""
STALE = 86_400.0
"""Seconds for which old metadata still serves while the provider does not answer (never when it answers wrongly)."""

_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")
"""Host and port as they go into pages' policies: nothing in it ends a directive, or stands for other hosts."""
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_OPTIONAL_ENDPOINTS = ("end_session_endpoint", "pushed_authorization_request_endpoint")

log = structlog.get_logger(__name__)


class Metadata(msgspec.Struct, frozen=True):
    """The part of the discovery document that is used, checked."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None
    sends_iss: bool
    """`authorization_response_iss_parameter_supported` (RFC 9207 §3)."""
    claims_parameter: bool = False
    """`claims_parameter_supported`: single claims can be asked for (OpenID Connect Core §5.5)."""
    push_endpoint: str | None = None
    """`pushed_authorization_request_endpoint` (RFC 9126 §5)."""
    requires_push: bool = False


def is_loopback(host: str | None) -> bool:
    """Whether a URL's host never leaves the machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


def check_url(url: object, *, loopback_http: bool) -> str:
    """An absolute https URL without user info or fragment; http only where allowed, and then to loopback only.

    Raises ValueError, without quoting the URL.
    """
    if not isinstance(url, str) or len(url) > 2_048 or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("not a URL")
    parts = urlsplit(url)
    _ = parts.port  # raises ValueError when it is not a number
    if not parts.hostname or not _AUTHORITY.fullmatch(parts.netloc) or "#" in url or "\\" in url:
        raise ValueError("not an absolute URL without user info and fragment")
    if parts.scheme == "https":
        return url
    if parts.scheme == "http" and loopback_http and is_loopback(parts.hostname):
        return url
    raise ValueError("not https")


def check_issuer(issuer: str) -> bool:
    """Refuse an issuer that Discovery §3 forbids. Gives whether http to loopback is allowed for its endpoints."""
    try:
        check_url(issuer, loopback_http=True)
    except ValueError as error:
        raise ConfigurationError(f"issuer {issuer!r}: {error}") from None
    if "?" in issuer:
        raise ConfigurationError(f"issuer {issuer!r}: has a query")
    return issuer.startswith("http:")


def read_metadata(raw: bytes, settings: ProviderSettings) -> Metadata:
    """Check a discovery document against the configuration. Raises ProviderError(PROVIDER_INVALID)."""
    try:
        document = parse_object(raw)
    except ValueError as error:
        raise invalid(f"discovery document: {error}") from None
    # Discovery §4.3: identical, not equivalent. No slash is added or removed (ZT-OIDC-07).
    if document.get("issuer") != settings.issuer:
        raise invalid("discovery document: issuer is not the configured one, character by character")
    _check_capabilities(document, settings)
    loopback = check_issuer(settings.issuer)
    urls: dict[str, str] = {}
    for name in (*_ENDPOINTS, *_OPTIONAL_ENDPOINTS):
        if document.get(name) is None and name in _OPTIONAL_ENDPOINTS:
            continue
        try:
            urls[name] = check_url(document.get(name), loopback_http=loopback)
        except ValueError as error:
            raise invalid(f"discovery document: {name}: {error}") from None
    return Metadata(
        authorization_endpoint=urls["authorization_endpoint"],
        token_endpoint=urls["token_endpoint"],
        jwks_uri=urls["jwks_uri"],
        end_session_endpoint=urls.get("end_session_endpoint"),
        sends_iss=document.get("authorization_response_iss_parameter_supported") is True,
        claims_parameter=document.get("claims_parameter_supported") is True,
        push_endpoint=urls.get("pushed_authorization_request_endpoint"),
        requires_push=document.get("require_pushed_authorization_requests") is True,
    )


def _check_capabilities(document: Mapping[str, Any], settings: ProviderSettings) -> None:
    """What the provider says it cannot do is better said now than as a failed sign-in later."""
    needs = {
        "response_types_supported": {"code"},
        "code_challenge_methods_supported": {"S256"},
        "id_token_signing_alg_values_supported": set(settings.algorithms),
    }
    for name, any_of in needs.items():
        offered = document.get(name)
        if offered is not None and not any_of & set(string_list(offered) or ()):
            raise invalid(f"discovery document: {name} has none of {', '.join(sorted(any_of))}")


class Discovery:
    """Holds one provider's metadata."""

    __slots__ = ("_clock", "_fetched", "_fetcher", "_flight", "_metadata", "_settings")

    def __init__(self, settings: ProviderSettings, fetcher: Fetcher, clock: Clock) -> None:
        check_issuer(settings.issuer)
        self._settings = settings
        self._fetcher = fetcher
        self._clock = clock
        self._metadata: Metadata | None = None
        self._fetched = 0.0
        self._flight: SingleFlight[Metadata] = SingleFlight()

    async def get(self) -> Metadata:
        """Raises ProviderError: UNREACHABLE (try again later) or INVALID."""
        age = self._clock.monotonic() - self._fetched
        if self._metadata is not None and age < REFRESH:
            return self._metadata
        try:
            return await self._flight.run(self._fetch)
        except ProviderError as error:
            if error.reason is Reason.PROVIDER_UNREACHABLE and self._metadata is not None and age < STALE:
                log.warning("provider metadata is old", provider=self._settings.name, detail=error.detail)
                return self._metadata
            raise

    @property
    def known(self) -> Metadata | None:
        """What was fetched last, however old; never asks."""
        return self._metadata

    def cancel(self) -> None:
        self._flight.cancel()

    async def _fetch(self) -> Metadata:
        # Discovery §4.1: a terminating slash of the issuer is removed before appending.
        url = self._settings.issuer.removesuffix("/") + "/.well-known/openid-configuration"
        reply = await self._fetcher.get(url, "discovery document")
        self._metadata = read_metadata(json_body(reply, "discovery document"), self._settings)
        self._fetched = self._clock.monotonic()
        return self._metadata
