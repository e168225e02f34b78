"""What recorded requests come to under other rules."""

from typing import Any

from tests.lab.logs import Log
from zt_proxy.core.session import Approval, Level, Principal, Proof, Risk, RiskLevel, Session, unlock_key
from zt_proxy.core.types import Act, Action, Facts, Mode, Origin
from zt_proxy.policy.actions import Profile
from zt_proxy.policy.judged import BarePlace, Places
from zt_proxy.policy.profile_spec import FieldTest, MatcherSpec, ObjectSpec, ProfileSpec
from zt_proxy.policy.replay import Change, Replay, Report
from zt_proxy.policy.spec import Approve, Audience, Hours, RequestMatch, RouteRules, RuleEffect, RuleSpec
from zt_proxy.policy.spec import Test as Compare

NOW = 1_800_000_000.0
PROFILE = ProfileSpec(
    "platform", "A platform", "1", "these tests",
    matchers=(
        MatcherSpec("deploy", Action.DEPLOY, ("POST",), ("/flows",)),
        MatcherSpec("look", Action.VIEW, ("GET",), ("/flows/{flow}",), object=ObjectSpec("flow", "{flow}")),
        MatcherSpec("search", Action.EXPORT, ("GET",), ("/data",), query=(FieldTest("all", ("1",)),)),
        MatcherSpec("data", Action.USE, ("GET",), ("/data",)),
    ),
)  # fmt: skip


def allow(rule: str = "staff", *groups: str, paths: tuple[str, ...] = (), actions: tuple[str, ...] = (), **more: Any) -> RuleSpec:  # fmt: skip
    match = RequestMatch(paths=paths, actions=actions)
    return RuleSpec(rule, RuleEffect.ALLOW, Audience.MATCHING, (match,), groups=groups or ("staff",), **more)


def deny(rule: str, *groups: str, paths: tuple[str, ...] = (), actions: tuple[str, ...] = (), **more: Any) -> RuleSpec:
    match = RequestMatch(paths=paths, actions=actions)
    return RuleSpec(rule, RuleEffect.DENY, Audience.MATCHING, (match,), groups=groups or ("staff",), **more)


def place(*rules: RuleSpec, profile: ProfileSpec | None = None, **more: Any) -> BarePlace:
    return BarePlace("app.test", b"/", RouteRules("app", rules, **more), Profile(profile) if profile else None)


def session(user: str = "alice", *groups: str, **more: Any) -> Session:
    who = Principal(
        user, "https://idp.test", "corp", f"{user}@example.com", groups=frozenset(groups or ("staff",)),
        claims=more.pop("claims", {}),
    )  # fmt: skip
    values: dict[str, Any] = {"mfa": True, "auth_time": NOW, "level": Level.MULTI, **more}
    return Session(
        f"sid-{user}", "app.test", who, "", (), created=NOW, last_activity=NOW, idle_timeout=1.0,
        absolute_deadline=NOW + 1.0, **values,
    )  # fmt: skip


def asks(
    who: Session | None = None, path: bytes = b"/", method: bytes = b"GET", act: Act | None = None, **more: Any
) -> Facts:
    values: dict[str, Any] = {"now": NOW, "origin": Origin("192.0.2.1", frozenset(), "DE"), **more}
    return Facts(
        route="app", method=method, path=path, client="192.0.2.1", principal=who.principal if who else None,
        session=who, act=act or Act(), **values,
    )  # fmt: skip


def replayed(log: Log, after: BarePlace, before: BarePlace | None = None, **more: Any) -> Report:
    run = Replay(Places([after]), Places([before]) if before else None, **more)
    for line in log.lines:
        run.feed(line)
    return run.report()


def logged(rules: BarePlace, *asked: Facts) -> Log:
    log, seen = Log(), set[str]()
    for facts in asked:
        if facts.session is not None and facts.session.sid not in seen:
            seen.add(facts.session.sid)
            log.signs_in(facts.session)
        log.decides(rules, facts)
    return log


def only(report: Report) -> Change:
    assert len(report.changes) == 1, report
    return report.changes[0]


def test_what_a_new_deny_takes_away_is_told_by_person_action_and_rule() -> None:
    before = place(allow("staff", actions=("view", "deploy")), profile=PROFILE)
    after = place(allow("staff", actions=("view", "deploy")), deny("frozen", actions=("deploy",)), profile=PROFILE)
    alice = session()
    deploy = asks(alice, b"/flows", b"POST", Act(Action.DEPLOY, matcher="deploy"))
    look = asks(alice, b"/flows/f1", b"GET", Act(Action.VIEW, "flow", "f1", matcher="look"))
    log = logged(before, look, deploy, deploy)
    report = replayed(log, after)
    change = only(report)
    assert (change.who, change.action, change.before, change.after) == ("alice@example.com", "deploy", "allow", "deny")
    assert (change.rule_before, change.rule_after, change.reason) == ("staff", "frozen", "rule-denied")
    assert (change.count, change.example) == (2, log.ids[1])
    assert (report.decisions, report.compared, report.changed, report.turned) == (3, 3, 2, 2)


def test_the_same_rules_change_nothing() -> None:
    rules = place(allow(), deny("abroad", when=Compare("country", "in", ("FR",))))
    log = logged(rules, asks(session()), asks(session("bob", "guests")), asks())
    assert replayed(log, rules).changes == ()
    assert replayed(log, rules).compared == 3


def test_groups_come_from_the_sign_in_and_follow_its_changes() -> None:
    before, after = place(allow("all", "staff", "guests")), place(allow("all", "staff"))
    log, bob = Log(), session("bob", "staff")
    log.signs_in(bob)
    log.decides(before, asks(bob))
    left = session("bob", "guests")
    log.signs_in(left, kind="person-changed")
    log.decides(before, asks(left))
    report = replayed(log, after)
    assert (report.compared, report.changed) == (2, 1)
    assert only(report).example == log.ids[1]


def test_of_somebody_without_a_sign_in_on_record_nothing_is_guessed() -> None:
    before, after = place(allow()), place(allow("staff", "admins"))
    log = Log()
    log.decides(before, asks(session()))
    report = replayed(log, after)
    assert report.changes == ()
    assert report.not_comparable == {"no sign-in of the person on record": 1}
    everybody = RuleSpec("all", RuleEffect.ALLOW, Audience.SIGNED_IN)
    assert replayed(log, place(everybody)).compared == 1, "here it does not matter who it was"


def test_a_later_sign_in_of_the_same_person_says_who_they_are() -> None:
    log, alice = Log(), session()
    log.decides(place(allow()), asks(alice))
    log.signs_in(alice)
    log.decides(place(allow()), asks(alice))
    report = replayed(log, place(allow()))
    assert (report.compared, sum(report.not_comparable.values())) == (1, 1)


def test_how_fresh_a_proof_was_is_not_guessed() -> None:
    log = logged(place(allow()), asks(session()))
    report = replayed(log, place(allow(reauth=300.0)))
    assert report.changes == ()
    assert report.not_comparable == {"proofs of the session (rule staff: reauth or allow)": 1}


def test_what_was_denied_and_now_needs_a_proof_has_changed_for_certain() -> None:
    log = logged(place(allow("other", "others")), asks(session()))
    change = only(replayed(log, place(allow(reauth=300.0))))
    assert (change.before, change.after, change.turns) == ("deny", "reauth or allow", False)


def test_a_level_that_the_sign_in_had_is_known_and_one_that_it_had_not_may_have_been_proved() -> None:
    strong = session(level=Level.PHISHING_RESISTANT)
    after = place(allow(level=Level.PHISHING_RESISTANT))
    assert replayed(logged(place(allow()), asks(strong)), after).changes == ()
    assert replayed(logged(place(allow()), asks(strong)), after).compared == 1
    assert replayed(logged(place(allow()), asks(session())), after).compared == 0


def test_against_another_file_a_proof_that_both_ask_for_stands_between_nothing() -> None:
    rules = (allow(reauth=300.0), deny("closed", paths=("/closed",)))
    log = logged(place(*rules), asks(session()), asks(session(), b"/closed"))
    assert replayed(log, place(*rules), place(*rules)).not_comparable == {}
    change = only(replayed(log, place(rules[0]), place(*rules)))
    assert (change.before, change.after) == ("deny", "allow")


def test_against_another_file_a_shorter_age_is_a_change_for_who_has_no_proof() -> None:
    log = logged(place(allow()), asks(session()))
    change = only(replayed(log, place(allow(reauth=300.0)), place(allow())))
    assert (change.before, change.after, change.turns) == ("allow", "reauth", True)


def test_headers_are_not_on_record() -> None:
    tagged = Compare("header:x-tag", "in", ("a",))
    log = logged(place(allow()), asks(session()), asks(session(), b"/open"))
    report = replayed(log, place(allow("open", paths=("/open",)), allow(when=tagged)))
    assert report.not_comparable == {"header:x-tag (rule staff)": 1}
    assert report.changes == ()


def test_a_definite_deny_makes_headers_beside_the_point() -> None:
    log = logged(place(allow()), asks(session()))
    after = place(allow(when=Compare("header:x-tag", "in", ("a",))), deny("no"))
    assert only(replayed(log, after)).after == "deny"


def test_what_a_query_decides_is_taken_as_recorded_or_not_compared() -> None:
    without = place(allow())
    log = logged(without, asks(session(), b"/data"))
    after = place(allow(actions=("use",)), profile=PROFILE)
    assert replayed(log, after).not_comparable == {"query, headers or body decide what it means": 1}
    known = logged(place(allow(), profile=PROFILE), asks(session(), b"/data", act=Act(Action.EXPORT, matcher="search")))
    assert only(replayed(known, after)).after == "deny"


def test_the_new_profile_says_what_a_request_means() -> None:
    before = place(allow("see", actions=("use",)), profile=PROFILE)
    log = logged(before, asks(session(), b"/flows/f1", act=Act(Action.USE, matcher="old")))
    assert only(replayed(log, before)).reason == "no-rule-matched", "it is a view by now"


def test_locks_limits_and_certificates_are_not_decided_by_rules() -> None:
    log, alice = Log(), session()
    log.signs_in(alice)
    log.decides(place(allow()), asks(alice))
    locked = log.lines[-1].replace(b'"reason":"rule-allowed"', b'"reason":"locked"')
    run = Replay(Places([place(deny("no"))]))
    for line in (log.lines[0], locked):
        run.feed(line)
    assert run.report().not_comparable == {"not decided by rules": 1}


def test_risk_device_level_and_place_are_as_recorded() -> None:
    rules = (
        allow(),
        deny("risky", when=Compare("risk", "at_least", ("high",))),
        deny("new", paths=("/new",), when=Compare("device_known", "is", (False,))),
        deny("abroad", paths=("/home",), when=Compare("country", "in", ("BR",))),
    )
    high, abroad = Risk(70, RiskLevel.HIGH, ("new-device+25",)), Origin("192.0.2.1", country="BR")
    log = logged(
        place(allow()), asks(session(), risk=high), asks(session(device_known=False), b"/new"),
        asks(session(), b"/home", origin=abroad), asks(session(device_known=True)),
    )  # fmt: skip
    report = replayed(log, place(*rules))
    assert {change.rule_after for change in report.changes} == {"risky", "new", "abroad"}
    assert report.compared == 4


def test_the_time_of_day_is_that_of_the_record() -> None:
    office = Hours((0, 1, 2, 3, 4, 5, 6), 480, 1080, "UTC")
    noon = NOW - NOW % 86_400 + 43_200
    alice = session()
    log = logged(place(allow()), asks(alice, now=noon), asks(alice, now=noon + 43_000), asks(alice, now=noon + 60))
    report = replayed(log, place(allow(when=office)))
    assert (report.compared, report.changed, only(report).example) == (3, 1, log.ids[1])


def test_masks_and_notices_count_as_changes_but_turn_nothing() -> None:
    log = logged(place(allow()), asks(session()))
    change = only(replayed(log, place(allow(masks=("salaries",), notify=True))))
    assert (change.before, change.after, change.turns) == ("allow", "allow +mask salaries +notify", False)
    assert replayed(log, place(allow(notify=True)), effects_only=True).changes == ()


def test_strangers_and_integrations_are_compared_too() -> None:
    public = RuleSpec("open", RuleEffect.ALLOW, Audience.PUBLIC, (RequestMatch(paths=("/open",)),))
    machine = RuleSpec("api", RuleEffect.ALLOW, Audience.MATCHING, integrations=("billing",))
    robot = Principal("integration:billing", "", "", integration="billing")
    asked = Facts(NOW, "app", b"GET", b"/api", "192.0.2.1", robot, None, origin=Origin("192.0.2.1"))
    log = logged(place(public, machine), asks(path=b"/open"), asked)
    report = replayed(log, place(allow()))
    assert {(change.who, change.before, change.after) for change in report.changes} == {
        ("nobody signed in", "allow", "login"),
        ("integration:billing", "allow", "deny"),
    }


def test_a_route_that_is_gone_lets_nobody_in_and_another_name_is_no_change() -> None:
    log = logged(place(allow()), asks(session(), b"/a/b"))
    renamed = BarePlace("app.test", b"/a", RouteRules("renamed", (allow(),)))
    assert replayed(log, renamed).compared == 1
    assert replayed(log, renamed).changes == ()
    elsewhere = BarePlace("app.test", b"/other", RouteRules("other", (allow(),)))
    assert only(replayed(log, elsewhere)).reason == "path-unknown"


def test_only_the_window_and_the_route_that_were_asked_for_count() -> None:
    alice = session()
    log = logged(place(allow()), asks(alice, now=NOW - 100), asks(alice))
    assert replayed(log, place(allow()), since=NOW - 50).decisions == 1
    assert replayed(log, place(allow()), route="other").decisions == 0


def test_what_somebody_broke_the_glass_for_stays_allowed_where_they_still_may() -> None:
    alice = session(break_glass=NOW + 60, justified={"break-glass": "fire"})
    before = place(allow("admins", "admins"), break_glass=("alice@example.com",))
    log = logged(before, asks(alice))
    assert replayed(log, before).changes == ()
    assert only(replayed(log, place(allow("admins", "admins")))).after == "deny"


def test_rules_in_report_mode_change_nothing() -> None:
    log = logged(place(allow()), asks(session()))
    assert replayed(log, place(allow(), deny("no", mode=Mode.REPORT))).changes == ()


def test_what_was_said_and_agreed_to_is_not_asked_again_for_certain() -> None:
    rule = allow(justify=True, approve=Approve(groups=("leads",)))
    key = unlock_key("app", "staff")
    alice = session(
        justified={key: "why"}, approved={key: Approval("bob", NOW + 60)}, proofs={key: Proof(NOW, Level.MULTI)}
    )
    log = logged(place(rule), asks(alice))
    report = replayed(log, place(rule))
    assert report.changes == ()
    assert list(report.not_comparable) == ["proofs of the session (rule staff: justify or allow)"]


def test_lines_that_are_no_records_are_passed_over() -> None:
    run = Replay(Places([place(allow())]))
    for line in (
        b"",
        b"{",
        b'{"type":"decision","route":"',
        b"\xff" * 40,
        b'{"seq":1,"type":"decision","at":"x","route":"app"}',
    ):
        run.feed(line)
    assert run.report().decisions == 0
