"""What was truly proved, by whom, when and for what: written down beside the portal, by nothing of the portal's own.

`Truth` is one session as it has to be, `Book` all of them with the cookies that lead to them, the factors people hold,
and what is under way. `judge` reads the rules by eye.
"""

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

import pyotp

from tests.lab.authenticator import Authenticator
from tests.lab.portal import APP, OTHER
from zt_proxy.control.factors.types import FactorKind
from zt_proxy.core.clock import ManualClock
from zt_proxy.core.session import Level, unlock_key
from zt_proxy.policy.spec import Audience, RequestMatch, RouteRules, RuleEffect, RuleSpec

IDLE, ABSOLUTE = 5_400.0, 28_800.0
LOGIN_LIFE, CODE_LIFE, FRESH, ONCE, SKEW = 600.0, 60.0, 300.0, 120.0, 30.0
ISSUER = "https://idp.example"
ROUTES = {APP: "builder", OTHER: "crm"}
OWN = ("", "portal", "")
"""The key of what was proved for the portal's own pages."""
STRENGTH = {
    FactorKind.PASSKEY: Level.PHISHING_RESISTANT,
    FactorKind.TOTP: Level.MULTI,
    FactorKind.RECOVERY: Level.MULTI,
}

Key = tuple[str, str, str]
"""Route, rule, and the request when the proof is good once."""


class Rule(NamedTuple):
    name: str
    level: Level
    age: float | None = None
    once: bool = False
    crew: bool = False


RULES = (
    Rule("single", Level.SINGLE),
    Rule("fresh", Level.SINGLE, 300.0),
    Rule("multi", Level.MULTI),
    Rule("multi5", Level.MULTI, 300.0),
    Rule("crew", Level.MULTI, 300.0, crew=True),
    Rule("strong", Level.PHISHING_RESISTANT),
    Rule("strong5", Level.PHISHING_RESISTANT, 300.0),
    Rule("once", Level.SINGLE, once=True),
    Rule("seal", Level.PHISHING_RESISTANT, once=True),
)


class Request(NamedTuple):
    rule: Rule
    method: str
    path: str

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}" if self.rule.once else ""


REQUESTS = tuple(
    Request(rule, method, f"/{rule.name}/{leaf}")
    for rule in RULES
    for method, leaf in ((("POST", "a"), ("POST", "b"), ("PUT", "a")) if rule.once else (("GET", "a"),))
)


def rules_of(route: str) -> RouteRules:
    """The same rules for the engine."""
    specs = [
        RuleSpec(
            id=rule.name,
            effect=RuleEffect.ALLOW,
            audience=Audience.MATCHING if rule.crew else Audience.SIGNED_IN,
            matches=(RequestMatch(paths=(f"/{rule.name}/*",)),),
            groups=("crew",) if rule.crew else (),
            reauth=rule.age,
            once=rule.once,
            level=rule.level,
        )
        for rule in RULES
    ]
    return RouteRules(route, tuple(specs))


@dataclass
class Truth:
    """One session."""

    sid: str
    who: str
    at: float
    level: Level
    created: float
    used: float
    crew: bool
    provider_sids: set[str]
    issued: float
    proofs: dict[Key, tuple[float, Level]] = field(default_factory=dict)

    def prove(self, key: Key, at: float, level: Level) -> None:
        self.proofs[key] = max((at, level), self.proofs.get(key, (0.0, Level.SINGLE)))

    def for_the_portal(self) -> tuple[float, Level]:
        own = self.proofs.get(OWN)
        return own if own is not None and own[0] >= self.at else (self.at, self.level)

    def keys(self) -> dict[str, tuple[float, Level]]:
        return {unlock_key(*key): proof for key, proof in self.proofs.items()}


def judge(truth: Truth | None, route: str, request: Request, now: float) -> str:
    """`allow`, `spend` (one may, once), `prove`, `deny` or `login`: what this session may, by what was proved in it."""
    rule = request.rule
    if truth is None:
        return "login"
    if rule.crew and not truth.crew:
        return "deny"
    if rule.once:
        made = truth.proofs.get((route, rule.name, request.name))
        return "spend" if made is not None and made[1] >= rule.level and now - made[0] <= ONCE else "prove"
    proofs = [(truth.at, truth.level), truth.proofs.get((route, rule.name, ""), (0.0, Level.SINGLE))]
    good = any(level >= rule.level and (rule.age is None or now - at <= rule.age) for at, level in proofs if at)
    return "allow" if good else "prove"


@dataclass
class Asked:
    """A hand-off of a worker: `sid` and `key` when it asks for a step-up."""

    text: str
    host: str
    binder: bytes
    expires: float
    sid: str = ""
    key: Key = OWN
    level: Level = Level.SINGLE


@dataclass
class Under:
    """A sign-in at the provider."""

    state: str
    browser: str
    started: float
    force: bool
    asked: Asked | None
    own: str = ""
    used: bool = False


@dataclass
class Login:
    """What the provider said of whom."""

    who: str
    at: float
    level: Level
    crew: bool
    provider_sid: str
    issued: float


@dataclass
class Half:
    """A sign-in, or step-up, that lacks an own factor."""

    name: str
    under: Under
    login: Login
    expires: float
    proof: tuple[float, Level] | None = None
    held: "Held | None" = None
    """What that was proved with: without it, it proves nothing any more."""
    wrong: int = 0
    gone: bool = False

    def best(self) -> tuple[float, Level]:
        return self.proof or (self.login.at, self.login.level)

    def proved(self) -> Login:
        assert self.proof is not None
        return Login(**{**vars(self.login), "at": self.proof[0], "level": self.proof[1]})


@dataclass
class Code:
    """A one-time code on its way to an app's host; with `proof`: for `key` of a session that is there already."""

    target: str
    host: str
    sid: str
    binder: bytes
    expires: float
    key: Key = OWN
    proof: tuple[float, Level] | None = None
    used: bool = False


@dataclass
class Held:
    """A factor of somebody."""

    id: str
    kind: FactorKind
    device: Authenticator | None = None
    app: pyotp.TOTP | None = None
    step: int = 0
    codes: list[str] = field(default_factory=list)


class Book:
    """Everything that is true."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.sessions: dict[str, Truth] = {}
        self.leads: dict[tuple[str, str], str] = {}
        """(host, cookie) → session, where the cookie is the newest one of that session there."""
        self.factors: dict[str, list[Held]] = {"alice": [], "bob": []}
        self.over: dict[str, float] = {}
        """What the provider announced the end of, and when."""

    def alive(self, sid: str) -> Truth | None:
        truth, now = self.sessions.get(sid), self.clock.now()
        if truth is not None and now < truth.created + ABSOLUTE and now < truth.used + IDLE:
            return truth
        self.end(sid)
        return None

    def end(self, sid: str) -> None:
        self.sessions.pop(sid, None)
        self.leads = {where: other for where, other in self.leads.items() if other != sid}

    def of(self, host: str, cookie: str | None) -> Truth | None:
        return self.alive(self.leads.get((host, cookie or ""), ""))

    def led(self, host: str, cookie: str, sid: str) -> None:
        """A new cookie; the one before it leads nowhere."""
        self.leads = {where: other for where, other in self.leads.items() if (where[0], other) != (host, sid)}
        self.leads[host, cookie] = sid

    def everybody(self) -> dict[str, Truth]:
        return {sid: truth for sid in tuple(self.sessions) if (truth := self.alive(sid)) is not None}

    def stepped(self, asked: Asked | None) -> Truth | None:
        """The live session that a hand-off asks a proof for."""
        return self.alive(asked.sid) if asked is not None and asked.sid else None

    def needed(self, under: Under) -> Level:
        return under.asked.level if under.asked is not None and self.stepped(under.asked) else Level.MULTI

    def has(self, who: str, kind: FactorKind) -> bool:
        return any(each.kind is kind for each in self.factors[who])

    def reaches(self, who: str, level: Level) -> bool:
        return any(STRENGTH[each.kind] >= level for each in self.factors[who] if each.codes or each.device or each.app)

    def adds(self, who: str, proof: tuple[float, Level]) -> bool:
        """Whether a proof so strong may add a factor."""
        have = self.factors[who]
        strong = (
            Level.PHISHING_RESISTANT if self.has(who, FactorKind.PASSKEY) else Level.MULTI if have else Level.SINGLE
        )
        return proof[1] >= strong

    def announced(self, login: Login) -> bool:
        """The provider ended this login after it attested it."""
        ends = (self.over.get(login.provider_sid, 0.0), self.over.get(login.who, 0.0))
        return login.issued <= max(ends)

    def completes(self, under: Under, login: Login, portal: Truth | None) -> bool:
        """Whether a login that is strong enough may count, with this session at the portal."""
        mine = self.stepped(under.asked) or (portal if under.own else None)
        if mine is not None:
            return mine.who == login.who and not self.announced(login)
        return self.is_known(under, login, portal) or not self.announced(login)

    def is_known(self, under: Under, login: Login, portal: Truth | None) -> bool:
        """Another tab has signed the same person in meanwhile."""
        return portal is not None and portal.who == login.who and portal.created >= under.started


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
