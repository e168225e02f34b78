"""What somebody tries who wants more than the rules give: requests that mean one thing here and another behind."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from zt_proxy.core.errors import ClientError, Reason
from zt_proxy.core.session import Principal, Session
from zt_proxy.core.types import Act, Action, Decision, Effect, Facts
from zt_proxy.policy.actions import NeedsBody, Profile
from zt_proxy.policy.compile import compile_rules
from zt_proxy.policy.profile_spec import (
    FieldTest,
    GraphQLTest,
    MatcherSpec,
    MessageSpec,
    ObjectSpec,
    OtherwiseSpec,
    ProfileSpec,
)
from zt_proxy.policy.spec import Audience, Not, RequestMatch, RoleSpec, RouteRules, RuleEffect, RuleSpec
from zt_proxy.policy.spec import Test as Is

NOW = 1_800_000_000.0
EVE = Principal("eve", "https://idp", "corp", email="eve@ex", groups=frozenset({"staff"}))
SESSION = Session(
    sid="s", host="app.ex", principal=EVE, acr="", amr=(), mfa=True, auth_time=NOW - 600, created=NOW - 600,
    last_activity=NOW, idle_timeout=1800.0, absolute_deadline=NOW + 3600,
)  # fmt: skip
JSON = {b"content-type": b"application/json"}
EVERYTHING = RuleSpec("paths", RuleEffect.ALLOW, Audience.SIGNED_IN, matches=(RequestMatch(paths=("/**",)),))


def decide(act: Act, *rules: RuleSpec) -> Decision:
    facts = Facts(NOW, "app", b"POST", b"/graphql", "192.0.2.1", EVE, SESSION, act=act)
    policy = compile_rules(RouteRules("app", rules))
    decision = policy.decide(facts)
    traced = [each for each in policy.explain(facts).rules if each.decides]
    assert all(each.said == "hit" for each in traced)
    return decision


def deny(**match: Any) -> RuleSpec:
    return RuleSpec("no", RuleEffect.DENY, Audience.SIGNED_IN, matches=(RequestMatch(**match),))


@pytest.mark.parametrize("match", [{"actions": ("export",)}, {"objects": ("table:pay",)}])
def test_a_request_that_nobody_understands_is_not_spared_what_is_denied_of_actions_and_objects(match: Any) -> None:
    decision = decide(Act(refused=True), EVERYTHING, deny(**match))
    assert decision.effect is Effect.DENY


def test_a_deny_of_other_paths_leaves_what_nobody_understands_alone() -> None:
    other = deny(paths=("/elsewhere",), actions=("export",))
    assert decide(Act(refused=True), EVERYTHING, other).effect is Effect.ALLOW


ITEMS = Profile(
    ProfileSpec(
        "p", "P", "1", "tests",
        (
            MatcherSpec(
                "items", Action.USE, ("GET", "POST"), ("/graphql",), graphql=GraphQLTest(types=("query",)),
                object=ObjectSpec("table", "{graphql.field}"),
            ),
            MatcherSpec(
                "change", Action.BUILD, ("GET", "POST"), ("/graphql",), graphql=GraphQLTest(types=("mutation",)),
                object=ObjectSpec("table", "{graphql.field}"),
            ),
            MatcherSpec("live", Action.DEPLOY, ("POST",), ("/flows",), body=(FieldTest("type", ("full",)),)),
            MatcherSpec("save", Action.BUILD, ("POST",), ("/flows",)),
        ),
    )
)  # fmt: skip


def ask(
    document: object, *, path: bytes = b"/graphql", query: bytes | None = None, kind: bytes = b"application/json"
) -> Act:
    where = (b"POST", path, query, {b"content-type": kind}.get, False)
    act = ITEMS.classify(*where)
    if isinstance(act, NeedsBody):
        return ITEMS.classify_body(*where, document if isinstance(document, bytes) else json.dumps(document).encode())
    return act


MANY = [{"query": "{ open { id } pay { iban } }"}, {"query": "mutation { open { id } } query q { pay { iban } }"}]


@pytest.mark.parametrize("document", [*MANY, [{"query": "{open}"}, {"query": "{pay}"}]])
def test_several_objects_in_one_request_do_not_hide_behind_the_first(document: object) -> None:
    act = ask(document)
    everything = RuleSpec("all", RuleEffect.ALLOW, Audience.SIGNED_IN, matches=(RequestMatch(actions=("*",)),))
    only = RuleSpec("only", RuleEffect.ALLOW, Audience.SIGNED_IN, matches=(RequestMatch(objects=("table:open",)),))
    tables = RuleSpec("tables", RuleEffect.ALLOW, Audience.SIGNED_IN, matches=(RequestMatch(objects=("table:*",)),))
    secret = RuleSpec(
        "when", RuleEffect.DENY, Audience.SIGNED_IN, matches=(RequestMatch(paths=("/**",)),),
        when=Is("object", "in", ("table:pay",)),
    )  # fmt: skip
    assert decide(act, everything).effect is Effect.ALLOW
    assert decide(act, tables).effect is Effect.ALLOW
    assert decide(act, everything, deny(objects=("table:pay",))).effect is Effect.DENY
    assert decide(act, everything, deny(objects=("t*:p*",))).effect is Effect.DENY
    assert decide(act, everything, deny(objects=("flow:pay",))).effect is Effect.ALLOW
    assert decide(act, only).effect is Effect.DENY
    facts = Facts(NOW, "app", b"POST", b"/graphql", "192.0.2.1", EVE, SESSION, act=act)
    assert compile_rules(RouteRules("app", (everything, secret))).decide(facts).effect is Effect.DENY


def refused(**request: Any) -> None:
    with pytest.raises(ClientError) as caught:
        ask(**request)
    assert caught.value.reason is Reason.BODY_NOT_INSPECTABLE


@pytest.mark.parametrize("query", [b"query=mutation{drop}", b"x=1&query=mutation%7Bdrop%7D", b"%71uery=x", b"Query=x"])
def test_a_query_in_the_address_does_not_stand_beside_one_in_the_body(query: bytes) -> None:
    """Some servers take the one in the address first."""
    refused(document={"query": "{ open { id } }"}, query=query)


@pytest.mark.parametrize(
    "kind",
    [
        b"application/json; charset=utf-8; charset=utf-7",
        b"application/json; charset=utf-7; charset=utf-8",
        b"application/json;\tcharset\t=\tutf-7",
        b"application/json; x=1, application/x-www-form-urlencoded",
        b"application/json; charset=utf-8; charset*=utf-7''",
    ],
)
def test_a_body_is_read_in_utf_8_or_not_at_all(kind: bytes) -> None:
    """`+ACI-` is a quotation mark to who takes the last charset."""
    refused(document={"query": "{ open { id } }"}, kind=kind)


@pytest.mark.parametrize("value", [["full"], {"0": "full"}])
def test_a_list_of_one_does_not_pass_for_something_else_than_what_is_in_it(value: object) -> None:
    """JavaScript compares `["full"] == "full"`."""
    refused(document={"type": value}, path=b"/flows")


def test_a_message_that_is_too_long_to_be_read_is_refused_unread() -> None:
    profile = Profile(
        ProfileSpec(
            "p", "P", "1", "tests",
            (MatcherSpec("socket", Action.VIEW, ("GET",), ("/ws",), websocket=True),),
            messages=(MessageSpec("look", Action.VIEW, fields=(FieldTest("do", ("look",)),)),),
            otherwise=OtherwiseSpec(message_as_opened=False), body_limit=1024,
        )
    )  # fmt: skip
    message = json.dumps({"do": "look", "more": "x" * 1024}).encode()
    act = profile.message(message, True, "socket")
    assert act is not None
    assert act.refused
    assert profile.message(message[:1] * 0 + b'{"do": "look"}', True, "socket") == Act(Action.VIEW, matcher="look")


def test_breaking_the_glass_takes_the_second_factor() -> None:
    """A rule that keeps somebody out does not let them in."""
    weak = replace(SESSION, mfa=False, break_glass=NOW + 60)
    facts = Facts(NOW, "app", b"GET", b"/", "192.0.2.1", EVE, weak)
    out = RuleSpec("out", RuleEffect.DENY, Audience.PUBLIC)
    for rules in ((), (out,), (EVERYTHING,), (EVERYTHING, out)):
        assert compile_rules(RouteRules("app", rules, break_glass=("eve",))).decide(facts).effect is not Effect.ALLOW


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", 10**400], ids=["nan", "inf", "-inf", "huge"])
def test_a_claim_that_is_no_number_is_not_compared_as_one(value: Any) -> None:
    who = replace(EVE, claims={"level": value})
    facts = Facts(NOW, "app", b"GET", b"/", "192.0.2.1", who, replace(SESSION, principal=who))
    for test in (Is("claim:level", "at_least", (3,)), Is("claim:level", "at_most", (3,))):
        for when in (test, Not(test)):
            rule = RuleSpec("r", RuleEffect.ALLOW, Audience.SIGNED_IN, when=when)
            assert compile_rules(RouteRules("app", (rule,))).decide(facts).effect is Effect.DENY


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (b"/graphql", [{"query": "{a(" + "[]" * 9000 + ")}"}] * 2),
        (b"/flows", {f"key{number}": 1 for number in range(5000)}),
    ],
)
def test_nothing_that_takes_long_to_understand_is_understood(path: bytes, document: object) -> None:
    """Nobody else has a turn meanwhile."""
    refused(document=document, path=path)


def test_a_permission_is_not_kept_beyond_a_role_that_the_app_is_told_of() -> None:
    """The assertion says which roles somebody has, also where no rule asks for them."""
    facts = Facts(NOW, "app", b"GET", b"/", "192.0.2.1", EVE, SESSION)
    for when, kept in ((Is("auth_age", "at_most", (900,)), False), (Is("group", "in", ("staff",)), True)):
        policy = compile_rules(RouteRules("app", (EVERYTHING,), roles=(RoleSpec("fresh", when=when),)))
        assert policy.roles_of(facts) == ("fresh",)
        assert policy.is_timeless(facts) is kept
