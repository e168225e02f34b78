"""No order of events gives access without the proof that a rule asks for, fresh; and with it, access is given.

Several people and browsers, two apps, cookies and codes that wander: after each step the portal, its store and the
policy must agree with a book of what was truly proved (`tests.lab.levels`), for every session and every request.
"""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.lab.levels import REQUESTS, ROUTES, STRENGTH, Asked, Code, Half, Held, Login, Request, Under, judge
from tests.lab.levels_people import PeopleWorld, Question
from tests.lab.portal import APP, LOGIN_COOKIE, OTHER, PORTAL, SESSION_COOKIE, Browser
from zt_proxy.control.factors.types import FactorKind
from zt_proxy.core.session import Level

T = TypeVar("T")

BROWSERS = 3
CALM = 6
"""Steps between two ends of sessions: what is built up in between is worth attacking."""
ENDS = ["sign-out", "revoke", "logout of one", "sign-out everywhere", "logout of all", "reset"]
WAITS = [1.0, 29.0, 59.0, 61.0, 119.0, 121.0, 299.0, 301.0, 599.0, 1_800.0, 5_399.0]
apps = st.sampled_from([APP, APP, OTHER])
hosts = st.sampled_from([APP, OTHER, PORTAL])
people = st.sampled_from(["alice", "alice", "bob"])
browsers = st.sampled_from([0, 0, 1, 2])
anybody = st.none() | browsers
"""None: the browser that it belongs to."""
newest = st.sampled_from([0, 0, 0, 1, 2, 3])
"""Which of the things under way, counted from the newest."""
levels = st.sampled_from(list(Level))
ages = st.sampled_from([0.0, 0.0, 20.0, 40.0, 290.0, 4_000.0])
kinds = st.sampled_from([FactorKind.PASSKEY, FactorKind.TOTP])
requests = st.sampled_from(REQUESTS)
which = st.integers(0, 12)


class Levels(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.world = PeopleWorld(Path(self.folder.name), BROWSERS)
        self.run(self.world.open())
        self.calm = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def pick(self, things: list[T], back: int) -> T:
        return things[-1 - back % len(things)]

    def browser(self, number: int) -> Browser:
        return self.world.browsers[number]

    def whose(self, number: int | None, fits: Callable[[Browser], bool]) -> Browser:
        if number is not None:
            return self.browser(number)
        return next((each for each in self.world.browsers if fits(each)), self.browser(0))

    def lacking(self, number: int, host: str, which: int) -> Request:
        """A request for which this browser has to prove something, if there is one."""
        truth, route, now = self.world.truth(self.browser(number), host), ROUTES[host], self.world.now
        some = [each for each in REQUESTS if judge(truth, route, each, now) == "prove"]
        return self.pick(some or list(REQUESTS), which)

    def login(self, who: str, level: Level, age: float, number: int, crew: bool = True) -> Login:
        now = self.world.now
        return Login(who, now - age, level, crew, f"{who} in {number}", now)

    def held(self) -> list[Held]:
        return [held for factors in self.world.book.factors.values() for held in factors]

    def questions(self) -> list[Question]:
        step_ups = [asked for asked in self.world.asked if asked.sid]
        return ["enrol", "me", *step_ups[-3:], *self.world.halves[-3:]]

    # ---- whole ways

    @initialize(equipped=st.tuples(st.booleans(), st.booleans()), level=levels)
    def everybody_arrives(self, equipped: tuple[bool, bool], level: Level) -> None:
        """With a passkey and an app each, or with what the provider attests."""
        for number, (who, own) in enumerate(zip(("alice", "bob"), equipped, strict=True)):
            said = Level.SINGLE if own else max(level, Level.MULTI)
            self.signs_in(number, APP, who, said, 0.0, False, FactorKind.PASSKEY)
            if own:
                self.run(self.world.enrol(self.browser(number), None, FactorKind.TOTP, go_on=False))
            self.world.lab.clock.advance(31)
        self.signs_in(2, APP, "alice", level, 40.0, True, FactorKind.TOTP)

    @rule(number=browsers, host=apps, who=people, level=levels, age=ages, insecure=st.booleans(), kind=kinds)
    def signs_in(
        self, number: int, host: str, who: str, level: Level, age: float, insecure: bool, kind: FactorKind
    ) -> None:
        browser, world = self.browser(number), self.world
        single = REQUESTS[0]
        asked = self.run(world.request(browser, host, single))
        if not isinstance(asked, Asked):
            return
        step = self.run(world.follow(browser, asked))
        if isinstance(step, Under):
            step = self.run(world.answer(browser, step, self.login(who, level, age, number), insecure))
        if isinstance(step, Half):
            step = self.finish(browser, step, kind)
        if isinstance(step, Code):
            self.run(world.redeem(browser, step, host))

    def finish(self, browser: Browser, half: Half, kind: FactorKind) -> Code | None:
        """With a factor of this kind if there is one, else with the strongest, else with a new one."""
        world = self.world
        own = sorted(world.book.factors[half.login.who], key=lambda held: (held.kind is not kind, -STRENGTH[held.kind]))
        if not own:
            return self.run(world.enrol(browser, half, kind, go_on=True))
        step = self.run(world.show(browser, half, own[0]))
        if isinstance(step, Half):
            return self.run(world.enrol(browser, half, FactorKind.PASSKEY, go_on=True))
        return step

    @rule(number=browsers, host=apps, request=which, level=levels, age=ages, kind=kinds, small=st.booleans())
    def steps_up(
        self, number: int, host: str, request: int, level: Level, age: float, kind: FactorKind, small: bool
    ) -> None:
        """Somebody wants something, proves what is missing, and does it."""
        browser, world, wanted = self.browser(number), self.world, self.lacking(number, host, request)
        asked = self.run(world.request(browser, host, wanted))
        if not isinstance(asked, Asked) or not asked.sid:
            return
        who = world.book.sessions[asked.sid].who
        window = self.run(world.small_window(browser, asked)) if small else asked
        step: Any = self.run(world.follow(browser, window or asked))
        if isinstance(step, Under):
            step = self.run(world.answer(browser, step, self.login(who, level, age, number), False))
        if isinstance(step, Half):
            step = self.finish(browser, step, kind)
        elif isinstance(step, Asked):
            good = [held for held in world.book.factors[who] if STRENGTH[held.kind] >= asked.level]
            step = self.run(world.show(browser, step, self.pick(good, 0)))
        if isinstance(step, Code):
            self.run(world.redeem(browser, step, host))
        self.run(world.request(browser, host, wanted, at_once=1 + small))

    @rule(number=browsers, request=which, small=st.booleans())
    def works(self, number: int, request: int, small: bool) -> None:
        """The same without a mistake, and once more."""
        for _ in range(2):
            self.steps_up(number, APP, request, Level.PHISHING_RESISTANT, 0.0, FactorKind.PASSKEY, small)

    @rule(
        number=browsers,
        other=browsers,
        host=apps,
        request=which,
        who=people,
        named=st.booleans(),
        kind=kinds,
        astray=st.sampled_from(["link", "state", "factor", "code"]),
    )
    def something_goes_astray(
        self, number: int, other: int, host: str, request: int, who: str, named: bool, kind: FactorKind, astray: str
    ) -> None:
        """A step-up of which one part ends up in another browser, or with another person; then the owner goes on."""
        world, browser, thief = self.world, self.browser(number), self.browser(other)
        asked = self.run(world.request(browser, host, self.lacking(number, host, request)))
        if not isinstance(asked, Asked):
            return
        if astray == "link":  # who is signed in elsewhere confirms with what they have
            elsewhere = world.truth(thief, PORTAL)
            theirs = world.book.factors[elsewhere.who] if elsewhere is not None else []
            for held in theirs[:2]:
                self.run(world.show(thief, asked, held))
        opener = thief if astray == "link" else browser
        step: Any = self.run(world.follow(opener, asked, named))
        if isinstance(step, Under):
            for each in (thief, opener) if astray == "state" else (opener,):
                came = self.run(world.answer(each, step, self.login(who, Level.PHISHING_RESISTANT, 0.0, other), False))
            step = came
        elif isinstance(step, Asked):
            strange = [held for held in self.held() if astray == "factor" or held in world.book.factors[who]]
            step = self.run(world.show(opener, step, self.pick(strange, number))) if strange else None
        if isinstance(step, Half):
            step = self.finish(opener, step, kind)
        if isinstance(step, Code):
            for each in (thief, browser) if astray == "code" else (browser, opener):
                self.run(world.redeem(each, step, host))

    @rule(number=browsers, request=which, level=levels, age=ages, kind=kinds)
    def steps_up_without_the_portals_cookie(
        self, number: int, request: int, level: Level, age: float, kind: FactorKind
    ) -> None:
        """The provider is asked only who this is, and its word for more is worth nothing."""
        self.browser(number).cookies(PORTAL).pop(SESSION_COOKIE, None)
        self.steps_up(number, APP, request, level, age, kind, False)

    @rule(number=browsers, request=which, kind=kinds)
    def confirms_with_what_there_is(self, number: int, request: int, kind: FactorKind) -> None:
        """A step-up by an own factor, of whose code nothing is done yet."""
        browser, world = self.browser(number), self.world
        asked = self.run(world.request(browser, APP, self.lacking(number, APP, request)))
        if isinstance(asked, Asked) and asked.sid:
            own = world.book.factors[world.book.sessions[asked.sid].who]
            fit = [held for held in own if held.kind is kind] or own
            if fit:
                self.run(world.show(browser, asked, self.pick(fit, 0)))

    @rule(number=browsers, page=st.sampled_from(["me", "enrol"]), kind=kinds, add=st.booleans())
    def confirms_for_the_portal(self, number: int, page: str, kind: FactorKind, add: bool) -> None:
        browser, portal = self.browser(number), self.world.truth(self.browser(number), PORTAL)
        fit = [held for held in self.world.book.factors[portal.who] if held.kind is not kind] if portal else []
        if fit:
            self.run(self.world.show(browser, page, self.pick(fit, 0)))
        if add and len(self.held()) < 9:
            self.run(self.world.enrol(browser, None, kind, go_on=False))

    # ---- single steps, in any browser

    @rule(number=browsers, host=apps, request=requests, at_once=st.sampled_from([1, 2, 3]))
    def wants(self, number: int, host: str, request: Request, at_once: int) -> None:
        self.run(self.world.request(self.browser(number), host, request, at_once))

    @precondition(lambda self: self.world.asked)
    @rule(number=anybody, back=newest, how=st.sampled_from(["as it is", "at the provider", "in a small window"]))
    def opens_a_link(self, number: int | None, back: int, how: str) -> None:
        asked = self.pick(self.world.asked, back)
        browser = self.whose(number, lambda each: asked.binder in self.world.tokens(each, asked.host))
        if how == "in a small window":
            self.run(self.world.small_window(browser, asked))
        else:
            self.run(self.world.follow(browser, asked, named=how == "at the provider"))

    @rule(number=browsers, page=st.sampled_from(["me", "enrol"]))
    def goes_to_the_provider_for_the_portal(self, number: int, page: str) -> None:
        self.run(self.world.go_to_portal(self.browser(number), page))

    @precondition(lambda self: self.world.unders)
    @rule(number=anybody, back=newest, who=people, level=levels, age=ages, insecure=st.booleans())
    def comes_back(self, number: int | None, back: int, who: str, level: Level, age: float, insecure: bool) -> None:
        under = self.pick(self.world.unders, back)
        browser = self.whose(number, lambda each: each.cookies(PORTAL).get(LOGIN_COOKIE) == under.browser)
        login = self.login(who, level, age, self.world.browsers.index(browser))
        self.run(self.world.answer(browser, under, login, insecure))

    @precondition(lambda self: self.held())
    @rule(number=anybody, back=newest, which=st.none() | newest, replay=st.booleans())
    def shows_a_factor(self, number: int | None, back: int, which: int | None, replay: bool) -> None:
        question = self.pick(self.questions(), back)
        browser = self.whose(number, lambda each: self.world.whose(each, question) is not None)
        who = self.world.whose(browser, question) if which is None else None
        held = self.world.book.factors[who] if who is not None else []
        self.run(self.world.show(browser, question, self.pick(held or self.held(), which or 0), replay))

    @precondition(lambda self: len(self.held()) < 9)
    @rule(number=browsers, kind=kinds)
    def adds_a_factor(self, number: int, kind: FactorKind) -> None:
        self.run(self.world.enrol(self.browser(number), None, kind, go_on=False))

    @precondition(lambda self: self.world.halves and len(self.held()) < 9)
    @rule(number=anybody, back=newest, kind=kinds, go_on=st.booleans())
    def adds_a_factor_on_the_way(self, number: int | None, back: int, kind: FactorKind, go_on: bool) -> None:
        half = self.pick(self.world.halves, back)
        browser = self.whose(number, lambda each: self.world.whose(each, half) is not None)
        self.run(self.world.enrol(browser, half, kind, go_on))

    @precondition(lambda self: self.world.halves)
    @rule(number=anybody, back=newest)
    def goes_on(self, number: int | None, back: int) -> None:
        half = self.pick(self.world.halves, back)
        browser = self.whose(number, lambda each: self.world.whose(each, half) is not None)
        self.run(self.world.done(browser, half))

    @precondition(lambda self: self.world.codes)
    @rule(number=anybody, back=newest, host=st.none() | apps)
    def brings_a_code(self, number: int | None, back: int, host: str | None) -> None:
        code = self.pick(self.world.codes, back)
        browser = self.whose(number, lambda each: code.binder in self.world.tokens(each, code.host))
        self.run(self.world.redeem(browser, code, host or code.host))

    @rule(
        one=browsers, other=browsers, host=hosts, name=st.sampled_from([SESSION_COOKIE, SESSION_COOKIE, LOGIN_COOKIE])
    )
    def cookies_are_swapped(self, one: int, other: int, host: str, name: str) -> None:
        if name == LOGIN_COOKIE and host != PORTAL:
            return
        mine, theirs = self.browser(one).cookies(host), self.browser(other).cookies(host)
        values = mine.pop(name, None), theirs.pop(name, None)
        for jar, value in ((theirs, values[0]), (mine, values[1])):
            if value is not None:
                jar[name] = value

    @precondition(lambda self: self.world.shed)
    @rule(number=browsers, back=newest)
    def an_old_cookie_comes_back(self, number: int, back: int) -> None:
        host, value = self.pick(self.world.shed, back)
        self.browser(number).cookies(host)[SESSION_COOKIE] = value

    # ---- factors and sessions go

    @precondition(lambda self: self.held())
    @rule(number=browsers, which=newest)
    def removes_a_factor(self, number: int, which: int) -> None:
        self.run(self.world.remove(self.browser(number), self.pick(self.held(), which)))

    @precondition(lambda self: self.calm >= CALM)
    @rule(how=st.sampled_from(ENDS), number=browsers, who=people)
    def something_ends(self, how: str, number: int, who: str) -> None:
        world, browser, self.calm = self.world, self.browser(number), 0
        sessions = list(world.book.everybody().values())
        if how == "reset":
            self.run(world.reset(who))
        elif how.startswith("sign-out"):
            self.run(world.sign_out(browser, everywhere=how == "sign-out everywhere"))
        elif how.startswith("logout"):
            self.run(world.announce(who, f"{who} in {number}" if how == "logout of one" else ""))
        elif sessions:
            self.run(world.revoke(self.pick(sessions, number)))

    @precondition(lambda self: self.world.book.everybody())
    @rule(back=newest, crew=st.booleans(), number=browsers, restart=st.booleans())
    def meanwhile(self, back: int, crew: bool, number: int, restart: bool) -> None:
        """The provider says who somebody is now, somebody types, and control may start anew."""
        self.run(self.world.refresh(self.pick(list(self.world.book.everybody().values()), back), crew))
        self.run(self.world.keep_awake(self.browser(number)))
        if restart:
            self.run(self.world.restart())

    @rule(seconds=st.sampled_from(WAITS))
    def time_passes(self, seconds: float) -> None:
        self.world.lab.clock.advance(seconds)

    @invariant()
    def what_is_allowed_was_proved_and_what_was_proved_is_allowed(self) -> None:
        self.calm += 1
        self.run(self.world.agree())

    def teardown(self) -> None:
        self.run(self.world.close())
        self.runner.close()
        self.folder.cleanup()


COMMON = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


class LevelsAtLength(Levels):
    """The same, of which there is more."""


Levels.TestCase.settings = settings(COMMON, max_examples=30, stateful_step_count=40)
LevelsAtLength.TestCase.settings = settings(COMMON, max_examples=300, stateful_step_count=60)


@pytest.mark.case("ZT-SESS-18")
@pytest.mark.case("ZT-APP-02")
class TestLevels(Levels.TestCase):  # type: ignore[misc]
    """Runs the machine."""


@pytest.mark.long
@pytest.mark.timeout(900)
class TestLevelsAtLength(LevelsAtLength.TestCase):  # type: ignore[misc]
    """Runs it for minutes."""
