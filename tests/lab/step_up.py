"""An app behind what plays the proxy's side of a step-up, and a browser that tells a person's doing from a script's.

async with StepUpLab() as lab, lab.browser() as browser:
    tab = await browser.tab()                         # the app's page, with session.js and the libraries in it
    await tab.job("fetch('/act/deploy', {method: 'POST', body: 'x'}).then(r => r.status)")
    await tab.press_go()                              # a real click: the job runs with a gesture
    await browser.confirm()                           # in the small window, at the portal
    assert await tab.out() == 200
    assert lab.bodies("/act/deploy") == [b"x"]

`/act/SCOPE` needs a proof for SCOPE, `/once/SCOPE` one for each request, `/free/…` none. `/poll/SCOPE` is for GETs.
The browser's popup blocker is on, and nothing is evaluated with a gesture, which drivers otherwise grant.
"""

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import BrowserContext, CDPSession, Page, async_playwright

from tests.lab.waiting import until
from zt_proxy.core.clock import SystemClock
from zt_proxy.pages.scripts import SESSION_JS, SESSION_JS_URL, confirmed_headers, confirmed_page

CHROMIUM = "/usr/bin/chromium"
MODULES = Path(__file__).parents[1] / "real/node_modules"
LIBRARIES = {
    "axios": MODULES / "axios/dist/axios.min.js",
    "jquery": MODULES / "jquery/dist/jquery.min.js",
    "htmx": MODULES / "htmx.org/dist/htmx.min.js",
}
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>Flows</title>
<script src="/free/before.js"></script><script src="{script}"></script>{libraries}<script src="/free/app.js"></script></head>
<body><h1>Flows</h1><button id="go">Deploy</button> <input id="text" aria-label="Name">
<form id="form"><input name="name" value="Zoë"></form><div id="more"></div></body></html>"""
APP_JS = """
window.keys = []; window.out = undefined; window.errors = [];
addEventListener('keydown', (event) => keys.push(event.key), true);
addEventListener('error', (event) => errors.push(event.message));
addEventListener('securitypolicyviolation', (event) => errors.push(event.violatedDirective));
document.addEventListener('DOMContentLoaded', () => {
  document.getElementById('go').addEventListener('click', () => run());
});
window.job = () => {};
window.run = () => { window.out = undefined; Promise.resolve().then(job).then((value) => { out = {value}; }, (error) => { out = {error: String(error.message ?? error)}; }); };
"""


@dataclass
class Sent:
    """A request that reached the app."""

    method: str
    path: str
    body: bytes
    type: str
    headers: dict[str, str]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass
class StepUpLab:
    """See the module. What is changed on the way holds from the next request on."""

    scoped: bool = True
    """The challenge names its scope."""
    ask: str = ""
    """What is asked for when it is no proof."""
    wait: float = 0.0
    """Seconds before a 401."""
    satisfied: bool = True
    """A proof counts for the real request."""
    automatic: bool = False
    """The portal confirms by itself, as with a passkey that asks nothing."""
    portal_headers: dict[str, str] = field(default_factory=dict)
    app_headers: dict[str, str] = field(default_factory=dict)
    preflight: bool = True
    """There is an answer from `/.zt/preflight`."""
    challenge_url: str = "/.zt/step-up?to={to}"
    session: dict[str, Any] | None = None
    """What `/.zt/session` says beside `now`; deadlines as seconds from now. None: signed out."""

    def __post_init__(self) -> None:
        self.proofs: set[str] = set()
        self.arrived: list[Sent] = []
        self.challenged: list[str] = []
        self.asked_ahead: list[dict[str, Any]] = []
        self.redirects: dict[str, tuple[int, str]] = {}
        """Path → status and Location of the app's answer, once the request has arrived."""
        self.activities = 0
        self.looks = 0
        self.windows: list[str] = []
        self.session = self.session or {"who": "alice@example.com", "idle": 1800.0, "absolute": 40000.0}

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        app, portal = web.Application(client_max_size=1 << 28), web.Application()
        app.router.add_get("/.zt/session.js", self._script)
        app.router.add_get("/.zt/confirmed", self._confirmed)
        app.router.add_get("/.zt/session", self._session)
        app.router.add_post("/.zt/activity", self._activity)
        app.router.add_post("/.zt/preflight", self._preflight)
        app.router.add_get("/.zt/step-up", self._step_up)
        app.router.add_get("/.zt/resume", self._resume)
        app.router.add_get("/", self._page)
        app.router.add_get("/frame", self._page)
        app.router.add_get("/library/{name}", self._library)
        app.router.add_route("*", "/{kind:free|act|once|poll|over}/{scope}", self._work)
        portal.router.add_get("/confirm", self._confirm)
        self._app = await self._stack.enter_async_context(TestServer(app, host="localhost"))
        self._portal = await self._stack.enter_async_context(TestServer(portal, host="127.0.0.1"))
        self.origin = f"http://localhost:{self._app.port}"
        self.host = f"localhost:{self._app.port}"
        self.portal = f"http://127.0.0.1:{self._portal.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def bodies(self, path: str) -> list[bytes]:
        return [sent.body for sent in self.arrived if sent.path == path]

    # ---- the app's host ----

    async def _page(self, request: web.Request) -> web.Response:
        tags = "".join(f'<script src="/library/{name}"></script>' for name in request.query.getall("with", ()))
        script = SESSION_JS_URL if "bare" not in request.query else "/free/none.js"
        page = PAGE.format(script=script, libraries=tags)
        return web.Response(text=page, content_type="text/html", headers=self.app_headers)

    async def _library(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(LIBRARIES[request.match_info["name"]])

    async def _script(self, request: web.Request) -> web.Response:
        return web.Response(body=SESSION_JS.body, content_type="text/javascript")

    async def _confirmed(self, request: web.Request) -> web.Response:
        headers = {name.decode(): value.decode() for name, value in confirmed_headers()}
        return web.Response(body=confirmed_page(request.host), headers=headers)

    async def _session(self, request: web.Request) -> web.Response:
        now = SystemClock().now()
        self.looks += 1
        if not self.session:
            return web.json_response({"signed_in": False})
        state = {
            "signed_in": True, "who": self.session["who"], "level": "multi", "now": now,
            "idle_deadline": now + self.session["idle"], "absolute_deadline": now + self.session["absolute"],
        }  # fmt: skip
        return web.json_response(state)

    async def _activity(self, request: web.Request) -> web.Response:
        self.activities += 1
        if not self.session:
            return web.Response(status=401)
        self.session["idle"] = 1800.0
        return web.Response(status=204)

    def _missing(self, kind: str, scope: str) -> str | None:
        """ZT-Challenge for a request, or None if it may pass."""
        if kind == "over" or not self.session:
            return f'login; url="/.zt/step-up?to={quote("login/")}"'
        if kind == "free" or f"{kind}/{scope}" in self.proofs:
            return None
        url = self.challenge_url.format(to=quote(f"{kind}/{scope}"))
        named = f'; scope="{scope}"' if self.scoped else ""
        named += f'; ask="{self.ask}"' if self.ask else ""
        return f'step-up; url="{url}"; level="multi"; max-age=300; once=?{int(kind == "once")}{named}'

    async def _preflight(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.asked_ahead.append(asked)
        if not self.preflight:
            return web.Response(status=404)
        if asked.get("renew"):
            return self._refusal('login; url="/.zt/step-up?to=login%2F"')
        kind, _, scope = asked["path"].partition("?")[0].removeprefix("/").partition("/")
        missing = self._missing(kind or "free", scope)
        return self._refusal(missing) if missing else web.Response(status=204)

    def _refusal(self, challenge: str) -> web.Response:
        headers = {"ZT-Challenge": challenge, "Cache-Control": "no-store"}
        body = json.dumps({"type": "about:blank", "title": "Confirm it is you", "status": 401})
        return web.Response(status=401, text=body, content_type="application/problem+json", headers=headers)

    async def _work(self, request: web.Request) -> web.Response:
        body = await request.read()
        kind, scope = request.match_info["kind"], request.match_info["scope"]
        if request.path == "/free/app.js":
            return web.Response(text=APP_JS, content_type="text/javascript")
        if request.path == "/free/before.js":  # a constructor that somebody took before session.js came
            return web.Response(text="window.old = XMLHttpRequest;", content_type="text/javascript")
        missing = self._missing(kind, scope)
        if missing is None and not self.satisfied:
            self.proofs.discard(f"{kind}/{scope}")
            missing = self._missing(kind, scope)
        if missing is None and request.method == "GET" and self.redirects.get(request.path, (0, ""))[1] == request.path:
            missing = self._missing("act", scope)  # a POST is free there, and reading what came of it is not
        if missing is not None:
            missing += f'; method="{request.method}"'
        if missing is not None:
            self.challenged.append(request.path)
            await asyncio.sleep(self.wait)
            return self._refusal(missing)
        if kind == "once":
            self.proofs.discard(f"once/{scope}")
        self.arrived.append(
            Sent(request.method, request.path, body, request.headers.get("Content-Type", ""), dict(request.headers))
        )
        if request.path in self.redirects:
            status, place = self.redirects[request.path]
            return web.Response(status=status, headers={"Location": place})
        answer = {"got": len(body), "digest": hashlib.sha256(body).hexdigest()}
        return web.json_response(answer, headers={"X-Kept": request.headers.get("X-Mine", "")})

    async def _step_up(self, request: web.Request) -> web.Response:
        assert request.query["window"] == "1"
        self.windows.append(request.query["to"])
        raise web.HTTPFound(f"{self.portal}/confirm?to={quote(request.query['to'])}")

    async def _resume(self, request: web.Request) -> web.Response:
        code = request.query["code"]
        if code == "login/":
            self.session = {"who": self.next_person, "idle": 1800.0, "absolute": 40000.0}
        self.proofs.add(code)
        raise web.HTTPFound("/.zt/confirmed")

    next_person = "alice@example.com"

    # ---- the portal's host ----

    async def _confirm(self, request: web.Request) -> web.Response:
        back = f"{self.origin}/.zt/resume?code={quote(request.query['to'])}"
        button = f'<button id="yes" onclick="location.href=\'{back}\'">It is me</button>'
        script = f"<script>location.replace('{back}')</script>" if self.automatic else ""
        text = f"<!doctype html><title>Portal</title>{button}{script}"
        return web.Response(text=text, content_type="text/html", headers=self.portal_headers)


class Tab:
    """A page of the app. Nothing here grants it a gesture but `press`, `press_go` and `key`."""

    def __init__(self, page: Page, cdp: CDPSession) -> None:
        self.page = page
        self.cdp = cdp

    async def quiet(self, expression: str) -> Any:
        """Evaluate without a gesture; promises are waited for."""
        reply = await self.cdp.send(
            "Runtime.evaluate",
            {"expression": expression, "userGesture": False, "awaitPromise": True, "returnByValue": True},
        )
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait for a condition in the page."""
        async with asyncio.timeout(20):
            while not await self.quiet(f"Boolean({expression})"):
                await asyncio.sleep(0.02)

    async def job(self, expression: str) -> None:
        """What the button starts."""
        await self.quiet(f"window.job = async () => ({expression}); 0")

    async def press_go(self) -> None:
        await self._click_at("document.getElementById('go')")

    async def go(self, expression: str) -> None:
        """Do it as a person would: by a click."""
        await self.job(expression)
        await self.press_go()

    async def background(self, expression: str) -> None:
        """Do it as a timer would."""
        await self.job(expression)
        await self.quiet("run(), 0")

    async def out(self) -> Any:
        """What the job came to; an error as {"error": …}."""
        await self.until("window.out")
        out = await self.quiet("window.out")
        return out.get("value", out if "error" in out else None)

    async def said(self) -> str:
        """All that session.js shows."""
        return str(await self.quiet("document.querySelector('zt-session')?.shadowRoot.textContent ?? ''"))

    async def shows(self, text: str) -> None:
        await self.until(f"document.querySelector('zt-session')?.shadowRoot.textContent.includes({json.dumps(text)})")

    async def shows_nothing(self) -> None:
        await self.until("!document.querySelector('zt-session')")

    async def press(self, text: str) -> None:
        """Click a button of ours."""
        await self.shows(text)
        found = f"[...(document.querySelector('zt-session')?.shadowRoot.querySelectorAll('button') ?? [])].find(b => b.textContent === {json.dumps(text)})"
        await self._click_at(found)

    async def idle(self) -> None:
        """Until no gesture counts any more: Chromium forgets one after five seconds, session.js after ten."""
        await self.until("!navigator.userActivation.isActive")

    async def _click_at(self, element: str) -> None:
        where = f"""(() => {{ const found = {element}, box = found?.getBoundingClientRect();
            return found && !found.closest('.card')?.getAnimations().length && [box.x + box.width / 2, box.y + box.height / 2]; }})()"""
        async with asyncio.timeout(20):
            while not (at := await self.quiet(where)):
                await asyncio.sleep(0.02)
        await self.page.mouse.click(*map(math.floor, at))


class TestBrowser:
    """One context of Chromium: several tabs of one person."""

    __test__ = False

    def __init__(self, lab: StepUpLab, context: BrowserContext) -> None:
        self.lab = lab
        self.context = context

    async def tab(self, path: str = "/", libraries: Sequence[str] = ()) -> Tab:
        page = await self.context.new_page()
        return await self.visit(page, path, libraries)

    async def visit(self, page: Page, path: str = "/", libraries: Sequence[str] = ()) -> Tab:
        query = "&".join(f"with={name}" for name in libraries)
        await page.goto(self.lab.origin + path + ("&" if "?" in path else "?") + query)
        tab = Tab(page, await self.context.new_cdp_session(page))
        await tab.until("document.readyState === 'complete'")
        return tab

    def windows(self) -> list[Page]:
        """Small windows that are open at the portal."""
        return [page for page in self.context.pages if page.url.startswith(self.lab.portal)]

    async def window(self) -> Page:
        await until(lambda: bool(self.windows()), 20)
        return self.windows()[0]

    async def confirm(self) -> None:
        """Press the portal's button in the small window; it closes."""
        window = await self.window()
        await window.wait_for_selector("#yes")
        with suppress(Exception):  # it may be closed before the click has returned
            await window.click("#yes", no_wait_after=True)
        await until(window.is_closed, 20)


@asynccontextmanager
async def chromium() -> AsyncIterator[Callable[..., Any]]:
    """A browser with its popup blocker on; gives what makes contexts in it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu"],
            ignore_default_args=["--disable-popup-blocking"],
        )
        yield browser.new_context
        await browser.close()
