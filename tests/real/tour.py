"""A real platform behind the real proxy in report-only, with Chromium in front: what it asked, and what that was taken for.

async with tour("streamlit", platform.port) as it:
    await it.page.goto(it.origin)
    ...
    decisions = await it.decisions()
assert unexpected(decisions, TABLE) == []
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
from playwright.async_api import Page, WebSocket, async_playwright

from tests.lab.proxy import APP, ProxyLab, allow, lab_route
from tests.lab.waiting import until
from tests.real.fixtures import CHROMIUM, missing
from zt_proxy.config.profiles import load_profile
from zt_proxy.core.types import Action, Mode
from zt_proxy.policy.spec import RequestMatch
from zt_proxy.worker.settings import UpstreamSettings

CHROMIUM_ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass
class Tour:
    """A signed-in person's page. `origin` has no slash at its end."""

    lab: ProxyLab
    page: Page
    origin: str = f"https://{APP}"
    sent: list[bytes] = field(default_factory=list)
    """Every WebSocket message of the page."""

    async def decisions(self) -> list[dict[str, Any]]:
        """Close the page, stop the proxy, and read its log."""
        await self.page.context.close()
        return await self.lab.decisions()

    async def has_sent(self, part: bytes) -> None:
        """Wait until some WebSocket message of the page held this."""
        await until(lambda: any(part in payload for payload in self.sent))

    async def is_denied(self, matcher: str) -> None:
        """Wait until a message that this matcher knows is on record as denied."""
        files = self.lab.directory / "audit"

        def denied() -> bool:
            lines = [json.loads(line) for path in files.glob("*.jsonl") for line in path.read_text().splitlines()]
            return any(line.get("matcher") == matcher and line["effect"] == "deny" for line in lines)

        await until(denied)


@asynccontextmanager
async def tour(
    profile: str, port: int, actions: Sequence[Action] = (Action.VIEW,), mode: Mode = Mode.REPORT, **route: Any
) -> AsyncIterator[Tour]:
    """A page of somebody whom the rules allow these actions alone; unless told otherwise the route only reports."""
    spec = load_profile(profile)
    rule = allow("look", paths=())
    rule = msgspec.structs.replace(rule, matches=(RequestMatch(actions=tuple(actions)),))
    settings = lab_route(profile, APP, (rule,), **{"forward_authorization": True, **route})
    settings = msgspec.structs.replace(
        settings,
        profile=spec,
        rules=msgspec.structs.replace(settings.rules, mode=mode),
        upstream=UpstreamSettings("http", "127.0.0.1", port),
    )
    if not Path(CHROMIUM).exists():
        missing("Chromium is not installed; tests/real/install-debian.sh installs it")
    async with ProxyLab(routes=(settings,)) as lab, async_playwright() as playwright:
        name, _, value = (await lab.sign_in()).decode().partition("=")
        rules = f"--host-resolver-rules=MAP {APP}:443 127.0.0.1:{lab.port}, MAP * ~NOTFOUND"
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*CHROMIUM_ARGUMENTS, rules])
        try:
            context = await chromium.new_context(
                ignore_https_errors=True, viewport={"width": 1400, "height": 900}, service_workers="block"
            )
            it = Tour(lab, await context.new_page())
            cookie = {"name": name, "value": value, "url": it.origin, "secure": True, "httpOnly": True}
            await context.add_cookies([cookie])  # type: ignore[list-item]
            it.page.on("websocket", lambda socket: _listen(it, socket))
            yield it
        finally:
            await chromium.close()


def _listen(it: Tour, socket: WebSocket) -> None:
    socket.on("framesent", lambda payload: it.sent.append(payload.encode() if isinstance(payload, str) else payload))


def unexpected(decisions: list[dict[str, Any]], table: str) -> list[str]:
    """What is not as the table says: requests of another action, that no row or no matcher knows, and rows that nothing
    was asked for. A row is METHODS PATH ACTION, or METHODS PATH#MATCHER ACTION; `*` is anything, and the first row that
    fits counts. MESSAGE is the method of what was said in a WebSocket.
    """
    rows = [line.split() for line in table.strip().splitlines() if line.strip()]
    used = set()
    wrong = []
    for record in decisions:
        method, path, matcher = record["method"], record["path"], record.get("matcher", "")
        if record.get("protocol") == "websocket-message":
            method = "MESSAGE"
        what = f"{method} {path} {record.get('action', '')} ({matcher})"
        number = next(
            (
                index
                for index, row in enumerate(rows)
                if method in row[0].split("|")
                and fnmatchcase(f"{path}#{matcher}", row[1] if "#" in row[1] else f"{row[1]}#*")
            ),
            None,
        )
        if number is None:
            wrong.append(f"in no row: {what}")
            continue
        used.add(number)
        if record.get("action", "") != rows[number][2] or not (matcher or "#" in rows[number][1]):
            wrong.append(f"expected {rows[number][2]}: {what}")
        if record["effect"] != "allow":
            wrong.append(f"not let through: {what} {record['reason']}")
    return list(dict.fromkeys(wrong)) + [f"never asked: {' '.join(row)}" for n, row in enumerate(rows) if n not in used]
