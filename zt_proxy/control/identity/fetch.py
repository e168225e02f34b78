"""The relying party's only way out: TLS, one time-out, capped bodies, no redirects, cookies or compression."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from zt_proxy.core.errors import ConfigurationError, ProviderError, Reason

MAX_BODY = 1024 * 1024
"""Bytes of any answer; the largest honest ones are ID tokens with thousands of groups."""

T = TypeVar("T")


class Reply(msgspec.Struct, frozen=True):
    """An answer read to its end. The body may hold tokens: it never goes into a log or an exception."""

    status: int
    content_type: str
    """Lower case, without parameters."""
    body: bytes


def unreachable(detail: str) -> ProviderError:
    """The provider did not answer usefully; a later sign-in may succeed."""
    error = ProviderError(Reason.PROVIDER_UNREACHABLE, detail, status=503)
    error.retryable = True
    return error


def invalid(detail: str) -> ProviderError:
    """The provider answered, and not as OpenID Connect says it must."""
    return ProviderError(Reason.PROVIDER_INVALID, detail)


def tls_context(ca: Path | None) -> ssl.SSLContext:
    """Verifies names and chains; with `ca`, that file is the only trust anchor. Raises ConfigurationError."""
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{ca}: not a usable CA file: {error}") from error


class Fetcher:
    """HTTP to one provider. Opens its own client session at first use unless it is given one."""

    __slots__ = ("_http", "_own", "_timeout", "_tls")

    def __init__(self, *, ca: Path | None, timeout: float, http: aiohttp.ClientSession | None) -> None:
        self._tls = tls_context(ca)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._http = http
        self._own = http is None

    async def get(self, url: str, what: str, headers: Mapping[str, str] | None = None) -> Reply:
        """`what` names the endpoint in errors, in which no header shows. Raises ProviderError."""
        return await self._request("GET", url, what, None, headers or {})

    async def post_form(self, url: str, what: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
        """As `get`. Neither the form nor the headers show in any error."""
        return await self._request("POST", url, what, form, headers)

    async def close(self) -> None:
        if self._own and self._http is not None:
            await self._http.close()
            self._http = None

    async def _request(
        self, method: str, url: str, what: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> Reply:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
        try:
            async with self._http.request(
                method,
                url,
                data=form,
                headers={"Accept": "application/json", "Accept-Encoding": "identity", **headers},
                allow_redirects=False,  # a redirect would let the provider's answer choose our next target
                ssl=self._tls,
                timeout=self._timeout,
            ) as response:
                return await _read(response, what)
        except TimeoutError:
            raise unreachable(f"{what}: timed out") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not chained: aiohttp's errors carry request headers, and ours hold the client secret.
            raise unreachable(f"{what} at {urlsplit(url).hostname}: {type(error).__name__}") from None


async def _read(response: aiohttp.ClientResponse, what: str) -> Reply:
    if 300 <= response.status < 400:
        raise invalid(f"{what}: answered with a redirect, which is never followed")
    if response.status >= 500 or response.status == 429:
        raise unreachable(f"{what}: status {response.status}")
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"identity", ""}:
        raise invalid(f"{what}: compressed although not asked for")
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > MAX_BODY:
            raise invalid(f"{what}: answer larger than {MAX_BODY} bytes")
    return Reply(response.status, response.content_type.lower(), bytes(body))


def json_body(reply: Reply, what: str) -> bytes:
    """The body of a 200 answer that says it is JSON. Raises ProviderError(PROVIDER_INVALID)."""
    if reply.status != 200:
        raise invalid(f"{what}: status {reply.status}")
    kind = reply.content_type
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise invalid(f"{what}: content type is not JSON")
    return reply.body


class SingleFlight(Generic[T]):
    """Runs one attempt at a time; who comes while it runs shares its outcome, success or failure."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: asyncio.Task[T] | None = None

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        if self._task is None:
            self._task = asyncio.ensure_future(_call(attempt))
            self._task.add_done_callback(self._finished)
        # Shielded: a browser that goes away must not cancel what others wait for.
        return await asyncio.shield(self._task)

    @property
    def running(self) -> bool:
        return self._task is not None

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _finished(self, task: asyncio.Task[T]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # mark as seen: all waiters may be gone


async def _call(attempt: Callable[[], Awaitable[T]]) -> T:
    return await attempt()
