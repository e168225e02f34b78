"""How an application behind the proxy learns who asks: it verifies the signed header, and believes nothing else."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt

from zt_proxy.core.clock import SKEW, Clock
from zt_proxy.demo.web import LoopbackResolver

HEADER = "X-ZT-Assertion"
_REFETCH_SECONDS = 5.0
_REQUIRED = ["iss", "aud", "exp", "iat", "sub"]


class NotProven(Exception):
    """The request carries no valid assertion; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the proxy vouches for it."""

    subject: str
    name: str
    email: str
    groups: tuple[str, ...]
    acr: str
    amr: tuple[str, ...]


class AssertionVerifier:
    """Verifies assertions of one issuer for one audience with the keys of its JWKS.

    The keys are fetched when a key id is unknown, at most every 5 s: made-up ids cannot make it hammer
    the proxy.
    """

    def __init__(
        self, jwks_url: str, issuer: str, audience: str, clock: Clock, tls: ssl_module.SSLContext | None = None
    ) -> None:
        self._url, self._issuer, self._audience, self._clock, self._tls = jwks_url, issuer, audience, clock, tls
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._lock = asyncio.Lock()

    async def verify(self, token: str | None) -> Caller:
        """Who asks. Raises `NotProven`: no token, wrong algorithm, signature, issuer, audience, or time."""
        if not token:
            raise NotProven("no assertion")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != "ES256":
                raise NotProven("wrong algorithm")
            key = await self._key(str(header.get("kid")))
            # Times are checked below, by the injected clock.
            claims = jwt.decode(
                token,
                key,
                algorithms=["ES256"],
                audience=self._audience,
                issuer=self._issuer,
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except jwt.PyJWTError as problem:
            raise NotProven(type(problem).__name__) from problem
        self._check_times(claims)
        return _caller(claims)

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock.now()
        times = [claims["exp"], claims["iat"], claims.get("nbf", claims["iat"])]
        if not all(type(moment) in (int, float) for moment in times):
            raise NotProven("times are not numbers")
        if now >= times[0] + SKEW or max(times[1:]) > now + SKEW:
            raise NotProven("out of its time")

    async def _key(self, kid: str) -> jwt.PyJWK:
        if kid not in self._keys:
            async with self._lock:
                if kid not in self._keys and self._clock.monotonic() - self._fetched >= _REFETCH_SECONDS:
                    self._fetched = self._clock.monotonic()
                    self._keys = await self._fetch()
        if kid not in self._keys:
            raise NotProven("unknown key")
        return self._keys[kid]

    async def _fetch(self) -> dict[str, jwt.PyJWK]:
        connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), ssl=self._tls or True)
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
                http.get(self._url, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    raise NotProven(f"the key set answered {answer.status}")
                keys = jwt.PyJWKSet.from_dict(await answer.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
            raise NotProven("the key set cannot be had") from problem
        return {key.key_id: key for key in keys.keys if key.key_id is not None}


def _caller(claims: Mapping[str, Any]) -> Caller:
    def text(name: str) -> str:
        value = claims.get(name)
        return value if isinstance(value, str) else ""

    def words(name: str) -> tuple[str, ...]:
        value = claims.get(name)
        return tuple(str(item) for item in value) if isinstance(value, list) else ()

    subject = text("sub")
    if not subject:
        raise NotProven("no subject")
    name = text("name") or text("email") or subject
    return Caller(subject, name, text("email"), words("groups"), text("acr"), words("amr"))
