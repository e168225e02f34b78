"""Two apps behind a proxy, a provider, people with browsers, and a clock of the test's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.lab.browser import Browser, Page, provider_of
from tests.lab.idp import MockIdp
from tests.lab.proxy import APP, PORTAL, ProxyLab, allow, lab_route
from zt_proxy.core.clock import Clock, ManualClock
from zt_proxy.policy.spec import RuleSpec

OTHER = "other.test"
HOME, ELSEWHERE, AUTH = f"https://{APP}", f"https://{OTHER}", f"https://{PORTAL}"
MINUTE, HOUR = 60.0, 3600.0
STEP_UP = (
    allow("deploy", paths=("/deploy/**", "/deploy"), reauth=5 * MINUTE),
    allow("export", paths=("/export",), reauth=5 * MINUTE),
    allow("staff", paths=("/", "/flows", "/notes")),
)


class World:
    """A proxy before two apps, a provider, and a clock of the test's own."""

    def __init__(self, lab: ProxyLab, idp: MockIdp, clock: ManualClock) -> None:
        self.lab = lab
        self.idp = idp
        self.clock = clock

    def browser(self) -> Browser:
        return Browser(self.lab)

    async def person(self) -> Browser:
        """Somebody who is signed in at the first app."""
        browser = self.browser()
        assert (await browser.visit(HOME + "/")).status == 200
        return browser

    @property
    def visits(self) -> int:
        """How often a browser was sent to the provider."""
        return self.idp.requests["authorize"]

    @property
    def reached(self) -> list[bytes]:
        return [seen.target for seen in self.lab.upstream.seen]


@asynccontextmanager
async def world(
    rules: tuple[RuleSpec, ...] = (allow(),),
    *,
    other: tuple[RuleSpec, ...] = (allow(),),
    clock: Clock | None = None,
    route: dict[str, Any] | None = None,
    **lab: Any,
) -> AsyncIterator[World]:
    time = clock or ManualClock()
    routes = (lab_route("app", APP, rules, **(route or {})), lab_route("other", OTHER, other))
    async with (
        MockIdp(clock=time) as idp,
        ProxyLab(providers=(provider_of(idp),), routes=routes, clock=time, **lab) as running,
    ):
        yield World(running, idp, time)  # type: ignore[arg-type]


def refusal(page: Page) -> str:
    reason: str = page.reply.problem["reason"]
    return reason
