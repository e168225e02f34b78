"""Which locks are on a request, and what each leaves of a decision."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.lab.links import session
from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Level, Machine, Principal, Proof
from zt_proxy.core.types import NO_ACT, Act, Action, ChallengeKind, Decision, Effect
from zt_proxy.link.locks import Lock, LockEffect, LockKind
from zt_proxy.worker.gateway.locked import judge
from zt_proxy.worker.protect.locks import Locks

NOW = 1_000.0
AT = 500.0
ALICE = replace(session(), principal=Principal("alice", "https://idp", "corp", email="Alice@Example.com"), device="d1")
CRM = Machine(Principal("integration:crm", "", "", integration="crm"), "ab", 9_999.0)
ALLOW = Decision(Effect.ALLOW, Reason.RULE_ALLOWED, "staff", reported=("other:deny",))
SAFE, UNSAFE = b"GET", b"POST"
_ids = itertools.count()


def lock(kind: LockKind, value: str, effect: LockEffect = LockEffect.BLOCK, **more: object) -> Lock:
    return Lock(**{"id": f"{next(_ids)}", "cause": "c", "by": "root", "at": AT, **more}, kind=kind, value=value, effect=effect)  # fmt: skip


def locks_of(*made: Lock) -> Locks:
    locks = Locks()
    for each in made:
        locks.set(each)
    return locks


# ---- which


@pytest.mark.parametrize(
    ("made", "on"),
    [
        (lock(LockKind.USER, "alice", provider="corp"), True),
        (lock(LockKind.USER, "alice", provider="other"), False),
        (lock(LockKind.USER, "alice"), True),
        (lock(LockKind.USER, "ALICE@example.com"), True),
        (lock(LockKind.USER, "alice@example.com", provider="other"), False),
        (lock(LockKind.USER, "bob"), False),
        (lock(LockKind.SESSION, "s1"), True),
        (lock(LockKind.SESSION, "s2"), False),
        (lock(LockKind.DEVICE, "d1"), True),
        (lock(LockKind.DEVICE, "d2"), False),
        (lock(LockKind.ROUTE, "flows"), True),
        (lock(LockKind.ROUTE, "apps"), False),
        (lock(LockKind.INTEGRATION, "crm"), False),
        (lock(LockKind.USER, "s1"), False),
        (lock(LockKind.SESSION, "alice"), False),
    ],
    ids=lambda value: f"{value.kind.value}-{value.value}-{value.provider}" if isinstance(value, Lock) else str(value),
)
def test_a_lock_is_on_its_own_target_alone(made: Lock, on: bool) -> None:
    assert locks_of(made).effect_on(ALICE, None, "flows", NOW) == (made if on else None)


def test_a_lock_of_an_integration_is_on_it_and_one_of_a_route_on_everybody() -> None:
    locks = locks_of(crm := lock(LockKind.INTEGRATION, "crm"))
    assert locks.effect_on(None, CRM, "flows", NOW) == crm
    assert locks.effect_on(ALICE, None, "flows", NOW) is None
    locks.set(route := lock(LockKind.ROUTE, "apps", LockEffect.READ_ONLY))
    assert locks.effect_on(None, None, "apps", NOW) == route
    assert locks.of_route("apps", NOW) == (route,)
    assert locks.effect_on(None, CRM, "apps", NOW) == crm


def test_a_session_without_a_known_device_has_no_lock_of_a_device() -> None:
    assert locks_of(lock(LockKind.DEVICE, "d1")).effect_on(replace(ALICE, device=""), None, "flows", NOW) is None


def test_the_strongest_of_several_comes_first() -> None:
    made = [lock(kind, value, effect) for kind, value, effect in zip(
        (LockKind.USER, LockKind.SESSION, LockKind.DEVICE, LockKind.ROUTE),
        ("alice", "s1", "d1", "flows"),
        (LockEffect.NO_EXPORT, LockEffect.STEP_UP, LockEffect.READ_ONLY, LockEffect.BLOCK),
        strict=True,
    )]  # fmt: skip
    found = locks_of(*made).on(ALICE, None, "flows", NOW)
    assert [each.effect for each in found] == list(LockEffect)


def test_a_lock_ends_at_its_time_though_nobody_says_so() -> None:
    locks = locks_of(lock(LockKind.USER, "alice", expires=NOW + 10))
    assert locks.effect_on(ALICE, None, "flows", NOW + 9.9) is not None
    assert locks.effect_on(ALICE, None, "flows", NOW + 10) is None


def test_a_lock_set_again_takes_the_place_of_the_one_before_and_every_change_raises_the_epoch() -> None:
    locks = Locks()
    assert not locks
    locks.set(lock(LockKind.USER, "alice@example.com", id="x"))
    locks.set(lock(LockKind.USER, "bob", id="x"))
    assert (len(locks), locks.epoch) == (1, 2)
    assert locks.effect_on(ALICE, None, "flows", NOW) is None
    locks.lift("x")
    locks.lift("x")
    assert not locks
    assert locks.epoch == 3
    assert not locks._by  # nothing is left behind


# ---- what they leave


def judged(effect: LockEffect, act: Act = NO_ACT, method: bytes = SAFE, decision: Decision = ALLOW, **more: object):
    given = {"session": ALICE, **more}
    made = lock(LockKind.USER, "alice", effect, **({"id": given.pop("id")} if "id" in given else {}))
    return judge(made, act, method, given.pop("session"), decision, NOW, **given)


def act(action: Action | None) -> Act:
    return Act(action)


def test_block_lets_nothing_through_and_keeps_what_rules_in_report_mode_said() -> None:
    assert judged(LockEffect.BLOCK, id="x") == Decision(Effect.DENY, Reason.LOCKED, reported=("other:deny",), lock="x")


@pytest.mark.parametrize("effect", LockEffect)
@pytest.mark.parametrize(
    "decision",
    [
        Decision(Effect.DENY, Reason.RULE_DENIED, "no"),
        Decision(Effect.CHALLENGE, Reason.LOGIN_REQUIRED, challenge=ChallengeKind.LOGIN),
        Decision(Effect.CHALLENGE, Reason.MFA_REQUIRED, challenge=ChallengeKind.MFA),
    ],
    ids=lambda decision: decision.reason.value,
)
def test_a_no_stays_and_a_stranger_learns_of_no_lock(effect: LockEffect, decision: Decision) -> None:
    assert judged(effect, decision=decision, session=None) is None


def test_nobody_is_asked_for_a_proof_for_nothing() -> None:
    asked = Decision(Effect.CHALLENGE, Reason.REAUTH_REQUIRED, "deploy", ChallengeKind.REAUTH)
    assert judged(LockEffect.BLOCK, decision=asked).reason is Reason.LOCKED
    assert judged(LockEffect.READ_ONLY, method=UNSAFE, decision=asked).reason is Reason.LOCKED_READ_ONLY


@pytest.mark.parametrize(
    ("action", "method", "websocket", "passes"),
    [
        (None, b"GET", False, True),
        (None, b"HEAD", False, True),
        (None, b"POST", False, False),
        (None, b"GET", True, False),
        (Action.VIEW, b"GET", False, True),
        (Action.VIEW, b"POST", False, True),
        (Action.VIEW, b"GET", True, True),
        (Action.USE, b"GET", False, True),
        (Action.USE, b"POST", False, False),
        (Action.USE, b"GET", True, False),
        (Action.BUILD, b"GET", False, False),
        (Action.DEPLOY, b"POST", False, False),
        (Action.MANAGE_ACCESS, b"GET", False, False),
        (Action.MANAGE_INTEGRATIONS, b"GET", False, False),
        (Action.EXPORT, b"GET", False, False),
    ],
)
def test_read_only_lets_through_what_only_looks(
    action: Action | None, method: bytes, websocket: bool, passes: bool
) -> None:
    found = judged(LockEffect.READ_ONLY, act(action), method, websocket=websocket)
    assert found is None if passes else found.reason is Reason.LOCKED_READ_ONLY


@pytest.mark.parametrize("action", [None, *Action])
def test_no_export_stops_exports_and_what_nobody_can_tell_from_one(action: Action | None) -> None:
    found = judged(LockEffect.NO_EXPORT, act(action))
    if action in (None, Action.EXPORT):
        assert found.reason is Reason.LOCKED_NO_EXPORT
    else:
        assert found is None


@pytest.mark.parametrize(
    ("changed", "passes"),
    [
        ({}, False),
        ({"auth_time": AT + 1}, False),
        ({"auth_time": AT + 1, "created": AT + 1}, False),
        ({"auth_time": AT + 1, "created": AT + 1, "level": Level.PHISHING_RESISTANT}, True),
        ({"auth_time": AT + 1, "created": AT - 1, "level": Level.PHISHING_RESISTANT}, False),
        ({"proofs": {"k": Proof(AT + 1, Level.PHISHING_RESISTANT)}}, True),
        ({"proofs": {"k": Proof(AT, Level.PHISHING_RESISTANT)}}, False),
        ({"proofs": {"k": Proof(AT + 1, Level.MULTI)}}, False),
        ({"proofs": {"k": Proof(NOW + 60, Level.PHISHING_RESISTANT)}}, False),
    ],
)
def test_step_up_wants_a_proof_made_since_as_strong_as_there_is(changed: dict[str, object], passes: bool) -> None:
    found = judged(LockEffect.STEP_UP, session=replace(ALICE, **changed))
    if passes:
        assert found is None
    else:
        assert (found.challenge, found.reason) == (ChallengeKind.REAUTH, Reason.LOCKED_STEP_UP)
        assert found.level is Level.PHISHING_RESISTANT


def test_step_up_asks_for_no_better_proof_than_the_person_can_give() -> None:
    weak = replace(ALICE, proofs={"k": Proof(AT + 1, Level.MULTI)})
    assert judged(LockEffect.STEP_UP, session=weak, strongest=Level.MULTI) is None
    assert judged(LockEffect.STEP_UP, strongest=Level.MULTI).level is Level.MULTI


def test_step_up_has_a_stranger_sign_in_and_lets_no_integration_through() -> None:
    public = Decision(Effect.ALLOW, Reason.PUBLIC)
    assert judged(LockEffect.STEP_UP, session=None, decision=public).challenge is ChallengeKind.LOGIN
    assert judged(LockEffect.STEP_UP, session=None, machine=True).reason is Reason.LOCKED


@given(
    effect=st.sampled_from(LockEffect),
    action=st.sampled_from([None, *Action]),
    method=st.sampled_from([b"GET", b"POST", b"DELETE"]),
    websocket=st.booleans(),
    machine=st.booleans(),
    decision=st.sampled_from(
        [
            ALLOW,
            Decision(Effect.DENY, Reason.NO_RULE_MATCHED),
            *(Decision(Effect.CHALLENGE, Reason.REAUTH_REQUIRED, challenge=kind) for kind in ChallengeKind),
        ]
    ),
)
def test_a_lock_never_allows_anything(effect, action, method, websocket, machine, decision) -> None:
    found = judged(
        effect, act(action), method, decision, websocket=websocket, machine=machine, session=None if machine else ALICE
    )
    assert found is None or found.effect is not Effect.ALLOW
