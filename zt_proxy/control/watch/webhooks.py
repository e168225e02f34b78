"""Alerts to other machines: signed, in order, tried again for a while. Who puts one in never waits.

The addresses are the operator's own, so they may well be private ones: a SIEM usually stands inside. What goes there is
a POST that nobody but the operator chooses, its answer is not looked at but for the status, and redirects are not
followed: neither a person nor a platform can make control ask anything of anybody by it.
"""

import asyncio
import hashlib
import hmac
import ssl
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp
import msgspec
import structlog

from zt_proxy.control.identity.fetch import tls_context
from zt_proxy.control.settings import WebhookSettings
from zt_proxy.control.watch.alerts import Alert
from zt_proxy.core.clock import Clock
from zt_proxy.core.keys import Secret

WAITING = 500
"""Messages that wait for one address; the next one is dropped and counted."""
PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds before each further attempt at a message; after the last one it is dropped and counted."""
SIGNATURE, ID, TIMESTAMP = "X-ZT-Signature", "X-ZT-Alert-Id", "X-ZT-Timestamp"

log = structlog.get_logger("zt_proxy.watch")


def sign(secret: Secret, at: int, body: bytes) -> str:
    """The value of `X-ZT-Signature`: HMAC-SHA256 (RFC 2104) over the decimal time, a full stop and the body."""
    code = hmac.new(secret.reveal().encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={code}"


class Webhook:
    """One address. `run` is a task beside it."""

    def __init__(
        self, settings: WebhookSettings, clock: Clock, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Raises ConfigurationError if the file of authorities cannot be used."""
        self.settings = settings
        self.host = urlsplit(settings.url).hostname or ""
        self.sent = 0
        self.failed: Counter[str] = Counter()
        """Messages given up, by why: `full`, `refused`, `unreachable`."""
        self.problem = ""
        """Why the last attempt failed; empty when it did not."""
        self._tls: ssl.SSLContext | bool = tls_context(settings.ca) if settings.url.startswith("https:") else False
        self._clock = clock
        self._pause = pause
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._wake = asyncio.Event()
        self._http: aiohttp.ClientSession | None = None

    @property
    def waiting(self) -> int:
        """Messages on their way."""
        return len(self._waiting)

    def put(self, id: str, body: bytes) -> None:
        """Queue a message."""
        if len(self._waiting) >= WAITING:
            self._give_up("full", id)
            return
        self._waiting.append((id, body))
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled, one message at a time."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._deliver(*self._waiting[0])
                    self._waiting.popleft()
        finally:
            if self._http is not None:
                await self._http.close()
                self._http = None

    async def _deliver(self, id: str, body: bytes) -> None:
        for pause in (*PAUSES, None):
            try:
                status = await self._post(id, body)
                self.problem = "" if 200 <= status < 300 else f"status {status}"
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                status, self.problem = 0, type(error).__name__
            if not self.problem:
                self.sent += 1
                return
            if 300 <= status < 500 and status not in {408, 425, 429}:
                self._give_up("refused", id)
                return
            if pause is None:
                self._give_up("unreachable", id)
                return
            log.warning("webhook will be tried again", host=self.host, problem=self.problem, seconds=pause)
            await self._pause(pause)

    async def _post(self, id: str, body: bytes) -> int:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
        at = int(self._clock.now())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "zt-proxy",
            ID: id,
            TIMESTAMP: str(at),
            SIGNATURE: sign(self.settings.secret, at, body),
        }
        async with self._http.post(
            self.settings.url,
            data=body,
            headers=headers,
            allow_redirects=False,  # a redirect would let the answer choose who hears of the alert
            ssl=self._tls,
            timeout=aiohttp.ClientTimeout(total=self.settings.timeout),
        ) as response:
            return response.status

    def _give_up(self, why: str, id: str) -> None:
        self.failed[why] += 1
        log.error("webhook not sent", host=self.host, alert=id, reason=why, problem=self.problem)


class Webhooks:
    """All addresses of a configuration."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: dict[WebhookSettings, tuple[Webhook, asyncio.Task[None]]] = {}
        self._failed: Counter[tuple[str, str]] = Counter()
        """Of addresses that are no longer configured; `gone`: what was on its way to them then."""

    def prepare(self, settings: tuple[WebhookSettings, ...]) -> list[Webhook]:
        """For `adopt`; what is configured already is left to go on. Raises ConfigurationError."""
        return [Webhook(each, self._clock) for each in settings if each not in self._running]

    def adopt(self, settings: tuple[WebhookSettings, ...], fresh: list[Webhook]) -> None:
        """From now on tell these."""
        for gone in [each for each in self._running if each not in settings]:
            webhook, task = self._running.pop(gone)
            task.cancel()
            for why, count in webhook.failed.items():
                self._failed[webhook.host, why] += count
            self._failed[webhook.host, "gone"] += webhook.waiting
        for webhook in fresh:
            if webhook.settings not in self._running:
                task = asyncio.create_task(webhook.run(), name=f"webhook {webhook.host}")
                self._running[webhook.settings] = (webhook, task)

    def put(self, alert: Alert) -> None:
        body = msgspec.json.encode(alert)
        for webhook, _ in self._running.values():
            webhook.put(alert.id, body)

    def failed(self) -> dict[tuple[str, str], int]:
        """Messages given up, by host and why."""
        total = Counter(self._failed)
        for webhook, _ in self._running.values():
            for why, count in webhook.failed.items():
                total[webhook.host, why] += count
        return {key: count for key, count in total.items() if count}

    def sent(self) -> int:
        """Since the addresses were configured."""
        return sum(webhook.sent for webhook, _ in self._running.values())

    def problems(self) -> tuple[str, ...]:
        """What an operator should see to."""
        return tuple(
            f"webhook {webhook.host}: {webhook.problem}" for webhook, _ in self._running.values() if webhook.problem
        )

    async def close(self) -> None:
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()
