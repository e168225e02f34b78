"""Does the app behind a route verify the assertion? Asked of the app itself, past the proxy (FIELD 28).

A good request first: if the app refuses that, nothing can be learned. Then each forgery. Then the good one again: an
app that has meanwhile locked the door would make every forgery look refused.
"""

import ssl
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from zt_proxy.control.upstream_probes import Probe
from zt_proxy.core.errors import ConfigurationError

HEADER = "X-ZT-Assertion"


class Outcome(StrEnum):
    """What an answer says about a probe."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNCLEAR = "unclear"
    """A server error, too many requests, or no answer: neither is a refusal."""


class Upstream(msgspec.Struct, frozen=True):
    """How to reach the app: what the route's configuration says, in plain values."""

    origin: str
    """Scheme and authority, without a path; with `socket`, the authority is only a name."""
    host: str
    """The Host header."""
    socket: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    timeout: float = 10.0
    """Seconds for one whole request."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers of every request, such as the shared secret."""


class Answer(msgspec.Struct, frozen=True):
    """What came back for one probe."""

    probe: str
    outcome: Outcome
    status: int | None
    unchecked: str = ""
    location: str | None = None
    error: str = ""
    """Why there is no status."""


class Report(msgspec.Struct, frozen=True):
    """All answers. `good` is the good request before, `again` the one after; `forged` all the others."""

    good: Answer
    forged: tuple[Answer, ...] = ()
    again: Answer | None = None

    @property
    def usable(self) -> bool:
        """Whether the good request passed both times, so that the others mean something."""
        return (
            self.good.outcome is Outcome.ACCEPTED and self.again is not None and self.again.outcome is Outcome.ACCEPTED
        )

    @property
    def exit_code(self) -> int:
        """0: every forgery refused. 1: one was not. 2: the good one was refused, or the app cannot be reached."""
        # What was accepted stays accepted, even if the app stopped answering afterwards.
        if any(answer.outcome is Outcome.ACCEPTED for answer in self.forged):
            return 1
        if not self.usable:
            return 2
        return 0 if all(answer.outcome is Outcome.REFUSED for answer in self.forged) else 1


async def check(upstream: Upstream, sent: Sequence[Probe], *, method: str = "GET", path: str = "/") -> Report:
    """Send `sent`, the first of which is the good one, one after another on connections of their own.

    `path` is origin-form as the app sees it. Raises ConfigurationError for a path or TLS file that cannot be used.
    """
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path or "#" in path:
        raise ConfigurationError("the path must begin with / and be printable ASCII without spaces and #")
    good_probe, *forged = sent
    timeout = aiohttp.ClientTimeout(total=upstream.timeout)
    async with aiohttp.ClientSession(
        connector=_connector(upstream), timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    ) as client:
        good = await _send(client, upstream, good_probe, method, path, None)
        if good.outcome is not Outcome.ACCEPTED:
            return Report(good)
        answers = tuple([await _send(client, upstream, probe, method, path, good) for probe in forged])
        return Report(good, answers, await _send(client, upstream, good_probe, method, path, good))


def _connector(upstream: Upstream) -> aiohttp.BaseConnector:
    if upstream.socket is not None:
        return aiohttp.UnixConnector(str(upstream.socket), force_close=True)
    if not upstream.origin.startswith("https:"):
        return aiohttp.TCPConnector(force_close=True)
    try:
        context = ssl.create_default_context(cafile=upstream.ca)
        if upstream.certificate is not None:
            context.load_cert_chain(upstream.certificate, upstream.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"the TLS files of the upstream cannot be used: {error}") from error
    return aiohttp.TCPConnector(force_close=True, ssl=context)


async def _send(
    client: aiohttp.ClientSession, upstream: Upstream, probe: Probe, method: str, path: str, good: Answer | None
) -> Answer:
    headers = CIMultiDict([("Host", upstream.host), ("User-Agent", "zt-proxy-verify-upstream"), *upstream.headers])
    for value in probe.values:
        headers.add(HEADER, value)
    url = URL(upstream.origin + path, encoded=True)
    try:
        async with client.request(
            method, url, headers=headers, allow_redirects=False, server_hostname=upstream.server_name
        ) as response:
            # The status says it all; a body may be endless (the connection is closed with it unread).
            status, location = response.status, response.headers.get("Location")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return Answer(probe.name, Outcome.UNCLEAR, None, probe.unchecked, None, str(error) or type(error).__name__)
    outcome = _judge_good(status) if good is None else _judge(status, location, good)
    return Answer(probe.name, outcome, status, probe.unchecked, location)


def _judge_good(status: int) -> Outcome:
    if status < 400:
        return Outcome.ACCEPTED
    return Outcome.REFUSED if status < 500 and status != 429 else Outcome.UNCLEAR


def _judge(status: int, location: str | None, good: Answer) -> Outcome:
    """A redirect is how many apps say no (to their own sign-in), unless the good one was sent to the same place."""
    if 300 <= status < 400:
        same = good.status is not None and 300 <= good.status < 400 and good.location == location
        return Outcome.ACCEPTED if same else Outcome.REFUSED
    return _judge_good(status)
