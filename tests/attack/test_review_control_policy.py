"""What somebody tries who means to escape watching, to lock others, or to be let through by words said for others."""

import os
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.integration.test_operator import command
from tests.lab.proxy import ProxyLab
from tests.unit.control.portal.test_asked import asked, decide, lab_at, shown, signed_in
from tests.unit.control.watch.test_alerts import NOW, Desk, too_much
from zt_proxy.control.approvals import manager
from zt_proxy.control.watch.alerts import EACH, SHARE, WAITING
from zt_proxy.control.watch.findings import Facts, Finding, change
from zt_proxy.core.session import Approval, Principal, Session, unlock_key
from zt_proxy.core.types import ChallengeKind, Decision, Effect, Origin
from zt_proxy.core.types import Facts as Rules
from zt_proxy.link.locks import Lock, LockEffect, LockKind
from zt_proxy.policy import risk
from zt_proxy.policy.compile import compile_rules
from zt_proxy.policy.geo_files import DatabaseFile
from zt_proxy.policy.spec import Approve, Audience, RequestMatch, RoleSpec, RouteRules, RuleEffect, RuleSpec
from zt_proxy.policy.spec import Test as Is
from zt_proxy.worker.protect.locks import Locks

MALLORY = Facts(route="app", sub="mallory", provider="corp", sid="s9", changes="deployment")


def saved(number: int, facts: Facts = MALLORY) -> Finding:
    return change(replace(facts, kind="flow", object=f"f{number}"), f"r{number}", "/flows", NOW)


# ---- a flood of alerts


async def test_who_does_much_that_is_told_is_locked_all_the_same() -> None:
    """Each window of traffic is told once: what is dropped then is never locked."""
    desk = Desk()
    for number in range(WAITING + 5):
        desk.alerts.put(saved(number))
    await desk.find(too_much())
    assert [order.value for order in desk.orders] == ["alice"]


async def test_one_persons_flood_does_not_keep_others_from_being_told_of() -> None:
    desk = Desk()
    for number in range(2 * SHARE):
        desk.alerts.put(saved(number))
    assert desk.alerts.dropped == SHARE
    other = Facts(route="app", sub="oscar", provider="corp", changes="access-control")
    await desk.find(saved(1, other))
    assert "oscar" in {alert.user for alert in desk.sent}
    assert not desk.alerts._of, "nothing is left of who once had something in the queue"


async def test_names_that_a_client_chooses_make_no_alerts_without_end() -> None:
    desk = Desk()
    for number in range(EACH + 30):
        await desk.find(saved(number))
    assert len(desk.sent) == EACH + 1
    assert f"{EACH} alerts" in desk.sent[-1].summary
    await desk.find(saved(7, Facts(route="app", sub="mallory", provider="corp", changes="access-control")))
    assert desk.sent[-1].changes == "access-control", "another kind of change does not hide among them"
    desk.clock.advance(100_000)
    await desk.alerts.finish()
    assert max(alert.count for alert in desk.sent) == 30, "those told together are told again with their number"
    await desk.find(saved(1))
    assert desk.sent[-1].object == "flow:f1", "after the quiet time they are told apart again"
    await desk.alerts.finish(everything=True)
    assert not desk.alerts._apart


# ---- locks


def person(subject: str, email: str | None = None, provider: str = "corp") -> Principal:
    return Principal(subject, "https://idp", provider, email)


def lock(value: str, **more: Any) -> Lock:
    return Lock("0000000a", LockKind.USER, value, LockEffect.BLOCK, "", "watch:volume", NOW, **more)


@pytest.mark.parametrize("other", [person("ALICE"), person("x", "Alice@ex"), person("Alice", provider="cust")])
def test_a_lock_on_one_person_does_not_reach_another_of_nearly_that_name(other: Principal) -> None:
    """Subjects are compared exactly (OpenID Connect Core §5.7)."""
    for who, value in ((person("Alice"), "Alice"), (person("alice@ex"), "alice@ex")):
        locks = Locks()
        locks.set(lock(value, provider="corp", exact=True))
        assert locks._of_user(who)
        assert not locks._of_user(other)


def test_a_lock_by_address_reaches_whoever_has_it_in_any_case() -> None:
    locks = Locks()
    locks.set(lock("Alice@Ex"))
    assert locks._of_user(person("u1", "alice@eX", "cust"))
    assert not locks._of_user(person("alice@ex")), "that is a subject, spelt otherwise"


async def test_a_detector_locks_whom_it_saw_and_nobody_whose_address_they_call_themselves() -> None:
    """Whoever may choose a user name takes the address of somebody else, and then far too much."""
    desk = Desk()
    await desk.find(too_much(facts=replace(MALLORY, sub="ceo@example.com")))
    (order,) = desk.orders
    assert (order.value, order.provider, order.exact) == ("ceo@example.com", "corp", True)


async def test_no_name_lifts_no_lock() -> None:
    async with ProxyLab() as proxy:
        for name in ("alice", "bob"):
            code, _, err = await command(proxy, "lock", "user", name)
            assert code == 0, err
        for blank in (" ", "\t", ""):
            code, _, err = await command(proxy, "unlock", "user", blank)
            assert code != 0, err
        assert proxy.proxy.control is not None
        assert len(proxy.proxy.control.locks.current()) == 2


# ---- approvals


SESSION = Session(
    sid="s", host="app.ex", principal=person("alice", "alice@ex"), acr="", amr=(), mfa=True, auth_time=NOW - 60,
    created=NOW - 60, last_activity=NOW, idle_timeout=1800.0, absolute_deadline=NOW + 3600,
)  # fmt: skip
AGREED = RuleSpec(
    "deploy", RuleEffect.ALLOW, Audience.MATCHING, matches=(RequestMatch(paths=("/flows/a",)),), users=("alice",),
    approve=Approve(groups=("leads",)), masks=("salaries",), when=Is("network", "in", ("office",)),
)  # fmt: skip
WIDER = {
    "more requests": {"matches": (RequestMatch(paths=("/flows/**", "/flows/a")),)},
    "more people": {"users": ("alice", "bob")},
    "others agree": {"approve": Approve(users=("carol",))},
    "no mask": {"masks": ()},
    "anywhere": {"when": None},
}


def ask_again(rule: RuleSpec, session: Session) -> Decision:
    office = Origin("192.0.2.1", frozenset({"office"}))
    facts = Rules(NOW, "app", b"POST", b"/flows/a", "192.0.2.1", session.principal, session, origin=office)
    return compile_rules(RouteRules("app", (rule,))).decide(facts)


def with_approval(scope: str) -> Session:
    return replace(SESSION, approved={unlock_key("app", "deploy"): Approval("carol", NOW + 60, scope)})


@pytest.mark.parametrize("change", WIDER.values(), ids=WIDER)
def test_nobody_has_agreed_to_what_a_rule_says_later(change: dict[str, Any]) -> None:
    asked = ask_again(AGREED, SESSION)
    assert (asked.challenge, bool(asked.scope)) == (ChallengeKind.APPROVE, True)
    session = with_approval(asked.scope)
    assert ask_again(AGREED, session).effect is Effect.ALLOW
    again = ask_again(replace(AGREED, **change), session)
    assert again.challenge is ChallengeKind.APPROVE
    assert again.scope != asked.scope


def test_a_reload_that_changes_nothing_about_a_rule_keeps_its_approvals() -> None:
    session = with_approval(ask_again(AGREED, SESSION).scope)
    same = replace(AGREED, notify=True, claims={}, inherited="x")
    assert ask_again(same, session).effect is Effect.ALLOW


async def test_who_agrees_to_a_rule_of_before_has_not_agreed_to_the_one_there_is(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        alice, carol = await signed_in(lab, "alice"), await signed_in(lab, "carol")
        ids = []
        for scope in ("before", "now"):
            page = f"/.zt/approval?to={await asked(alice, 'approve', scope=scope)}"
            answer = await alice.post(page, token=await alice.form_token(page), said="")
            ids.append(answer.location.partition("id=")[2].partition("&")[0])
        assert await shown(carol) == ids[1:], "nobody is asked for a word that opens nothing"
        assert (await decide(carol, ids[0])).status == 404
        await decide(carol, ids[1])
        session = await alice.session()
        assert session is not None
        assert [each.scope for each in session.approved.values()] == ["now"]


# ---- somebody who is called as another's address is


ADDRESS = "root@example.com"
NAMESAKE = Principal(ADDRESS, "https://customers", "customers")
BOSS = (RoleSpec("boss", users=(ADDRESS,)),)
BY_NAME: dict[str, dict[str, Any]] = {
    "role": {"roles": ("boss",)},
    "role in a condition": {"audience": Audience.SIGNED_IN, "when": Is("role", "in", ("boss",))},
    "user": {"audience": Audience.SIGNED_IN, "when": Is("user", "in", (ADDRESS,))},
    "pattern": {"audience": Audience.SIGNED_IN, "when": Is("user", "like", ("*@example.com",))},
    "break-glass": {"users": ("nobody",)},
}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_subject_of_one_provider_is_not_taken_for_an_address_at_another(name: str) -> None:
    values: dict[str, Any] = {"effect": RuleEffect.ALLOW, "audience": Audience.MATCHING, **BY_NAME[name]}
    rule = RuleSpec("r", **values)
    policy = compile_rules(RouteRules("app", (rule,), roles=BOSS, break_glass=(ADDRESS,), several=True))

    def effect_on(who: Principal) -> Effect:
        until = NOW + 60 if name == "break-glass" else 0.0
        session = replace(SESSION, principal=who, break_glass=until)
        return policy.decide(Rules(NOW, "app", b"GET", b"/", "192.0.2.1", who, session)).effect

    assert effect_on(NAMESAKE) is Effect.DENY
    assert effect_on(replace(NAMESAKE, subject="u1", email=ADDRESS)) is Effect.ALLOW


async def test_signing_in_again_gives_nobody_more_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "PERSON", 2)
    async with lab_at(tmp_path) as lab:
        for number in range(3):
            alice = await signed_in(lab, "alice")
            page = f"/.zt/approval?to={await asked(alice, 'approve')}"
            answer = await alice.post(page, token=await alice.form_token(page), said="")
            assert answer.status == (303 if number < 2 else 429)
        bob = await signed_in(lab, "bob")
        page = f"/.zt/approval?to={await asked(bob, 'approve')}"
        assert (await bob.post(page, token=await bob.form_token(page), said="")).status == 303


# ---- address databases


@pytest.mark.parametrize("what", ["device", "pipe", "folder", "garbage"])
def test_what_takes_the_place_of_a_database_is_neither_copied_nor_waited_for(tmp_path: Path, what: str) -> None:
    """`/dev/zero` would fill the runtime folder, where the record ring lives."""
    file, copies = tmp_path / "country.mmdb", tmp_path / "run"
    match what:
        case "device":
            file.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "garbage":
            file.write_bytes(b"\xab\xcd\xefMaxMind.com" * 100)
    database = DatabaseFile(file, copies)
    assert database.problem
    assert database.get(IPv4Address("192.0.2.1")) is None
    assert not [each for each in copies.glob("*") if each.is_file()]


# ---- what clients call themselves


def test_no_memory_is_filled_by_what_clients_call_themselves() -> None:
    before = risk._remembered_mark.cache_info().currsize
    marks = {risk.agent_mark(b"%d" % number + b"x" * 30_000) for number in range(50)}
    assert len(marks) == 50, "the mark is of the whole name"
    assert risk._remembered_mark.cache_info().currsize == before
