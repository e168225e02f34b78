"""Rules with conditions, actions, roles and obligations: what has to hold of any of them."""

from itertools import permutations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_proxy.core.session import Approval, Level, Principal, Proof, Risk, RiskLevel, Session, unlock_key
from zt_proxy.core.types import Act, Action, ChallengeKind, Decision, Effect, Facts, Mode, Origin, Sensitivity
from zt_proxy.policy import spec
from zt_proxy.policy.compile import compile_rules
from zt_proxy.policy.explain import RuleTrace
from zt_proxy.policy.spec import (
    All,
    Any,
    Approve,
    Audience,
    Condition,
    Hours,
    Limit,
    Named,
    Not,
    RequestMatch,
    RoleSpec,
    RouteRules,
    RuleEffect,
    RuleSpec,
)

NOW = 1_800_000_000.0
Compare = spec.Test  # a name that pytest does not take for tests
replace = msgspec.structs.replace

leaves = st.sampled_from(
    [
        Compare("group", "in", ("staff",)),
        Compare("user", "in", ("alice", "bob@ex")),
        Compare("role", "in", ("maker",)),
        Compare("claim:c", "in", ("1",)),
        Compare("claim:c", "at_least", (2,)),
        Compare("department", "in", ("ops",)),
        Compare("country", "in", ("DE",)),
        Compare("network", "in", ("office",)),
        Compare("device_known", "is", (True,)),
        Compare("level", "at_least", ("multi",)),
        Compare("auth_age", "at_most", (300,)),
        Compare("risk", "at_most", ("medium",)),
        Compare("sensitivity", "at_most", ("internal",)),
        Compare("clearance", "is", (True,)),
        Compare("owner", "is", (True,)),
        Compare("path", "fits", ("/a/**",)),
        Compare("object", "like", ("flow:*",)),
        Compare("header:x-a", "in", ("1",)),
        Compare("action", "in", ("deploy", "build")),
        Hours((0, 1, 2, 3, 4), 480, 1080, "Europe/Berlin"),
    ]
)
conditions: st.SearchStrategy[Condition] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2).map(lambda items: All(tuple(items))),
        st.lists(inner, min_size=1, max_size=2).map(lambda items: Any(tuple(items))),
        inner.map(Not),
        inner.map(lambda item: Named("managed", item)),
    ),
    max_leaves=4,
)


def some(*values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sampled_from([(), (), *values])


matches = st.builds(
    RequestMatch,
    some(("GET",), ("POST",)),
    some(("/a/**",), ("/a/*",), ("/b", "/a")),
    some(("deploy",), ("manage-*",), ("*",)),
    some(("flow:*",), ("flow:x", "app:y"), ("*:x",)),
)
rules = st.builds(
    RuleSpec,
    id=st.just(""),
    effect=st.sampled_from([RuleEffect.ALLOW, RuleEffect.ALLOW, RuleEffect.DENY]),
    audience=st.sampled_from([Audience.SIGNED_IN, Audience.MATCHING, Audience.PUBLIC]),
    matches=st.one_of(st.just((RequestMatch(),)), st.lists(matches, min_size=1, max_size=2).map(tuple)),
    users=some(("alice",), ("bob@ex",)),
    groups=some(("staff",)),
    roles=some(("maker",), ("senior",)),
    claims=st.sampled_from([{}, {}, {}, {"c": ("1",)}]),
    reauth=st.sampled_from([None, None, None, 300.0]),
    once=st.sampled_from([False, False, False, True]),
    level=st.sampled_from([Level.SINGLE, Level.SINGLE, Level.MULTI]),
    mode=st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.REPORT, Mode.OFF]),
    when=st.one_of(st.none(), conditions),
    justify=st.sampled_from([False, False, True]),
    approve=st.sampled_from([None, None, Approve(groups=("leads",))]),
    masks=some(("salaries",)),
    limit=st.sampled_from([None, None, Limit(requests=10)]),
    notify=st.booleans(),
)
MAKER = RoleSpec("maker", groups=("makers",), when=Compare("department", "in", ("ops",)))
SENIOR = RoleSpec("senior", users=("bob@ex",))
routes = st.builds(
    lambda found, mode, glass: RouteRules(
        "app",
        tuple(replace(rule, id=f"r{number}") for number, rule in enumerate(found)),
        mode=mode,
        roles=(MAKER, SENIOR),
        attributes={"department": "dept"},
        break_glass=glass,
    ),
    st.lists(rules, max_size=4),
    st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.REPORT]),
    some(("alice",)),
)
principals = st.builds(
    Principal,
    subject=st.sampled_from(["alice", "bob"]),
    issuer=st.just("https://idp"),
    provider=st.just("corp"),
    email=st.sampled_from([None, "bob@ex"]),
    groups=some(("staff",), ("staff", "makers")).map(frozenset),
    roles=some(("senior",)).map(frozenset),
    claims=st.fixed_dictionaries(
        {}, optional={"c": st.sampled_from(["1", 3]), "dept": st.just("ops"), "clearance": st.just("internal")}
    ),
)
KEYS = [unlock_key("app", f"r{number}") for number in range(3)]
sessions = st.builds(
    Session,
    sid=st.just("s"),
    host=st.just("app.ex"),
    principal=principals,
    acr=st.just(""),
    amr=st.just(()),
    mfa=st.sampled_from([True, True, True, False]),
    auth_time=st.sampled_from([NOW, NOW - 200, NOW - 1000]),
    created=st.just(NOW - 1000),
    last_activity=st.just(NOW),
    idle_timeout=st.just(1800.0),
    absolute_deadline=st.just(NOW + 3600),
    level=st.sampled_from(Level),
    proofs=st.dictionaries(st.sampled_from(KEYS), st.builds(Proof, st.just(NOW - 100), st.sampled_from(Level))),
    device_known=st.sampled_from([None, True, False]),
    justified=st.dictionaries(st.sampled_from([*KEYS, "break-glass"]), st.just("because")),
    approved=st.dictionaries(
        st.sampled_from(KEYS), st.builds(Approval, st.sampled_from(["lead", "alice"]), st.sampled_from([NOW + 50, NOW]))
    ),
    break_glass=st.sampled_from([0.0, 0.0, 0.0, NOW + 50]),
)
acts = st.one_of(
    st.just(Act()),
    st.just(Act(refused=True)),
    st.builds(
        Act,
        st.sampled_from([Action.DEPLOY, Action.VIEW, Action.MANAGE_ACCESS]),
        kind=st.sampled_from(["", "flow", "app"]),
        object=st.sampled_from(["x", "y"]),
        sensitivity=st.sampled_from([None, *Sensitivity]),
        owner=st.sampled_from(["", "alice", "x"]),
    ),
)
origins = st.one_of(
    st.none(),
    st.builds(
        Origin,
        st.just("192.0.2.1"),
        st.sampled_from([frozenset[str](), frozenset({"office"})]),
        st.sampled_from([None, "DE", "FR"]),
    ),
)
risks = st.one_of(st.none(), st.builds(lambda level: Risk(int(level) * 30, level), st.sampled_from(RiskLevel)))
requests = st.builds(
    lambda method, path, session, act, origin, risk, headers: Facts(
        NOW, "app", method, path, "192.0.2.1", session.principal if session else None, session, act, origin, risk,
        headers,
    ),
    st.sampled_from([b"GET", b"POST"]),
    st.sampled_from([b"/a", b"/a/b", b"/b", b"/x", b"/%2Fa"]),
    st.one_of(st.none(), sessions, sessions, sessions, sessions),
    acts,
    origins,
    risks,
    st.sampled_from([{}, {"x-a": None}, {"x-a": "1"}]),
)  # fmt: skip


def strictness(decision: Decision) -> int:
    """0: it goes through."""
    return 0 if decision.effect is Effect.ALLOW else 1


def decide(route: RouteRules, facts: Facts) -> Decision:
    return compile_rules(route).decide(facts)


def said(decision: Decision) -> Decision:
    return replace(decision, reported=())


@settings(max_examples=300, deadline=None)
@given(routes, rules, requests)
def test_one_more_deny_never_allows_more_and_one_allow_less_neither(
    route: RouteRules, extra: RuleSpec, facts: Facts
) -> None:
    before = decide(route, facts)
    denied = replace(extra, id="extra", effect=RuleEffect.DENY, mode=Mode.ENFORCE)
    assert strictness(decide(replace(route, rules=(*route.rules, denied)), facts)) >= strictness(before)
    for number, rule in enumerate(route.rules):
        if rule.effect is RuleEffect.ALLOW:
            fewer = replace(route, rules=route.rules[:number] + route.rules[number + 1 :])
            after = decide(fewer, facts)
            assert strictness(after) >= strictness(before)


@settings(max_examples=300, deadline=None)
@given(routes, requests)
def test_rules_in_report_mode_and_their_order_change_no_outcome(route: RouteRules, facts: Facts) -> None:
    decision = decide(route, facts)
    enforced = replace(route, rules=tuple(rule for rule in route.rules if rule.mode is Mode.ENFORCE))
    assert said(decide(enforced, facts)) == said(decision)
    for mixed in permutations(route.rules):
        assert decide(replace(route, rules=mixed), facts) == decision


@settings(max_examples=150, deadline=None)
@given(routes, requests)
def test_a_route_in_report_mode_stops_and_changes_nothing_for_who_has_signed_in(
    route: RouteRules, facts: Facts
) -> None:
    decision = decide(replace(route, mode=Mode.REPORT), facts)
    if facts.session is not None and facts.session.mfa:
        duties = decision.obligations
        assert decision.effect is Effect.ALLOW
        assert duties is None or duties.break_glass
        assert not decision.spend
    elif decision.effect is not Effect.ALLOW:
        assert decision.challenge in {ChallengeKind.LOGIN, ChallengeKind.MFA}


@settings(max_examples=500, deadline=None)
@given(routes, requests)
def test_explaining_always_agrees_with_deciding(route: RouteRules, facts: Facts) -> None:
    policy = compile_rules(route)
    trace = policy.explain(facts)
    decision = trace.decision
    assert decision == policy.decide(facts)
    assert msgspec.json.decode(msgspec.json.encode(trace))["rules"] or not route.rules
    assert sorted(rule.id for rule in trace.rules) == sorted(rule.id for rule in route.rules)
    assert all((rule.said == "hit") == all(c.said == "hit" for c in rule.criteria if not c.depth and c.kind != "requirement") for rule in trace.rules)  # fmt: skip
    session = facts.session
    if session is None or not session.mfa or route.mode is not Mode.ENFORCE:
        return
    live = [rule for rule in trace.rules if rule.mode is Mode.ENFORCE]
    denies = [rule for rule in live if rule.effect is RuleEffect.DENY and rule.said != "miss"]
    if decision.obligations is not None and decision.obligations.break_glass:
        assert denies or not any(rule.said == "hit" and not rule.unmet for rule in live)
        return
    if denies:
        sure = [rule.id for rule in denies if rule.said == "hit"]
        assert decision.effect is Effect.DENY
        assert decision.rule == min(sure or [rule.id for rule in denies])
        assert bool(sure) == (not decision.missing)
        return
    allows = [rule for rule in live if rule.effect is RuleEffect.ALLOW]
    agrees_about_allows(allows, decision)


def agrees_about_allows(allows: list[RuleTrace], decision: Decision) -> None:
    hits = {rule.id: rule for rule in allows if rule.said == "hit"}
    if not hits:
        assert decision.effect is Effect.DENY
        assert set(decision.missing) == {name for rule in allows for name in rule.missing}
    elif any(not rule.unmet for rule in hits.values()):
        assert decision.effect is Effect.ALLOW
        assert not hits[decision.rule].unmet
    else:
        assert decision.effect is Effect.CHALLENGE
        assert hits[decision.rule].unmet.startswith("requirement")


@settings(max_examples=300, deadline=None)
@given(routes, requests, st.sampled_from(["origin", "risk", "headers", "device_known", "claims", "act"]))
def test_who_withholds_a_fact_gets_no_further_by_it(route: RouteRules, facts: Facts, withheld: str) -> None:
    match withheld:
        case "origin" | "risk":
            less = replace(facts, **{withheld: None})
        case "headers":
            less = replace(facts, headers={})
        case "act":
            less = replace(facts, act=replace(facts.act, sensitivity=None, owner=""))
        case _ if facts.session is None:
            return
        case "device_known":
            less = replace(facts, session=replace(facts.session, device_known=None))
        case _:
            who = replace(facts.session.principal, claims={})
            less = replace(facts, principal=who, session=replace(facts.session, principal=who))
    assert strictness(decide(route, less)) >= strictness(decide(route, facts))


@settings(max_examples=400, deadline=None)
@given(routes, requests, st.floats(min_value=0, max_value=400_000), risks)
def test_what_is_timeless_stays_as_it_is_whenever_and_however_risky(
    route: RouteRules, facts: Facts, later: float, risk: Risk | None
) -> None:
    policy = compile_rules(route)
    if policy.is_timeless(facts):
        then = replace(facts, now=facts.now + later, risk=risk)
        assert policy.decide(then) == policy.decide(facts)
        assert policy.is_timeless(then)


@settings(max_examples=200, deadline=None)
@given(routes, requests)
def test_what_is_remembered_of_a_request_is_not_taken_for_another(route: RouteRules, facts: Facts) -> None:
    policy = compile_rules(route)
    others = [
        replace(facts, act=Act()),
        replace(facts, act=Act(refused=True)),
        replace(facts, act=Act(Action.VIEW, "flow", "x")),
        replace(facts, method=b"PUT"),
        facts,
    ]
    for each in (*others, *others):
        assert policy.decide(each) == decide(route, each)
