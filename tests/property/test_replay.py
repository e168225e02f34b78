"""A log that rules made, tried under the same rules, changes nothing; and what changes is never made up."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.logs import Log
from tests.unit.policy.test_replay import NOW, PROFILE, asks, place, replayed, session
from zt_proxy.core.session import Approval, Level, Proof, Risk, RiskLevel, unlock_key
from zt_proxy.core.types import Act, Action, Effect, Facts, Mode, Origin
from zt_proxy.policy.judged import BarePlace
from zt_proxy.policy.spec import All, Approve, Audience, Hours, Limit, Not, RequestMatch, RuleEffect, RuleSpec
from zt_proxy.policy.spec import Test as Compare

GROUPS, PATHS = ("staff", "guests", "leads"), ("/", "/flows", "/flows/f1", "/data", "/other")
ACTS = {
    ("POST", "/flows"): Act(Action.DEPLOY, matcher="deploy"),
    ("GET", "/flows/f1"): Act(Action.VIEW, "flow", "f1", matcher="look"),
}
CONDITIONS = st.sampled_from(
    [
        None, None, None,
        Compare("country", "in", ("DE",)), Compare("device_known", "is", (True,)), Compare("risk", "at_most", ("low",)),
        Compare("level", "at_least", ("multi",)), Compare("auth_age", "at_most", (600,)), Compare("network", "in", ("office",)),
        Compare("claim:dept", "in", ("ops",)), Compare("header:x-tag", "in", ("a",)),
        Hours((0, 1, 2, 3, 4), 480, 1080, "UTC"),
        All((Compare("country", "in", ("DE", "FR")), Not(Compare("group", "in", ("guests",))))),
    ]
)  # fmt: skip


@st.composite
def rules(draw: st.DrawFn) -> RuleSpec:
    effect = draw(st.sampled_from([RuleEffect.ALLOW, RuleEffect.ALLOW, RuleEffect.DENY]))
    audience = draw(st.sampled_from([Audience.MATCHING, Audience.MATCHING, Audience.SIGNED_IN, Audience.PUBLIC]))
    groups = tuple(draw(st.sets(st.sampled_from(GROUPS), min_size=1))) if audience is Audience.MATCHING else ()
    match = RequestMatch(
        draw(st.sampled_from([(), ("GET",), ("POST",)])),
        tuple(draw(st.sets(st.sampled_from(("/**", "/flows", "/flows/*", "/data")), max_size=2))),
        tuple(draw(st.sets(st.sampled_from(("view", "deploy", "use")), max_size=2))),
    )
    asked: dict[str, Any] = {}
    if effect is RuleEffect.ALLOW and audience is not Audience.PUBLIC:
        asked = {
            "reauth": draw(st.sampled_from([None, None, 300.0])),
            "level": draw(st.sampled_from([Level.SINGLE, Level.SINGLE, Level.PHISHING_RESISTANT])),
            "justify": draw(st.booleans()) and draw(st.booleans()),
            "approve": Approve(groups=("leads",)) if draw(st.integers(0, 5)) == 0 else None,
            "masks": ("salaries",) if draw(st.integers(0, 4)) == 0 else (),
            "limit": Limit(requests=5.0) if draw(st.integers(0, 4)) == 0 else None,
            "notify": draw(st.integers(0, 4)) == 0,
        }
    return RuleSpec(
        f"rule-{draw(st.integers(0, 10_000))}", effect, audience, (match,), groups=groups,
        when=draw(CONDITIONS) if audience is not Audience.PUBLIC else None,
        mode=draw(st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.REPORT])), **asked,
    )  # fmt: skip


BOOKS = st.lists(rules(), max_size=5, unique_by=lambda rule: rule.id)


@st.composite
def requests(draw: st.DrawFn, book: list[RuleSpec]) -> Facts:
    method, path = draw(st.sampled_from(("GET", "POST"))), draw(st.sampled_from(PATHS))
    who = None
    if draw(st.integers(0, 4)):
        user = draw(st.sampled_from(("alice", "bob")))
        proofs = {unlock_key("app", rule.id): Proof(NOW - 10, Level.PHISHING_RESISTANT) for rule in book}
        kept = draw(st.booleans())
        who = session(
            user, *({"alice": ("staff", "leads"), "bob": ("guests",)}[user]),
            level=draw(st.sampled_from(list(Level))), auth_time=NOW - draw(st.sampled_from((5, 5_000))),
            device_known=draw(st.sampled_from((None, True, False))), claims={"dept": "ops"},
            proofs=proofs if kept else {},
            justified=dict.fromkeys(proofs, "why") if kept else {},
            approved=dict.fromkeys(proofs, Approval("carol", NOW + 10_000_000)) if kept else {},
        )  # fmt: skip
    known = PROFILE.otherwise.safe if method == "GET" else PROFILE.otherwise.unsafe
    act = ACTS.get((method, path)) or (
        Act(Action.USE, matcher="data") if (method, path) == ("GET", "/data") else Act(known, refused=known is None)
    )
    return asks(
        who, path.encode(), method.encode(), act, now=NOW + draw(st.integers(0, 200)) * 3600,
        origin=Origin("192.0.2.1", draw(st.sampled_from((frozenset(), frozenset({"office"})))), draw(st.sampled_from(("DE", None)))),
        risk=draw(st.sampled_from((None, Risk(10, RiskLevel.LOW), Risk(70, RiskLevel.HIGH)))) if who else None,
        headers={"x-tag": draw(st.sampled_from(("a", None)))},
    )  # fmt: skip


def recorded(here: BarePlace, asked: list[Facts]) -> Log:
    log, seen = Log(), set[str]()
    for facts in asked:
        if facts.session is not None and facts.session.sid not in seen:
            seen.add(facts.session.sid)
            log.signs_in(facts.session)
        log.decides(here, facts)
    return log


@settings(max_examples=150, deadline=None)
@given(BOOKS, st.data(), st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.REPORT]))
def test_a_log_under_the_rules_that_made_it_changes_nothing(
    book: list[RuleSpec], data: st.DataObject, mode: Mode
) -> None:
    here = place(*book, profile=PROFILE, mode=mode)
    log = recorded(here, data.draw(st.lists(requests(book), max_size=6)))
    assert replayed(log, here).changes == ()
    assert replayed(log, here, here).changes == ()


@settings(max_examples=150, deadline=None)
@given(BOOKS, BOOKS, st.data())
def test_what_is_said_to_change_does(before: list[RuleSpec], after: list[RuleSpec], data: st.DataObject) -> None:
    old, new = place(*before, profile=PROFILE), place(*after, profile=PROFILE)
    facts = data.draw(requests([*before, *after]))
    report = replayed(recorded(old, [facts]), new)
    was, now = old.policy.decide(facts), new.policy.decide(facts)
    words = [each.challenge.value if each.challenge else each.effect.value for each in (was, now)]
    duties = [
        (each.obligations.masks, each.obligations.notify) if each.obligations else ((), False) for each in (was, now)
    ]
    same = words[0] == words[1] and (was.effect is not Effect.ALLOW or duties[0] == duties[1])
    if report.compared:
        assert bool(report.changed) is not same, (was, now, report)
    if report.changed and " or " not in report.changes[0].after:
        assert report.changes[0].after.split()[0] == words[1]
