"""No order of events gives access without the proof that a rule asks for, fresh; and with it, access is given.

Several people and browsers, two apps, cookies and codes that wander: after each step the portal, its store and the
policy must agree with a book of what was truly proved (`tests.lab.levels`), for every session and every request.
"""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.lab.levels import REQUESTS, STRENGTH, Asked, Code, Half, Held, Login, Under
from tests.lab.levels_people import PeopleWorld, Question
from tests.lab.portal import APP, LOGIN_COOKIE, OTHER, PORTAL, SESSION_COOKIE, Browser
from zt_proxy.control.factors.types import FactorKind
from zt_proxy.core.session import Level

T = TypeVar("T")

BROWSERS = 3
apps = st.sampled_from([APP, APP, OTHER])
hosts = st.sampled_from([APP, OTHER, PORTAL])
people = st.sampled_from(["alice", "alice", "bob"])
browsers = st.sampled_from([0, 0, 1, 2])
newest = st.sampled_from([0, 0, 0, 1, 2, 3])
"""Which of the things under way, counted from the newest."""
levels = st.sampled_from(list(Level))
ages = st.sampled_from([0.0, 0.0, 20.0, 40.0, 290.0, 4_000.0])
kinds = st.sampled_from([FactorKind.PASSKEY, FactorKind.TOTP])
requests = st.sampled_from(REQUESTS)


class Levels(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.world = PeopleWorld(Path(self.folder.name), BROWSERS)
        self.run(self.world.open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def pick(self, things: list[T], back: int) -> T:
        return things[-1 - back % len(things)]

    def browser(self, number: int) -> Browser:
        return self.world.browsers[number]

    def login(self, who: str, level: Level, age: float, number: int, crew: bool = True) -> Login:
        now = self.world.now
        return Login(who, now - age, level, crew, f"{who} in {number}", now)

    def held(self) -> list[Held]:
        return [held for factors in self.world.book.factors.values() for held in factors]

    def questions(self) -> list[Question]:
        return ["enrol", "me", *self.world.asked[-3:], *self.world.halves[-3:]]

    # ---- whole ways

    @initialize(level=levels)
    def somebody_is_there(self, level: Level) -> None:
        self.signs_in(0, APP, "alice", level, 0.0, True, FactorKind.PASSKEY)

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
        """With the strongest factor there is, else with a new one."""
        world = self.world
        own = sorted(world.book.factors[half.login.who], key=lambda held: STRENGTH[held.kind], reverse=True)
        if not own:
            return self.run(world.enrol(browser, half, kind, go_on=True))
        step = self.run(world.show(browser, half, own[0]))
        if isinstance(step, Half):
            return self.run(world.enrol(browser, half, FactorKind.PASSKEY, go_on=True))
        return step

    @rule(number=browsers, host=apps, request=requests, level=levels, age=ages, kind=kinds, small=st.booleans())
    def steps_up(
        self, number: int, host: str, request: Any, level: Level, age: float, kind: FactorKind, small: bool
    ) -> None:
        """Somebody wants something, proves what is missing, and does it."""
        browser, world = self.browser(number), self.world
        asked = self.run(world.request(browser, host, request))
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
        self.run(world.request(browser, host, request))

    # ---- single steps, in any browser

    @rule(number=browsers, host=apps, request=requests, at_once=st.sampled_from([1, 2, 3]))
    def wants(self, number: int, host: str, request: Any, at_once: int) -> None:
        self.run(self.world.request(self.browser(number), host, request, at_once))

    @precondition(lambda self: self.world.asked)
    @rule(number=browsers, back=newest, named=st.booleans())
    def opens_a_link(self, number: int, back: int, named: bool) -> None:
        self.run(self.world.follow(self.browser(number), self.pick(self.world.asked, back), named))

    @precondition(lambda self: self.world.asked)
    @rule(number=browsers, back=newest)
    def opens_a_small_window(self, number: int, back: int) -> None:
        self.run(self.world.small_window(self.browser(number), self.pick(self.world.asked, back)))

    @rule(number=browsers, page=st.sampled_from(["me", "enrol"]))
    def goes_to_the_provider_for_the_portal(self, number: int, page: str) -> None:
        self.run(self.world.go_to_portal(self.browser(number), page))

    @precondition(lambda self: self.world.unders)
    @rule(number=browsers, back=newest, who=people, level=levels, age=ages, insecure=st.booleans())
    def comes_back(self, number: int, back: int, who: str, level: Level, age: float, insecure: bool) -> None:
        under, login = self.pick(self.world.unders, back), self.login(who, level, age, number)
        self.run(self.world.answer(self.browser(number), under, login, insecure))

    @precondition(lambda self: self.held())
    @rule(number=browsers, back=newest, which=newest, replay=st.booleans())
    def shows_a_factor(self, number: int, back: int, which: int, replay: bool) -> None:
        question, held = self.pick(self.questions(), back), self.pick(self.held(), which)
        self.run(self.world.show(self.browser(number), question, held, replay))

    @precondition(lambda self: len(self.held()) < 8)
    @rule(number=browsers, kind=kinds)
    def adds_a_factor(self, number: int, kind: FactorKind) -> None:
        self.run(self.world.enrol(self.browser(number), None, kind, go_on=False))

    @precondition(lambda self: self.world.halves and len(self.held()) < 8)
    @rule(number=browsers, back=newest, kind=kinds, go_on=st.booleans())
    def adds_a_factor_on_the_way(self, number: int, back: int, kind: FactorKind, go_on: bool) -> None:
        self.run(self.world.enrol(self.browser(number), self.pick(self.world.halves, back), kind, go_on))

    @precondition(lambda self: self.world.halves)
    @rule(number=browsers, back=newest)
    def goes_on(self, number: int, back: int) -> None:
        self.run(self.world.done(self.browser(number), self.pick(self.world.halves, back)))

    @precondition(lambda self: self.world.codes)
    @rule(number=browsers, back=newest, host=st.none() | apps)
    def brings_a_code(self, number: int, back: int, host: str | None) -> None:
        code = self.pick(self.world.codes, back)
        self.run(self.world.redeem(self.browser(number), code, host or code.host))

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

    @rule(who=people)
    def an_operator_resets_factors(self, who: str) -> None:
        self.run(self.world.reset(who))

    @rule(number=browsers, everywhere=st.booleans())
    def signs_out(self, number: int, everywhere: bool) -> None:
        self.run(self.world.sign_out(self.browser(number), everywhere))

    @precondition(lambda self: self.world.book.everybody())
    @rule(back=newest)
    def an_operator_revokes(self, back: int) -> None:
        self.run(self.world.revoke(self.pick(list(self.world.book.everybody().values()), back)))

    @rule(who=people, number=st.none() | browsers)
    def the_provider_says_it_is_over(self, who: str, number: int | None) -> None:
        self.run(self.world.announce(who, "" if number is None else f"{who} in {number}"))

    @precondition(lambda self: self.world.book.everybody())
    @rule(back=newest, crew=st.booleans())
    def the_provider_says_who_it_is(self, back: int, crew: bool) -> None:
        self.run(self.world.refresh(self.pick(list(self.world.book.everybody().values()), back), crew))

    @rule(number=browsers)
    def somebody_types(self, number: int) -> None:
        self.run(self.world.keep_awake(self.browser(number)))

    @rule(seconds=st.sampled_from([1.0, 29.0, 59.0, 61.0, 119.0, 121.0, 299.0, 301.0, 599.0, 1_800.0, 5_399.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.lab.clock.advance(seconds)

    @rule()
    def control_restarts(self) -> None:
        self.run(self.world.restart())

    @invariant()
    def what_is_allowed_was_proved_and_what_was_proved_is_allowed(self) -> None:
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


Levels.TestCase.settings = settings(COMMON, max_examples=20, stateful_step_count=30)
LevelsAtLength.TestCase.settings = settings(COMMON, max_examples=300, stateful_step_count=60)


@pytest.mark.case("ZT-SESS-18")
@pytest.mark.case("ZT-APP-02")
class TestLevels(Levels.TestCase):  # type: ignore[misc]
    """Runs the machine."""


@pytest.mark.long
@pytest.mark.timeout(900)
class TestLevelsAtLength(LevelsAtLength.TestCase):  # type: ignore[misc]
    """Runs it for minutes."""
