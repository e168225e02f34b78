"""Two providers call different people by one name; rules and routes know whose is meant."""

import msgspec
import pytest

from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Principal, Session
from zt_proxy.core.types import ChallengeKind, Effect, Facts
from zt_proxy.policy.compile import compile_rules
from zt_proxy.policy.spec import Audience, RouteRules, RuleEffect, RuleSpec

ALICE = Principal("4711", "https://a.example", "a", email="alice@example.com", groups=frozenset({"staff"}))


def session_of(principal: Principal) -> Session:
    return Session(
        sid="s",
        host="app.example.com",
        principal=principal,
        acr="",
        amr=(),
        mfa=True,
        auth_time=0.0,
        created=0.0,
        last_activity=0.0,
        idle_timeout=1800.0,
        absolute_deadline=1e9,
    )


def decide(rule: RuleSpec, principal: Principal, provider: str = ""):
    policy = compile_rules(RouteRules("r", (rule,), provider=provider))
    facts = Facts(
        now=1.0,
        route="r",
        method=b"GET",
        path=b"/",
        client="192.0.2.1",
        principal=principal,
        session=session_of(principal),
    )
    return policy.decide(facts)


def allow(**who) -> RuleSpec:
    return RuleSpec("one", RuleEffect.ALLOW, Audience.MATCHING, **who)


def elsewhere(**changes) -> Principal:
    return msgspec.structs.replace(ALICE, issuer="https://b.example", provider="b", **changes)


@pytest.mark.parametrize(
    ("rule", "impostor"),
    [
        (allow(people=(("a", "4711"),)), elsewhere()),
        (allow(emails=("alice@example.com",)), elsewhere(subject="alice@example.com", email=None)),
        (allow(groups=("staff",), providers=("a",)), elsewhere()),
        (allow(providers=("a",)), elsewhere()),
        (allow(users=("4711",), providers=("a",)), elsewhere()),
        (RuleSpec("one", RuleEffect.ALLOW, Audience.SIGNED_IN, providers=("a",)), elsewhere()),
    ],
)
def test_a_name_of_one_provider_is_nobody_at_another(rule, impostor):
    assert decide(rule, ALICE).effect is Effect.ALLOW
    decision = decide(rule, impostor)
    assert (decision.effect, decision.reason) == (Effect.DENY, Reason.NO_RULE_MATCHED)


def test_a_rule_for_one_providers_people_is_not_public():
    rule = RuleSpec("one", RuleEffect.ALLOW, Audience.PUBLIC, providers=("a",))
    assert decide(rule, ALICE).effect is Effect.ALLOW
    assert decide(rule, elsewhere()).effect is Effect.DENY


def test_a_route_of_one_provider_sends_everybody_else_to_sign_in_and_keeps_what_is_public():
    everyone = RuleSpec("one", RuleEffect.ALLOW, Audience.SIGNED_IN)
    assert decide(everyone, ALICE, provider="a").effect is Effect.ALLOW
    decision = decide(everyone, elsewhere(), provider="a")
    assert (decision.effect, decision.challenge) == (Effect.CHALLENGE, ChallengeKind.LOGIN)
    public = RuleSpec("one", RuleEffect.ALLOW, Audience.PUBLIC)
    assert decide(public, elsewhere(), provider="a").effect is Effect.ALLOW


def test_a_deny_for_one_providers_people_says_nothing_of_the_others():
    deny = RuleSpec("one", RuleEffect.DENY, Audience.MATCHING, providers=("b",))
    allowed = RuleSpec("two", RuleEffect.ALLOW, Audience.SIGNED_IN)
    policy = compile_rules(RouteRules("r", (deny, allowed)))
    for principal, effect in ((ALICE, Effect.ALLOW), (elsewhere(), Effect.DENY)):
        facts = Facts(1.0, "r", b"GET", b"/", "192.0.2.1", principal, session_of(principal))
        assert policy.decide(facts).effect is effect
