"""The compiled policy against a slow reading of the same rules that anyone can check by eye."""

import re
from typing import Any
from urllib.parse import unquote

from hypothesis import given, settings
from hypothesis import strategies as st

from zt_proxy.core.session import Level, Principal, Proof, Session, unlock_key
from zt_proxy.core.types import Facts, Mode
from zt_proxy.policy.compile import compile_rules
from zt_proxy.policy.spec import Audience, RequestMatch, RouteRules, RuleEffect, RuleSpec

NOW = 1_800_000_000.0
Outcome = tuple[str, str, str]  # effect or challenge, reason, rule


def glob(template: list[str], path: list[str]) -> bool:
    if not template:
        return not path
    if template[0] == "**":
        return any(glob(template[1:], path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and piece(template[0], path[0]) and glob(template[1:], path[1:])


def piece(template: str, text: str) -> bool:
    if not template:
        return not text
    if template[0] == "*":
        return any(piece(template[1:], text[skip:]) for skip in range(len(text) + 1))
    return text[:1] == template[0] and piece(template[1:], text[1:])


def path_fits(template: str, path: str, deny: bool) -> bool:
    if glob(template.split("/")[1:], path.split("/")[1:]):
        return True
    careless = re.sub("/+", "/", re.sub(";[^/]*", "", re.split("[?#]", unquote(path))[0]))
    return deny and careless != path and glob(template.split("/")[1:], careless.split("/")[1:])


def request_fits(rule: RuleSpec, facts: Facts) -> bool:
    return any(
        (not match.methods or facts.method.decode() in match.methods)
        and (
            not match.paths
            or any(path_fits(one, facts.path.decode(), rule.effect is RuleEffect.DENY) for one in match.paths)
        )
        for match in rule.matches
    )


def subject_fits(rule: RuleSpec, who: Principal) -> bool | None:
    """None: not known, which counts as met for a deny and as not met for an allow."""
    deny = rule.effect is RuleEffect.DENY
    if rule.audience is Audience.PUBLIC and deny:
        return True
    if not (rule.users or rule.groups or rule.claims):
        return deny if rule.audience is Audience.MATCHING else True
    said: list[bool | None] = []
    if rule.users or rule.groups:
        named = who.subject in rule.users or (who.email is not None and who.email in rule.users)
        unknown = who.email is None and any("@" in user for user in rule.users)
        said.append(True if named or set(rule.groups) & who.groups else None if unknown else False)
    for name, values in rule.claims.items():
        said.append(str(who.claims[name]) in values if name in who.claims else None)
    return False if False in said else None if None in said else True


def is_public(rule: RuleSpec) -> bool:
    narrowed = (
        rule.users or rule.groups or rule.claims or rule.reauth is not None or rule.once or rule.level > Level.SINGLE
    )
    return rule.audience is Audience.PUBLIC and (rule.effect is RuleEffect.DENY or not narrowed)


def lacks(rule: RuleSpec, facts: Facts) -> str:
    """What a rule misses of the proofs there are: nothing, a fresh one, or a strong one."""
    session = facts.session
    assert session is not None
    if rule.once:
        own = session.proofs.get(unlock_key("app", rule.id, f"{facts.method.decode()} {facts.path.decode()}"))
        good = own is not None and own.level >= rule.level and -30 <= NOW - own.at <= 120
        return "" if good else "reauth-required"
    proofs = [Proof(session.auth_time, session.level), session.proofs.get(unlock_key("app", rule.id))]
    strong = [proof for proof in proofs if proof is not None and proof.level >= rule.level]
    if not strong:
        return "mfa-required"
    fresh = rule.reauth is None or any(-30 <= NOW - proof.at <= rule.reauth for proof in strong)
    return "" if fresh else "reauth-required"


def judge(rules: list[RuleSpec], facts: Facts) -> Outcome:
    """Whatever the order of the rules: those that ask least come first, then the lower id."""
    fitting = sorted((rule for rule in rules if request_fits(rule, facts)), key=lambda rule: rule.id)
    public = [rule for rule in fitting if is_public(rule)]
    session = facts.session
    denies = [rule for rule in public if rule.effect is RuleEffect.DENY]
    if session is None or not session.mfa:
        if denies:
            return "deny", "rule-denied", denies[0].id
        hidden = session is not None and any(
            rule.effect is RuleEffect.DENY and subject_fits(rule, session.principal) is not False for rule in fitting
        )
        if public and not hidden:
            return "allow", "public", public[0].id
        return ("login", "login-required", "") if session is None else ("mfa", "mfa-required", "")
    for known, reason in ((True, "rule-denied"), (None, "fact-missing")):
        for rule in fitting:
            if rule.effect is RuleEffect.DENY and subject_fits(rule, session.principal) is known:
                return "deny", reason, rule.id
    allows = [rule for rule in fitting if rule.effect is RuleEffect.ALLOW and subject_fits(rule, session.principal)]
    if not allows:
        return "deny", "no-rule-matched", ""
    burden = ["", "reauth-required", "mfa-required"]
    taken = min(allows, key=lambda rule: (burden.index(lacks(rule, facts)), rule.once, rule.id))
    if lacks(taken, facts):
        return "reauth", lacks(taken, facts), taken.id
    return "allow", "public" if is_public(taken) else "rule-allowed", taken.id


def reference(route: RouteRules, facts: Facts) -> tuple[Outcome, tuple[str, ...]]:
    live = [] if route.mode is Mode.OFF else [rule for rule in route.rules if rule.mode is not Mode.OFF]
    outcome = judge([rule for rule in live if rule.mode is Mode.ENFORCE], facts)
    reported = []
    for tried in sorted(live, key=lambda rule: rule.id):
        if tried.mode is Mode.REPORT:
            other = judge([rule for rule in live if rule is tried or rule.mode is Mode.ENFORCE], facts)
            if other[0] != outcome[0]:
                reported.append(f"{tried.id}:{other[0]}")
    if route.mode is Mode.REPORT and outcome[0] in {"deny", "reauth"}:
        reported.append(f"route:{outcome[0]}:{outcome[1]}")
        if outcome[2]:
            reported.append(f"{outcome[2]}:{outcome[0]}")
        if facts.session is None:
            outcome = ("login", "login-required", "")
        else:
            outcome = ("allow", "rule-allowed", "") if facts.session.mfa else ("mfa", "mfa-required", "")
    return outcome, tuple(reported)


def tuples(values: list[str], most: int = 2) -> Any:
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


segments = st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "a*b*", "**"])
templates = st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts))
paths = st.lists(st.sampled_from(["a", "b", "ab", "aab", "", "a%2Fb", "a;b", "b%3Fa"]), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
matches = st.builds(RequestMatch, tuples(["GET", "POST"]), st.lists(templates, max_size=2).map(tuple))
rules = st.builds(
    RuleSpec,
    id=st.just(""),
    effect=st.sampled_from(RuleEffect),
    audience=st.sampled_from(Audience),
    matches=st.one_of(st.just((RequestMatch(),)), st.lists(matches, max_size=2).map(tuple)),
    users=tuples(["alice", "bob", "alice@ex"], 1),
    groups=tuples(["staff", "makers"], 1),
    claims=st.dictionaries(st.sampled_from(["c", "d"]), tuples(["1", "2"]), max_size=1),
    reauth=st.sampled_from([None, None, 60.0, 600.0]),
    once=st.sampled_from([False, False, True]),
    level=st.sampled_from([Level.SINGLE, Level.SINGLE, *Level]),
    mode=st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.REPORT, Mode.OFF]),
)
routes = st.builds(
    lambda found, mode: RouteRules(
        "app",
        tuple(
            RuleSpec(**{name: getattr(rule, name) for name in RuleSpec.__struct_fields__} | {"id": f"r{number}"})
            for number, rule in enumerate(found)
        ),
        mode=mode,
    ),
    st.lists(rules, max_size=4),
    st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.REPORT, Mode.OFF]),
)
principals = st.builds(
    Principal,
    subject=st.sampled_from(["alice", "bob"]),
    issuer=st.just("https://idp"),
    provider=st.just("corp"),
    email=st.sampled_from([None, "alice@ex", "bob@ex"]),
    groups=tuples(["staff", "makers"]).map(frozenset),
    claims=st.dictionaries(st.sampled_from(["c", "d"]), st.sampled_from(["1", "2", 1]), max_size=2),
)
sessions = st.builds(
    lambda principal, mfa, age, level, unlocks: Session(
        "s", "app.ex", principal, "", (), mfa, NOW - age, NOW - 3600, NOW, 1800.0, NOW + 3600, level,
        {unlock_key("app", *key): proof for key, proof in unlocks.items()},
    ),
    principals,
    st.sampled_from([True, True, False]),
    st.sampled_from([0.0, 100.0, 1000.0, -100.0]),
    st.sampled_from(Level),
    st.dictionaries(
        st.sampled_from([("r0",), ("r1",), ("r0", "GET /a"), ("r1", "GET /a/b"), ("r2", "POST /a")]),
        st.builds(Proof, st.sampled_from([NOW, NOW - 10, NOW - 125, NOW + 31]), st.sampled_from(Level)),
    ),
)  # fmt: skip
requests = st.builds(
    lambda method, path, session: Facts(
        NOW, "app", method, path.encode(), "192.0.2.1", session.principal if session else None, session
    ),
    st.sampled_from([b"GET", b"POST", b"HEAD"]),
    paths,
    st.one_of(st.none(), sessions, sessions),
)


@settings(max_examples=400, deadline=None)
@given(routes, st.lists(requests, min_size=1, max_size=4))
def test_the_compiled_policy_says_what_a_slow_reading_of_the_rules_says(route: RouteRules, asked: list[Facts]) -> None:
    policy = compile_rules(route)
    for facts in asked:
        decision = policy.decide(facts)
        word = decision.challenge.value if decision.challenge else decision.effect.value
        assert ((word, decision.reason.value, decision.rule), decision.reported) == reference(route, facts)
        mixed = RouteRules("app", tuple(reversed(route.rules)), mode=route.mode)
        assert compile_rules(mixed).decide(facts) == decision, "the order of rules does not matter"
        asks_once = {rule.id for rule in route.rules if rule.once and rule.effect is RuleEffect.ALLOW}
        spends = word == "allow" and decision.rule in asks_once and route.mode is Mode.ENFORCE
        assert bool(decision.spend) == spends


@settings(max_examples=200, deadline=None)
@given(routes, requests)
def test_one_more_deny_never_opens_anything(route: RouteRules, facts: Facts) -> None:
    before = compile_rules(route).decide(facts)
    extra = RuleSpec("extra", RuleEffect.DENY, Audience.SIGNED_IN)
    after = compile_rules(RouteRules("app", (*route.rules, extra), mode=route.mode)).decide(facts)
    if after.effect.value == "allow" and route.mode is Mode.ENFORCE:
        assert before.effect.value == "allow"
        assert facts.session is None
