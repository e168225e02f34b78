"""People of a `LevelsWorld`: they show factors, add and lose them, and their sessions change and end."""

import json
import re

import pyotp

from tests.lab.authenticator import Authenticator
from tests.lab.levels import FRESH, ISSUER, LOGIN_LIFE, OWN, STRENGTH, Asked, Code, Half, Held, Truth
from tests.lab.levels_world import TOKEN, LevelsWorld, onward, principal
from tests.lab.portal import APP, ORIGIN, OWN_PAGE, PORTAL, SESSION_COOKIE, Answer, Browser
from zt_proxy.control.factors.types import FactorKind, Person
from zt_proxy.control.identity.types import LogoutNotice, Renewed
from zt_proxy.core.session import Level

Question = Half | Asked | str
"""Half a login, a step-up, or the name of a page of the portal."""
TRIES = 5
ADDED = ("", "added", "")
"""The key under which a session keeps that it added a factor."""


def query_of(question: Question) -> str:
    if isinstance(question, Half):
        return f"login={question.name}"
    return f"to={question.text}" if isinstance(question, Asked) else f"for={question}"


class PeopleWorld(LevelsWorld):
    """With factors."""

    def whose(self, browser: Browser, question: Question) -> str | None:
        """Who is asked; None if this browser may not answer."""
        portal = self.truth(browser, PORTAL)
        if isinstance(question, Half):
            mine = question.under.browser == browser.cookies(PORTAL).get("__Host-zt-login")
            return question.login.who if mine and not question.gone and self.now < question.expires else None
        if isinstance(question, Asked):
            good = portal is not None and portal.sid == question.sid and self.now <= question.expires
            return portal.who if good and portal is not None else None
        return portal.who if portal is not None else None

    def least(self, question: Question, who: str) -> Level:
        if isinstance(question, Half):
            return Level.SINGLE  # a weaker factor opens the enrolment of a stronger one
        if isinstance(question, Asked):
            return question.level
        strong = self.book.has(who, FactorKind.PASSKEY)
        return Level.PHISHING_RESISTANT if strong else Level.MULTI

    # ---- a factor is shown

    async def show(self, browser: Browser, question: Question, held: Held, replay: bool = False) -> Half | Code | None:
        """Answer a question with a factor, of whoever it is. `replay`: with a code that was used."""
        who = self.whose(browser, question)
        before, portal = self.portal_of(browser)
        mine = who is not None and held in self.book.factors[who]
        page = "/.zt/confirm?" + query_of(question)
        if held.device is not None:
            if who is None or not self.book.has(who, FactorKind.PASSKEY):
                assert (await browser.script("/.zt/confirm/options?" + query_of(question), {})).status >= 400
                return None
            answer = await browser.show_passkey(page, held.device, other=True)
            good, counted = mine, True
        else:
            code, good = self.code_of(held, replay)
            asks = who is not None and (isinstance(question, Half) or self.least(question, who) <= Level.MULTI)
            good, counted = good and mine and asks, asks
            # Each page of a session has the same one: also where this page asks for no code.
            token = "" if isinstance(question, Half) else await browser.form_token("/.zt/sign-out")
            answer = await browser.post("/.zt/confirm/code?" + query_of(question), code=code, token=token)
            if answer.status == 429:  # after too many wrong ones the right one is not looked at either
                counted = good = False
            if good:
                held.step = int(self.now) // 30
                held.codes = [other for other in held.codes if other != code]
        if good:
            if isinstance(question, Half):
                question.held = held
            return await self.shown(browser, before, portal, question, STRENGTH[held.kind], answer)
        assert onward(answer) == "", answer.text
        self.turned(browser, PORTAL, before, None)
        if isinstance(question, Half) and who is not None and counted:
            question.wrong += 1
            question.gone = question.wrong >= TRIES
        return None

    def code_of(self, held: Held, replay: bool) -> tuple[str, bool]:
        """What is typed, and whether it is right."""
        if held.app is not None:
            step = int(self.now) // 30
            return held.app.at(step * 30), step > held.step
        return (held.codes[0], True) if held.codes and not replay else ("aaaaa-bbbbb-ccccc-ddddd", False)

    async def shown(
        self,
        browser: Browser,
        before: str | None,
        portal: Truth | None,
        question: Question,
        level: Level,
        answer: Answer,
    ) -> Half | Code | None:
        """The right factor, and what follows from it."""
        if isinstance(question, Asked):
            return self.unlocked(browser, before, portal, question, (self.now, level), answer)
        if isinstance(question, str):
            assert portal is not None
            portal.prove(OWN, self.now, level)
            self.turned(browser, PORTAL, before, portal.sid)
            return None
        if level < self.book.needed(question.under):
            assert onward(answer).startswith("/.zt/enrol?login=")
            self.turned(browser, PORTAL, before, None)
            question.proof = (self.now, level)
            return question
        question.gone, question.proof = True, (self.now, level)
        return await self.completed(browser, before, portal, question.under, question.proved(), answer)

    # ---- a factor is added

    async def enrol(self, browser: Browser, half: Half | None, kind: FactorKind, go_on: bool) -> Code | None:
        """Add a factor, in the middle of a sign-in or from a session; `go_on`: and finish the sign-in."""
        who, portal = self.whose(browser, half or "enrol"), self.truth(browser, PORTAL)
        before = browser.cookies(PORTAL).get(SESSION_COOKIE)
        may = who is not None and self.may_add(who, half, portal, kind)
        query = query_of(half) if half is not None else ""
        new = Held("", kind)
        answer = await self.add_passkey(browser, query, new) if new.kind is FactorKind.PASSKEY else None
        answer = answer or (await self.add_totp(browser, query, new) if kind is FactorKind.TOTP else None)
        assert (answer is not None) == may, (who, half, kind)
        if answer is None or who is None:
            self.turned(browser, PORTAL, before, None)
            return None
        self.book.factors[who].append(new)
        added = await self.lab.factors.of(Person(ISSUER, who))
        new.id = next(each.id for each in added if each.id not in {held.id for held in self.book.factors[who]})
        if half is None and portal is not None:
            portal.prove(ADDED, self.now, STRENGTH[kind])
        if half is not None:
            half.proof, half.held, half.expires = (self.now, STRENGTH[kind]), new, self.now + LOGIN_LIFE
        if new.kind is FactorKind.PASSKEY:
            answer = await browser.post(
                f"/.zt/enrol/codes?{query}",
                token=await browser.form_token("/.zt/enrol" + (f"?{query}" if query else "")),
            )
        codes = re.findall(r"<li><code>([^<]+)</code>", answer.text)
        if codes:
            recovery = next(each for each in await self.lab.factors.of(Person(ISSUER, who)) if each.kind == "recovery")
            self.book.factors[who].append(Held(recovery.id, FactorKind.RECOVERY, codes=codes))
        if half is None:
            self.turned(browser, PORTAL, before, None)
            return None
        if not codes:  # they have some: the sign-in goes on by itself
            half.gone = True
            return await self.completed(browser, before, portal, half.under, half.proved(), answer)
        return await self.done(browser, half) if go_on else None

    def may_add(self, who: str, half: Half | None, portal: Truth | None, kind: FactorKind) -> bool:
        if half is None:
            assert portal is not None
            proof = portal.for_the_portal()
            return self.now - proof[0] <= FRESH and self.book.adds(who, proof)
        needed = self.book.needed(half.under)
        if self.lost(who, half):
            return False
        if half.proof is None and self.book.reaches(who, Level.SINGLE):
            return False
        enough = half.proof is not None and half.proof[1] >= needed
        return not enough and STRENGTH[kind] >= needed and self.book.adds(who, half.best())

    def lost(self, who: str, half: Half) -> bool:
        """The factor that half a login was proved with is gone."""
        return half.proof is not None and not any(held is half.held for held in self.book.factors[who])

    async def add_passkey(self, browser: Browser, query: str, new: Held) -> Answer | None:
        new.device = Authenticator()
        asked = await browser.script(f"/.zt/enrol/options?{query}", {})
        if asked.status != 200:
            return None
        given = json.loads(asked.text)
        sent = {"token": given["token"], "credential": new.device.create(given["options"], ORIGIN), "name": ""}
        added = await browser.script(f"/.zt/enrol/passkey?{query}", sent)
        return added if added.status == 204 else None

    async def add_totp(self, browser: Browser, query: str, new: Held) -> Answer | None:
        page = await browser.get(PORTAL, f"/.zt/enrol?{query}&kind=totp" if query else "/.zt/enrol?kind=totp")
        secret = re.findall(r'class="secret">([^<]+)<', page.text)
        if page.status != 200 or not secret:
            return None
        new.app, new.step = pyotp.TOTP(secret[0].replace(" ", "")), int(self.now) // 30
        form = {name: re.findall(rf'name="{name}" value="([^"]*)"', page.text)[0] for name in ("token", "pending")}
        added = await browser.post(f"/.zt/enrol/totp?{query}", **form, code=new.app.at(int(self.now)))
        return added if added.status in (200, 303) else None

    async def done(self, browser: Browser, half: Half) -> Code | None:
        """Go on with a sign-in, whether or not a factor was added in it."""
        who, (before, portal) = self.whose(browser, half), self.portal_of(browser)
        enough = half.proof is not None and half.proof[1] >= self.book.needed(half.under)
        answer = await browser.post(f"/.zt/enrol/done?{query_of(half)}")
        if who is None or not enough or self.lost(who, half):
            assert onward(answer) == ""
            self.turned(browser, PORTAL, before, None)
            return None
        half.gone = True
        return await self.completed(browser, before, portal, half.under, half.proved(), answer)

    # ---- factors and sessions go

    async def remove(self, browser: Browser, held: Held) -> None:
        before, portal = self.portal_of(browser)
        answer = await browser.post("/.zt/me/remove", id=held.id, last="yes", token=await browser.form_token("/.zt/me"))
        self.turned(browser, PORTAL, before, None)
        if portal is None:
            assert answer.status == 401
            return
        portal.used = self.now
        at, level = portal.for_the_portal()
        mine = held in self.book.factors[portal.who]
        strong = level >= Level.MULTI and self.book.adds(portal.who, (at, level))
        good = mine and strong and self.now - at <= FRESH
        assert (onward(answer) == "/.zt/me?done=removed") == good
        if good:
            self.book.factors[portal.who].remove(held)

    async def reset(self, who: str) -> None:
        """By an operator, see `control.operator.factors`."""
        await self.lab.sessions.end_subject(ISSUER, who, "factors-reset")
        assert await self.lab.factors.reset(Person(ISSUER, who)) == len(self.book.factors[who])
        self.book.factors[who].clear()
        self.gone(truth for truth in self.book.everybody().values() if truth.who == who)

    def gone(self, truths: object) -> None:
        for truth in list(truths):  # type: ignore[call-overload]
            self.book.end(truth.sid)

    async def sign_out(self, browser: Browser, everywhere: bool) -> None:
        _, portal = self.portal_of(browser)
        path, page = ("/.zt/me/end-all", "/.zt/me") if everywhere else ("/.zt/sign-out", "/.zt/sign-out")
        await browser.post(path, token=await browser.form_token(page))
        if portal is not None:
            others = [each for each in self.book.everybody().values() if everywhere and each.who == portal.who]
            self.gone([portal, *others])

    async def revoke(self, truth: Truth) -> None:
        await self.lab.sessions.end(truth.sid, "revoked")
        self.book.end(truth.sid)

    async def announce(self, who: str, provider_sid: str) -> None:
        """A back-channel logout: of one session at the provider, or (empty) of all of a person."""
        self.notices += 1
        notice = LogoutNotice(
            ISSUER, provider_sid or None, None if provider_sid else who, self.now, str(self.notices), self.now + 120
        )
        await self.lab.sessions.at_provider.announced(notice)
        self.book.over[provider_sid or who] = self.now
        every = self.book.everybody().values()
        self.gone(
            each
            for each in every
            if (provider_sid in each.provider_sids if provider_sid else each.who == who and each.issued <= self.now)
        )

    async def refresh(self, truth: Truth, crew: bool) -> None:
        """The provider says, when asked again, who the person is now."""
        answer = Renewed(TOKEN, TOKEN, principal(truth.who, crew), None, 60.0)
        assert await self.lab.sessions.at_provider.renewed(truth.sid, answer)
        truth.crew = crew

    # ---- the rest of a browser's life

    async def small_window(self, browser: Browser, asked: Asked) -> Asked | None:
        """Open the step-up by way of the app's host, as session.js does."""
        here, now = self.truth(browser, asked.host), self.now
        answer = await browser.get(asked.host, f"/.zt/step-up?to={asked.text}&window=1")
        to = onward(answer).partition("?to=")[2]
        if here is not None and asked.sid:
            good = here.sid == asked.sid
        else:
            good = asked.binder in self.tokens(browser, asked.host)
        assert bool(to) == (good and now <= asked.expires)
        if not to:
            return None
        window = Asked(**{**vars(asked), "text": to})
        self.asked.append(window)
        return window

    async def keep_awake(self, browser: Browser) -> None:
        here = self.truth(browser, APP)
        headers = {**OWN_PAGE, "Origin": f"https://{APP}", "Sec-Fetch-Mode": "cors"}
        answer = await browser.request("POST", APP, "/.zt/activity", headers=headers)
        assert (answer.status == 204) == (here is not None)
        if here is not None:
            here.used = self.now
