"""A portal on a real socket, with a worker's and a provider's side scripted, and browsers that keep cookies per host."""

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
from aiohttp.test_utils import TestServer
from yarl import URL

from tests.lab.authenticator import Authenticator
from zt_proxy.control.approvals.manager import Approvals
from zt_proxy.control.approvals.store import ApprovalStore
from zt_proxy.control.devices.mail import Outbox
from zt_proxy.control.devices.store import KnownDevices
from zt_proxy.control.factors.manager import open_factors
from zt_proxy.control.identity.types import IdentityProvider, VerifiedLogin
from zt_proxy.control.portal.app import build_portal
from zt_proxy.control.portal_verifier import PortalCall
from zt_proxy.control.risk.judge import Judge, origins_of
from zt_proxy.control.risk.people import KnownPeople
from zt_proxy.control.session.manager import SessionManager, open_sessions
from zt_proxy.control.settings import (
    AppHost,
    AuditSettings,
    ControlSettings,
    FactorSettings,
    ProviderSettings,
    SessionSettings,
)
from zt_proxy.control.watch.findings import Finding
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.errors import ClientError, Reason, ZtError
from zt_proxy.core.handoff import Handoff, Purpose, seal_handoff
from zt_proxy.core.keys import CookieMac, KeyRing, Secret, b64encode
from zt_proxy.core.session import Level, Principal, Session
from zt_proxy.link.messages import Invalidation

PORTAL = "auth.example.com:8443"
APP = "flows.example.com:8443"
OTHER = "crm.example.com"
ID_TOKEN = "eyJhbGciOiJSUzI1NiJ9.id-token.signature"
SESSION_COOKIE = "__Host-zt"
LOGIN_COOKIE = "__Host-zt-login"
ORIGIN = f"https://{PORTAL}"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Origin": ORIGIN}
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}


class ScriptedProvider(IdentityProvider):
    """Signs in whoever `subject` says; `fault` is raised instead."""

    def __init__(self, clock: ManualClock, name: str = "corp") -> None:
        self.clock = clock
        self.name = name
        self.display_name = f"{name.capitalize()} <account>"
        self.issuer = "https://idp.example"
        self.principal = Principal(
            subject="alice", issuer="https://idp.example", provider=name, email="alice@example.com", name="Alice"
        )
        self.level = Level.MULTI
        self.issuer = "https://idp.example"
        self.insecure_no_mfa = False
        self.fault: ZtError | None = None
        self.asked: list[dict[str, object]] = []
        self.finished: list[dict[str, object]] = []
        self.end_session: str | None = "https://idp.example/logout"

    async def authorization_url(self, **asked: object) -> str:  # type: ignore[override]
        if self.fault is not None:
            raise self.fault
        self.asked.append(asked)
        return "https://idp.example/authorize?" + urlencode({"state": asked["state"]})

    async def finish(self, **given: object) -> VerifiedLogin:  # type: ignore[override]
        if self.fault is not None:
            raise self.fault
        self.finished.append(given)
        return VerifiedLogin(
            principal=self.principal,
            acr="mfa",
            amr=("pwd", "otp"),
            auth_time=self.clock.now(),
            mfa=self.insecure_no_mfa or self.level >= Level.MULTI,
            level=self.level,
            id_token=Secret(ID_TOKEN),
            provider_sid="idp-session",
            provider=self.name,
        )

    async def logout_url(self, *, id_token: Secret | None, post_logout_redirect_uri: str, state: str) -> str | None:
        if self.end_session is None or id_token is None:
            return None
        query = {"id_token_hint": id_token.reveal(), "post_logout_redirect_uri": post_logout_redirect_uri}
        return f"{self.end_session}?{urlencode(query)}"

    async def close(self) -> None:
        """Nothing is open."""


class SaidSo:
    """Believes a token that is the call as JSON."""

    def verify(self, token: str) -> PortalCall:
        try:
            return PortalCall(**json.loads(token))
        except (ValueError, TypeError) as error:
            raise ClientError(Reason.ASSERTION_INVALID, "not made here", status=403) from error


class Answer:
    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.text = body.decode()
        self.location = response.headers.get("Location", "")

    @property
    def set_cookies(self) -> list[str]:
        return self.headers.getall("Set-Cookie", [])


class Browser:
    """Cookies per host, and the login cookie that a worker gives it at an app's host."""

    def __init__(self, lab: "PortalLab", address: str = "192.0.2.7") -> None:
        self.lab = lab
        self.address = address
        self.jar: dict[str, dict[str, str]] = {}

    def cookies(self, host: str) -> dict[str, str]:
        return self.jar.setdefault(host, {})

    async def get(self, host: str, target: str, **options: object) -> Answer:
        return await self.request("GET", host, target, **options)  # type: ignore[arg-type]

    async def request(
        self,
        method: str,
        host: str,
        target: str,
        *,
        headers: Mapping[str, str] = NAVIGATION,
        data: bytes | str | None = None,
    ) -> Answer:
        call = {"host": host, "client": self.address, "sid": None, "request_id": "req-1"}
        sent = {"X-ZT-Assertion": json.dumps(call), **headers}
        if self.cookies(host):
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies(host).items())
        url = URL(str(self.lab.server.make_url("/"))[:-1] + target, encoded=True)
        async with self.lab.http.request(method, url, headers=sent, data=data, allow_redirects=False) as response:
            answer = Answer(response, await response.read())
        for line in answer.set_cookies:
            pair, _, rest = line.partition(";")
            name, _, value = pair.partition("=")
            if "Max-Age=0" in rest:
                self.cookies(host).pop(name, None)
            else:
                self.cookies(host)[name] = value
        return answer

    def handoff(
        self, purpose: Purpose = Purpose.LOGIN, host: str = APP, target: str = "/red/?a=1", **fields: object
    ) -> str:
        """What the worker at `host` would send this browser to the portal with."""
        cookie = self.cookies(host).setdefault(LOGIN_COOKIE, b64encode(hashlib.sha256(host.encode()).digest()))
        values = {
            "purpose": purpose,
            "host": host,
            "target": target,
            "binder": hashlib.sha256(cookie.encode()).digest(),
            "expires": self.lab.clock.now() + 600.0,
        }
        return seal_handoff(self.lab.worker_ring, Handoff(**{**values, **fields}))  # type: ignore[arg-type]

    async def asked(self, **handoff: object) -> str:
        """The same; a step-up is for the session that this browser has at the app's host."""
        if handoff.get("purpose") is Purpose.REAUTH and "sid" not in handoff:
            session = await self.session(str(handoff.get("host", APP)))
            handoff["sid"] = session.sid if session is not None else ""
        return self.handoff(**handoff)  # type: ignore[arg-type]

    async def to_provider(self, **handoff: object) -> str:
        """Up to the provider; gives the state."""
        answer = await self.get(PORTAL, "/.zt/sign-in?to=" + await self.asked(**handoff))
        assert answer.status == 303, answer.text
        return parse_qs(urlsplit(answer.location).query)["state"][0]

    async def back(self, state: str) -> Answer:
        """From the provider to the call-back."""
        return await self.get(PORTAL, f"/.zt/callback?code=abc&state={state}")

    async def follow(self, answer: Answer, host: str = APP) -> Answer:
        """From the portal to the app's host."""
        assert answer.status == 303, answer.text
        parts = urlsplit(answer.location)
        assert parts.netloc == host
        return await self.get(host, f"{parts.path}?{parts.query}")

    async def sign_in(self, **handoff: object) -> Answer:
        """The whole way; gives the answer of `/.zt/resume`."""
        answer = await self.get(PORTAL, "/.zt/sign-in?to=" + await self.asked(**handoff))
        if answer.location.startswith("https://idp.example/"):
            answer = await self.back(parse_qs(urlsplit(answer.location).query)["state"][0])
        return await self.follow(answer, str(handoff.get("host", APP)))

    async def post(self, target: str, **form: str) -> Answer:
        """A form of the portal's own page."""
        headers = {**NAVIGATION, **OWN_PAGE, "Content-Type": "application/x-www-form-urlencoded"}
        return await self.request("POST", PORTAL, target, headers=headers, data=urlencode(form))

    async def script(self, target: str, body: object) -> Answer:
        """What the portal's own script sends."""
        headers = {**OWN_PAGE, "Sec-Fetch-Mode": "cors", "Content-Type": "application/json"}
        return await self.request("POST", PORTAL, target, headers=headers, data=json.dumps(body))

    async def to_own_factor(self, **handoff: object) -> str:
        """Through the provider to the page where an own factor is shown or enrolled; gives that address."""
        answer = await self.back(await self.to_provider(**handoff))
        assert answer.status == 303, answer.text
        return answer.location

    async def enrol_passkey(self, page: str, device: Authenticator) -> Answer:
        """Add a passkey at the page of an enrolment; gives what follows: the page with recovery codes."""
        query = page.partition("?")[2]
        asked = await self.script(f"/.zt/enrol/options?{query}", {})
        assert asked.status == 200, asked.text
        given = json.loads(asked.text)
        sent = {"token": given["token"], "credential": device.create(given["options"], ORIGIN), "name": "Phone"}
        added = await self.script(f"/.zt/enrol/passkey?{query}", sent)
        assert added.status == 204, added.text
        return await self.post(f"/.zt/enrol/codes?{query}", token=await self.form_token(page))

    async def enrol_and_sign_in(self, device: Authenticator, **handoff: object) -> Answer:
        """The first sign-in of somebody whose provider attests nothing; gives the answer of `/.zt/resume`."""
        page = await self.to_own_factor(**handoff)
        assert page.startswith("/.zt/enrol?"), page
        codes = await self.enrol_passkey(page, device)
        assert codes.status == 200, codes.text
        return await self.follow(await self.post("/.zt/enrol/done?" + page.partition("?")[2]))

    async def show_passkey(self, page: str, device: Authenticator, *, other: bool = False) -> Answer:
        """Answer a page of `/.zt/confirm` with a passkey; gives the last answer to the script. `other`: with whatever
        the device has, asked for or not."""
        query = page.partition("?")[2]
        asked = await self.script(f"/.zt/confirm/options?{query}", {})
        if asked.status != 200:
            return asked
        given = json.loads(asked.text)
        if other:
            given["options"]["allowCredentials"] = []
        sent = {"token": given["token"], "credential": device.get(given["options"], ORIGIN)}
        return await self.script(f"/.zt/confirm/passkey?{query}", sent)

    async def on(self, answer: Answer, host: str = APP) -> Answer:
        """Where the script is sent, at the app's host."""
        assert answer.status == 200, answer.text
        parts = urlsplit(json.loads(answer.text)["location"])
        assert parts.netloc == host
        return await self.get(host, f"{parts.path}?{parts.query}")

    async def form_token(self, page: str) -> str:
        found = re.search(r'name="token" value="([^"]*)"', (await self.get(PORTAL, page)).text)
        return found.group(1) if found is not None else ""

    async def session(self, host: str = APP) -> Session | None:
        cookie = self.cookies(host).get(SESSION_COOKIE)
        if cookie is None:
            return None
        return await self.lab.sessions.session(CookieMac(self.lab.worker_ring).handle_hash(cookie), host)

    async def sign_out_token(self) -> str:
        answer = await self.get(PORTAL, "/.zt/sign-out")
        found = re.search(r'name="token" value="([^"]+)"', answer.text)
        assert found is not None
        return found.group(1)


class PortalLab:
    """`async with PortalLab(tmp_path) as lab`. Settings given are ControlSettings' fields."""

    def __init__(
        self,
        folder: Path,
        providers: tuple[str, ...] = ("corp",),
        port: int | None = None,
        configured: tuple[ProviderSettings, ...] = (),
        **settings: object,
    ) -> None:
        self._port = port
        self.clock = ManualClock()
        self.worker_ring = KeyRing({1: b"w" * 32})
        self.providers = {name: ScriptedProvider(self.clock, name) for name in providers}
        self.provider = next(iter(self.providers.values()))
        self.changes: list[Invalidation] = []
        self.lines: list[dict[str, Any]] = []
        """What is on record, of approvals and what else `sessions.note` is told."""
        self.alarms: list[Finding] = []
        self.record_fault: ZtError | None = None
        self.locked: set[str] = set()
        """Subjects."""
        values: dict[str, object] = {
            "portal_origin": f"https://{PORTAL}",
            "portal_host": PORTAL,
            "socket": folder / "portal.sock",
            "state_dir": folder / "state",
            "runtime_dir": folder / "run",
            "providers": configured,
            "apps": {
                APP: AppHost(APP, f"https://{APP}", ("builder",)),
                OTHER: AppHost(OTHER, f"https://{OTHER}", ("crm",)),
            },
            "audit": AuditSettings(folder / "audit"),
            "session": SessionSettings(idle=900.0, absolute=43_200.0),
            "factors": FactorSettings(rp_id=PORTAL.partition(":")[0], origin=f"https://{PORTAL}"),
        }
        self.settings = ControlSettings(**{**values, **settings})  # type: ignore[arg-type]

    async def __aenter__(self) -> Self:
        self.sessions: SessionManager = await open_sessions(self.settings, self.worker_ring, self.clock)
        self.sessions.on_change(self.changes.append)
        self.sessions.note = self.write
        ring = KeyRing.load_or_create(self.settings.state_dir / "store.keys")
        self.factors = await open_factors(self.settings.factors, self.settings.state_dir, ring, self.clock)
        self.devices = await KnownDevices.open(self.settings.state_dir, self.clock)
        self.judge = Judge(await KnownPeople.open(self.settings.state_dir, self.clock), self.sessions, self.clock)
        self.judge.use(origins_of(self.settings), self.settings.risk)
        self.sessions.at_provider.heard = self.judge.renewed
        self.approvals = Approvals(
            await ApprovalStore.open(self.settings.state_dir), self.sessions, self.write, self.clock
        )
        await self.approvals.start()
        self.outbox = Outbox(self.clock, self.settings.mail)
        self._mailing = asyncio.create_task(self.outbox.run())
        application = build_portal(
            self.settings,
            self.sessions,
            self.providers,
            self.worker_ring,
            self.clock,
            lambda: {"keys": [{"kid": "k1"}]},
            SaidSo(),
            self.factors,
            self.devices,
            self.outbox,
            self.judge,
            self.approvals,
            self,
            self.alarms.append,
        )
        self.server = TestServer(application, port=self._port)
        await self.server.start_server(access_log=None)  # as the process wiring does (ZT-LOG-02)
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()
        await self.server.close()
        await self.approvals.close()
        await self.sessions.close()
        await self.factors.close()
        self._mailing.cancel()
        await asyncio.gather(self._mailing, return_exceptions=True)
        await self.devices.close()
        await self.judge.close()

    async def write(self, kind: str, **fields: Any) -> None:
        """The audit log; `record_fault` is raised instead."""
        if self.record_fault is not None:
            raise self.record_fault
        self.lines.append({"type": kind, **fields})

    def on_session(self, session: Session) -> bool:
        """Locks."""
        return session.principal.subject in self.locked

    def browser(self, address: str = "192.0.2.7") -> Browser:
        return Browser(self, address)
