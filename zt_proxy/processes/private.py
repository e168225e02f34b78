"""The private listener: metrics and health, for the operator's network only, never for the address people use.

/metrics   Prometheus text (or OpenMetrics, if asked for)
/healthz   200 while the process answers: restart it if not
/readyz    200 when every part can do its work, else 503; JSON with each part's state: send no traffic if not
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_log = structlog.get_logger("zt_proxy.private")
GRACE = 0.5
"""Seconds for an answer under way at the end, and as many again once it is cancelled: a reader that stalls must not
keep control from leaving in order, nor from taking another address."""
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


Gather = Callable[[], Awaitable[Iterable[Metric]]]
"""Gives every family of this moment."""


class Check(msgspec.Struct, frozen=True):
    """A part that must work before the process is ready."""

    name: str
    problem: Callable[[], str | Awaitable[str]]
    """Gives what is wrong, in words for the operator; empty when nothing is."""
    advisory: bool = False
    """Something to see to, and no reason to send traffic elsewhere."""


class _Families(Collector):
    """Families that were gathered already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


class PrivateListener:
    """Serves the metrics and the checks on `host:port` (port 0: a free one, known after `start`)."""

    def __init__(self, host: str, port: int, metrics: CollectorRegistry | Gather, checks: Sequence[Check]) -> None:
        self.host = host
        self.port = port
        self._source = metrics
        self._checks = tuple(checks)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=GRACE)
        await runner.setup()
        self._runner = runner
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError:
            await self.stop()
            raise
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening. Does nothing if it never began."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def readiness(self) -> dict[str, str]:
        """Each part's problem; empty text for a part that works."""
        return {check.name: await _ask(check) for check in self._checks}

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        source = self._source
        families = source if isinstance(source, CollectorRegistry) else _Families(await source())
        return web.Response(body=encode(families), headers={**_HEADERS, "Content-Type": content_type})

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_HEADERS)

    async def _readyz(self, _request: web.Request) -> web.Response:
        problems = await self.readiness()
        advisory = {check.name for check in self._checks if check.advisory}
        ready = not any(problem for name, problem in problems.items() if name not in advisory)
        parts = {
            name: {"ok": not problem, **({"problem": problem} if problem else {})} for name, problem in problems.items()
        }
        return web.Response(
            body=msgspec.json.encode({"ready": ready, "parts": parts}),
            status=200 if ready else 503,
            headers={**_HEADERS, "Content-Type": "application/json"},
        )


async def _ask(check: Check) -> str:
    """A check that fails to answer is a part that does not work."""
    try:
        problem = check.problem()
        return problem if isinstance(problem, str) else await problem
    except Exception as error:
        _log.exception("readiness-check-failed", check=check.name)
        return f"the check itself failed: {type(error).__name__}"
