"""Drives the real portal, sessions, factors and policy, and writes into a `Book` what each answer has to mean.

Each step says beforehand whether it may count, and fails when the portal disagrees, either way.
"""

import asyncio
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.lab.levels import (
    ABSOLUTE,
    CODE_LIFE,
    IDLE,
    ISSUER,
    LOGIN_LIFE,
    OWN,
    REQUESTS,
    ROUTES,
    SKEW,
    Asked,
    Book,
    Code,
    Half,
    Login,
    Request,
    Truth,
    Under,
    digest,
    judge,
    rules_of,
)
from tests.lab.portal import (
    APP,
    LOGIN_COOKIE,
    OTHER,
    PORTAL,
    SESSION_COOKIE,
    Answer,
    Browser,
    PortalLab,
    ScriptedProvider,
)
from zt_proxy.control.identity.types import VerifiedLogin
from zt_proxy.control.settings import SessionSettings
from zt_proxy.core.errors import ProviderError, Reason
from zt_proxy.core.handoff import Purpose
from zt_proxy.core.keys import Secret, b64encode
from zt_proxy.core.session import Level, Principal, Session
from zt_proxy.core.types import ChallengeKind, Decision, Effect, Facts
from zt_proxy.policy.compile import compile_rules

HOSTS = (PORTAL, APP, OTHER)
TOKEN = Secret("refresh")


def principal(who: str, crew: bool) -> Principal:
    groups = frozenset({"crew"}) if crew else frozenset()
    return Principal(subject=who, issuer=ISSUER, provider="corp", email=f"{who}@example.com", name=who, groups=groups)


class Provider(ScriptedProvider):
    """Attests `login`; refuses, as the real one does, to call an old proof fresh."""

    login: Login

    async def finish(self, **given: object) -> VerifiedLogin:  # type: ignore[override]
        login, after = self.login, given["forced_after"]
        if isinstance(after, float) and login.at < after - SKEW:
            raise ProviderError(Reason.LOGIN_NOT_FRESH, "an older proof", status=403)
        return VerifiedLogin(
            principal=principal(login.who, login.crew),
            acr="",
            amr=(),
            auth_time=login.at,
            mfa=self.insecure_no_mfa or login.level >= Level.MULTI,
            id_token=Secret("id-token"),
            provider_sid=login.provider_sid,
            provider=self.name,
            issued=login.issued,
            refresh_token=TOKEN,
            renew_in=60.0,
            level=login.level,
        )


def onward(answer: Answer) -> str:
    """Where an answer sends a person or our script; empty for a refusal."""
    if answer.status == 303:
        return answer.location
    return str(json.loads(answer.text)["location"]) if answer.status == 200 and answer.text[:1] == "{" else ""


class LevelsWorld:
    """Browsers, the portal, and the book. `open` and `close` are a start and an end of control."""

    def __init__(self, folder: Path, browsers: int) -> None:
        self.lab = PortalLab(folder, session=SessionSettings(idle=IDLE, absolute=ABSOLUTE))
        self.provider = Provider(self.lab.clock)
        self.lab.providers = {"corp": self.provider}
        self.book = Book(self.lab.clock)
        self.browsers = [self.lab.browser(f"192.0.2.{number}") for number in range(browsers)]
        for number, browser in enumerate(self.browsers):
            for host in (APP, OTHER):
                browser.cookies(host)[LOGIN_COOKIE] = b64encode(digest(f"{number} {host}"))
        self.policies = {host: compile_rules(rules_of(route)) for host, route in ROUTES.items()}
        self.asked: list[Asked] = []
        self.unders: list[Under] = []
        self.halves: list[Half] = []
        self.codes: list[Code] = []
        self.shed: list[tuple[str, str]] = []
        """Cookies that browsers had at a host."""
        self.notices = 0

    @property
    def now(self) -> float:
        return self.lab.clock.now()

    async def open(self) -> None:
        await self.lab.__aenter__()

    async def close(self) -> None:
        await self.lab.__aexit__()

    async def restart(self) -> None:
        await self.close()
        await self.open()
        self.book.over.clear()  # what was announced is remembered by the running control alone

    # ---- what a browser is, to the book and to a worker

    def truth(self, browser: Browser, host: str) -> Truth | None:
        return self.book.of(host, browser.cookies(host).get(SESSION_COOKIE))

    async def agree(self) -> None:
        """The portal's sessions are the book's, to the last proof, and the policy says of each what the book says."""
        for truth in self.book.everybody().values():
            record = await self.lab.sessions.record(truth.sid)
            assert record is not None, truth
            used = self.lab.sessions.last_activity(truth.sid, truth.used)
            assert truth.used <= used <= self.now
            assert (record.principal, record.mfa) == (principal(truth.who, truth.crew), True)
            assert (record.auth_time, record.level, record.created) == (truth.at, truth.level, truth.created)
            assert {key: (each.at, each.level) for key, each in record.proofs.items()} == truth.keys()
        known = [await self.lab.sessions.of_person(ISSUER, who) for who in self.book.factors]
        assert {each.sid for some in known for each in some} == set(self.book.everybody())
        for browser in self.browsers:
            for host in HOSTS:
                session, truth = await browser.session(host), self.truth(browser, host)
                assert (session.sid if session else None) == (truth.sid if truth else None), host
                for request in REQUESTS if host in ROUTES else ():
                    said = self.word(self.decide(session, host, request))
                    assert said == judge(truth, ROUTES[host], request, self.now), (request, truth)

    def decide(self, session: Session | None, host: str, request: Request) -> Decision:
        who = session.principal if session is not None else None
        method, path = request.method.encode(), request.path.encode()
        return self.policies[host].decide(Facts(self.now, ROUTES[host], method, path, "192.0.2.1", who, session))

    @staticmethod
    def word(decision: Decision) -> str:
        if decision.effect is Effect.ALLOW:
            return "spend" if decision.spend else "allow"
        if decision.effect is Effect.DENY:
            return "deny"
        return {ChallengeKind.LOGIN: "login", ChallengeKind.REAUTH: "prove"}[decision.challenge or ChallengeKind.MFA]

    async def request(self, browser: Browser, host: str, request: Request, at_once: int = 1) -> Asked | str:
        """A browser wants something of an app, on so many workers at once: the way to a missing proof, or what
        happened."""
        session = await browser.session(host)
        decision = self.decide(session, host, request)
        if decision.spend and session is not None:
            spends = [self.lab.sessions.spend(session.sid, decision.spend) for _ in range(at_once)]
            assert sorted(await asyncio.gather(*spends)) == [False] * (at_once - 1) + [True]
            del self.book.sessions[session.sid].proofs[ROUTES[host], request.rule.name, request.name]
            return "allow"
        if decision.effect is not Effect.CHALLENGE:
            return self.word(decision)
        return self.ask(browser, host, session, decision, request)

    def ask(self, browser: Browser, host: str, session: Session | None, decision: Decision, request: Request) -> Asked:
        """What `worker.gateway.respond` seals."""
        reauth = decision.challenge is ChallengeKind.REAUTH and session is not None
        binder = digest(browser.cookies(host)[SESSION_COOKIE if reauth else LOGIN_COOKIE])
        fields = {"binder": binder, "route": ROUTES[host], "rule": decision.rule, "max_age": decision.max_age}
        asked = Asked("", host, binder, self.now + LOGIN_LIFE)
        if reauth and session is not None:
            name = request.name if decision.once else ""
            asked.sid, asked.level = session.sid, decision.level
            asked.key = (ROUTES[host], decision.rule, name)
            fields |= {"sid": session.sid, "level": decision.level, "request": name}
        purpose = Purpose.REAUTH if reauth else Purpose.LOGIN
        asked.text = browser.handoff(purpose, host, request.path, **fields)
        self.asked.append(asked)
        return asked

    # ---- cookies

    def turned(self, browser: Browser, host: str, before: str | None, sid: str | None) -> None:
        """After a step: this browser has a new cookie here, of this session, or still the one of before."""
        after = browser.cookies(host).get(SESSION_COOKIE)
        if before is not None:
            self.shed.append((host, before))
        if sid is None:
            assert after == before
            return
        assert after is not None
        assert after != before
        self.book.led(host, after, sid)

    @staticmethod
    def tokens(browser: Browser, host: str) -> set[bytes]:
        """By which a hand-off knows this browser here."""
        return {digest(browser.cookies(host).get(name, "")) for name in (SESSION_COOKIE, LOGIN_COOKIE)}

    def portal_of(self, browser: Browser) -> tuple[str | None, Truth | None]:
        return browser.cookies(PORTAL).get(SESSION_COOKIE), self.truth(browser, PORTAL)

    # ---- the way to a proof

    async def follow(self, browser: Browser, asked: Asked, named: bool = False) -> Under | Asked | Code | None:
        """Open the portal with a hand-off: on to the provider, to the own factor, or back with a code."""
        before, portal = self.portal_of(browser)
        answer = await browser.get(PORTAL, f"/.zt/sign-in?to={asked.text}" + ("&with=corp" if named else ""))
        self.turned(browser, PORTAL, before, None)
        to = onward(answer)
        if self.now > asked.expires:
            assert not to
            return None
        stepped = self.book.stepped(asked)
        own = stepped is not None and self.book.reaches(stepped.who, asked.level)
        if stepped is not None and own and not named and portal is stepped:
            assert to.startswith("/.zt/confirm?to=")
            return asked
        if stepped is None and portal is not None and not asked.sid:
            portal.used = self.now
            return self.code_in(answer, Code("", asked.host, portal.sid, asked.binder, 0.0))
        force = (named or not own) if stepped is not None else bool(asked.sid)
        return self.left(browser, to, force, asked)

    async def go_to_portal(self, browser: Browser, page: str) -> Under | None:
        """Ask the provider for a proof for the portal's own pages; None if it is not asked."""
        before, portal = self.portal_of(browser)
        answer = await browser.get(PORTAL, f"/.zt/confirm?for={page}&with=provider")
        self.turned(browser, PORTAL, before, None)
        if portal is None:
            assert answer.status == 401
            return None
        return self.left(browser, onward(answer), True, None, page)

    def left(self, browser: Browser, to: str, force: bool, asked: Asked | None, own: str = "") -> Under:
        assert to.startswith("https://idp.example/"), to
        state = parse_qs(urlsplit(to).query)["state"][0]
        under = Under(state, browser.cookies(PORTAL)[LOGIN_COOKIE], self.now, force, asked, own)
        self.unders.append(under)
        return under

    async def answer(self, browser: Browser, under: Under, login: Login, insecure: bool) -> Half | Code | None:
        """Back from the provider, with whatever it attests."""
        self.provider.login, self.provider.insecure_no_mfa = login, insecure
        before, portal = self.portal_of(browser)
        mine = not under.used and browser.cookies(PORTAL).get(LOGIN_COOKIE) == under.browser
        answer = await browser.back(under.state)
        to, stepped = onward(answer), self.book.stepped(under.asked)
        under.used = under.used or mine
        fresh = not under.force or login.at >= under.started - SKEW
        other = stepped is not None and stepped.who != login.who
        if not mine or self.now >= under.started + LOGIN_LIFE or not fresh or other:
            assert to in ("", "/")
            self.turned(browser, PORTAL, before, None)
            return None
        unasked = insecure and login.level is Level.SINGLE and stepped is None
        strong = login.level >= self.book.needed(under) and (stepped is None or under.force)
        if strong or unasked:
            return await self.completed(browser, before, portal, under, login, answer)
        self.turned(browser, PORTAL, before, None)
        page = "confirm" if self.book.reaches(login.who, Level.SINGLE) else "enrol"
        assert to.startswith(f"/.zt/{page}?login="), to
        half = Half(to.partition("login=")[2], under, login, self.now + LOGIN_LIFE)
        self.halves.append(half)
        return half

    async def completed(
        self, browser: Browser, before: str | None, portal: Truth | None, under: Under, login: Login, answer: Answer
    ) -> Code | None:
        """A login that was strong enough; the answer is the portal's."""
        book, asked = self.book, under.asked
        if not book.completes(under, login, portal):
            assert onward(answer) == ""
            self.turned(browser, PORTAL, before, None)
            return None
        if asked is not None and (stepped := book.stepped(asked)) is not None:
            self.again(stepped, login)
            return self.unlocked(browser, before, portal, asked, (login.at, login.level), answer)
        if under.own and portal is not None:
            self.again(portal, login)
            portal.prove(OWN, login.at, login.level)
            self.turned(browser, PORTAL, before, portal.sid)
            return None
        if portal is None or not book.is_known(under, login, portal):
            if portal is not None:
                book.end(portal.sid)
            session = await browser.session(PORTAL)
            assert session is not None
            assert session.sid not in book.sessions
            portal = Truth(session.sid, login.who, login.at, login.level, self.now, self.now, login.crew, set(), 0.0)
            book.sessions[portal.sid] = portal
            self.again(portal, login)
        self.turned(browser, PORTAL, before, portal.sid)
        if asked is None:
            return None
        return self.code_in(answer, Code("", asked.host, portal.sid, asked.binder, 0.0))

    @staticmethod
    def again(truth: Truth, login: Login) -> None:
        truth.provider_sids.add(login.provider_sid)
        truth.issued = max(truth.issued, login.issued)

    def unlocked(
        self,
        browser: Browser,
        before: str | None,
        portal: Truth | None,
        asked: Asked,
        proof: tuple[float, Level],
        answer: Answer,
    ) -> Code | None:
        """A step-up was proved; it counts when its code arrives."""
        self.turned(browser, PORTAL, before, asked.sid if portal is not None and portal.sid == asked.sid else None)
        return self.code_in(answer, Code("", asked.host, asked.sid, asked.binder, 0.0, asked.key, proof))

    def code_in(self, answer: Answer, code: Code) -> Code | None:
        to = onward(answer)
        if not to:  # the third turn within a minute stops, as a courtesy
            assert Reason.LOGIN_LOOP in answer.text, answer.text
            assert code.proof is None
            return None
        parts = urlsplit(to)
        assert parts.netloc == code.host
        code.target, code.expires = f"{parts.path}?{parts.query}", self.now + CODE_LIFE
        self.codes.append(code)
        return code

    async def redeem(self, browser: Browser, code: Code, host: str) -> None:
        """Bring a code to an app's host."""
        before, here = browser.cookies(host).get(SESSION_COOKIE), self.truth(browser, host)
        shown = self.tokens(browser, host)
        good = not code.used and self.now < code.expires and host == code.host and self.book.alive(code.sid) is not None
        await browser.get(host, code.target)
        code.used = True
        if good and code.proof is not None:
            good = here is not None and here.sid == code.sid
        else:
            good = good and code.binder in shown
        self.turned(browser, host, before, code.sid if good else None)
        if not good:
            return
        if code.proof is not None:
            self.book.sessions[code.sid].prove(code.key, *code.proof)
        elif here is not None and here.sid != code.sid:
            self.book.end(here.sid)
