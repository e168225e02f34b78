"""What `/.zt/confirm` can be asked for: to complete a sign-in, to step up, or to open the portal's own pages.

Each says whose factor is wanted and how strong, and what a proof then opens. The query names it, and travels along.
"""

from typing import Protocol
from urllib.parse import quote, urlencode

import msgspec

from zt_proxy.control.factors.types import Person, Proved
from zt_proxy.control.identity.levels import wanted
from zt_proxy.control.portal import adopt
from zt_proxy.control.portal.call import Call
from zt_proxy.control.session.logins import HalfLogin
from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.handoff import Handoff, Purpose, open_handoff
from zt_proxy.core.session import Level, Principal, Session

TRIES = 5
"""Wrong answers that half a login survives, less one."""


class Question(Protocol):
    """A proof that is asked for."""

    principal: Principal
    level: Level
    handoff: Handoff | None
    query: str
    """Names the question in every address that belongs to it."""
    bound: bool
    """A form needs the session's token: the query is not a secret of this browser."""
    sid: str
    """The session that asks; empty where the query is a secret of this browser."""
    account: str
    """Where to prove it at the provider instead; empty if that is no use."""
    title: str

    async def settle(self, call: Call, proved: Proved) -> str:
        """What was asked for opens. Gives the address to go on to; raises ClientError."""
        ...

    async def failed(self, call: Call) -> None:
        """The answer was wrong. Raises ClientError(LOGIN_EXPIRED) if it was the last one."""
        ...


def person_of(question: Question) -> Person:
    return Person.of(question.principal)


def origins_of(call: Call, question: Question) -> tuple[str, ...]:
    """Where the answer to a form may lead beside the portal."""
    return () if question.handoff is None else (call.portal.app(question.handoff.host).origin,)


async def open_question(call: Call) -> Question:
    """The question that this request's query names.

    Raises ClientError: HANDOFF_INVALID, LOGIN_REQUIRED, LOGIN_STATE_UNKNOWN, LOGIN_OTHER_BROWSER, LOGIN_EXPIRED.
    """
    query = call.query()
    call.retry = ("Go to your applications", "/")
    if "login" in query:
        return await _half_question(call, query["login"])
    session = await call.session()
    if "to" in query:
        return _step_up_question(call, query["to"], session)
    if query.get("for") not in adopt.OWN_PAGES:
        raise ClientError(Reason.HANDOFF_INVALID, "the link does not say what is to be confirmed")
    if session is None:
        call.retry = ("Sign in", "/.zt/sign-in")
        raise ClientError(Reason.LOGIN_REQUIRED, "no session at the portal", status=401)
    level = await call.portal.factors.enrolment_level(Person.of(session.principal))
    return OwnQuestion(call, session, query["for"], max(level, Level.MULTI))


async def _half_question(call: Call, name: str) -> "HalfQuestion":
    call.retry = ("Start again", "/.zt/sign-in")
    half = await call.portal.logins.half(name, call.browser())
    await adopt.refuse_asking(call, half)
    return HalfQuestion(name, half, await adopt.needed_level(call, half.transaction))


def _step_up_question(call: Call, text: str, session: Session | None) -> "StepUpQuestion":
    handoff = open_handoff(call.portal.ring, text, call.portal.clock.now())
    if handoff.purpose is not Purpose.REAUTH or handoff.ask:
        raise ClientError(Reason.HANDOFF_INVALID, "the link is for something else")
    if session is None or session.sid != handoff.sid:
        call.retry = ("Start again", "/.zt/sign-in?to=" + quote(text))
        raise ClientError(Reason.LOGIN_REQUIRED, "the step-up is for another session", status=401)
    return StepUpQuestion(call, session, handoff, text)


class HalfQuestion:
    """A sign-in, or a step-up by way of the provider, that lacks an own factor."""

    bound = False
    sid = ""
    account = ""
    title = "One more step"

    def __init__(self, name: str, half: HalfLogin, level: Level) -> None:
        self.name = name
        self.half = half
        self.principal = half.login.principal
        self.level = level
        self.handoff = half.transaction.handoff
        self.query = urlencode({"login": name})

    async def settle(self, call: Call, proved: Proved) -> str:
        """The login completes, once; too weak a factor lets a stronger one be enrolled."""
        half = await call.portal.logins.take_half(self.name, call.browser())
        return await go_on(call, self.name, half, proved)

    async def failed(self, call: Call) -> None:
        """Counts; the login is gone with the last try."""
        half = await call.portal.logins.take_half(self.name, call.browser())
        half = msgspec.structs.replace(half, failed=half.failed + 1)
        if half.failed >= TRIES:
            call.retry = ("Start again", "/.zt/sign-in")
            call.note = "That was the fifth wrong answer in this sign-in."
            raise ClientError(Reason.LOGIN_EXPIRED, "too many wrong answers")
        await keep(call, self.name, half)


async def keep(call: Call, name: str, half: HalfLogin) -> None:
    """Put half a login back that was taken."""
    await call.portal.logins.keep(half, browser=adopt.ensure_browser(call), client=call.client, name=name)


async def go_on(call: Call, name: str, half: HalfLogin, proved: Proved) -> str:
    """Half a login, taken, with a proof by an own factor: complete if that is enough."""
    login = adopt.raised(half.login, proved.proof, proved.factor.kind)
    if login.level >= await adopt.needed_level(call, half.transaction):
        return await adopt.complete(call, half.transaction, login)
    half = msgspec.structs.replace(half, proof=proved.proof, shown=proved.factor.kind.value, factor=proved.factor.id)
    await keep(call, name, half)
    return f"/.zt/enrol?login={quote(name)}"


class StepUpQuestion:
    """A proof for one rule at an app, from the session that the browser has here, too."""

    bound = True
    title = "Confirm it is you"

    def __init__(self, call: Call, session: Session, handoff: Handoff, text: str) -> None:
        self.principal = session.principal
        self.sid = session.sid
        self.level = handoff.level
        self.handoff: Handoff | None = handoff
        self.query = urlencode({"to": text})
        self.account = ""
        if _provider_reaches(call, session, self.level):
            self.account = "/.zt/sign-in?" + urlencode({"to": text, "with": session.principal.provider})
        self._to = handoff

    async def settle(self, call: Call, proved: Proved) -> str:
        """The rule opens, as soon as the code arrives at the app's host."""
        browser, now = adopt.ensure_browser(call), call.portal.clock.now()
        return await adopt.unlock_at_app(call, self._to, proved.proof, browser=browser, arrived=now)

    async def failed(self, call: Call) -> None:
        """The factors themselves count wrong answers."""


class OwnQuestion:
    """A proof for the portal's own pages."""

    bound = True
    handoff: Handoff | None = None
    title = "Confirm it is you"

    def __init__(self, call: Call, session: Session, page: str, level: Level) -> None:
        self.principal = session.principal
        self.sid = session.sid
        self.level = level
        self.page = page
        self.query = urlencode({"for": page})
        self.account = f"/.zt/confirm?for={page}&with=provider" if _provider_reaches(call, session, self.level) else ""
        self._session = session

    async def settle(self, call: Call, proved: Proved) -> str:
        """The portal remembers it."""
        return await adopt.unlock_portal(call, self._session, proved.proof, self.page)

    async def failed(self, call: Call) -> None:
        """The factors themselves count wrong answers."""


def _provider_reaches(call: Call, session: Session, level: Level) -> bool:
    """Whether the configuration says that this provider can be asked for a proof so strong."""
    settings = call.portal.settings
    if "provider" not in settings.factors.accept:
        return False
    return any(
        each.name == session.principal.provider and (level is Level.SINGLE or wanted(each, level))
        for each in settings.providers
    )


def shown_name(question: Question) -> str:
    """How the person is named to themselves."""
    principal = question.principal
    return principal.name or principal.email or principal.subject
