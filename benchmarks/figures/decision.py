"""CPU time of one decision of the policy, in µs, at a hundred and at a thousand rules on one route.

The rules are of the kind an estate of low-code platforms has: groups, roles, actions, objects, paths, conditions and
obligations, a tenth of them denies. 60 people ask for 300 paths in mixed order, so that most requests are like one
before; what a request costs that is like none before, and one that is, is measured beside that.
"""

import random
import time
from collections.abc import Sequence
from itertools import product

from benchmarks.bench import Bench
from benchmarks.rounds import Gate, Outcome, summarise
from zt_proxy.core.session import Level, Principal, Risk, RiskLevel, Session
from zt_proxy.core.types import Act, Action, Facts, Mode, Origin, Sensitivity
from zt_proxy.policy.compile import compile_rules
from zt_proxy.policy.engine import Policy
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
    Test,
)

GATE_100 = Gate("decision_us_100", 10.0)
GATE_1000 = Gate("decision_us_1000", 25.0)
NOW = 1_800_000_000.0
PATHS, PEOPLE, TEAMS = 300, 60, 40

_STRONG = All((Test("device_known", "is", (True,)), Test("level", "at_least", ("multi",))))
_MANAGED = Named("managed", Any((Test("network", "in", ("office",)), _STRONG)))
_WHEN: tuple[Condition | None, ...] = (
    None,
    None,
    _MANAGED,
    Test("country", "in", ("DE", "FR", "AT")),
    All((Test("risk", "at_most", ("medium",)), Hours((0, 1, 2, 3, 4), 480, 1080, "Europe/Berlin"))),
    Test("department", "in", ("ops", "sales")),
    Test("clearance", "is", (True,)),
    Not(Test("network", "in", ("hosting",))),
)


def rules(count: int) -> RouteRules:
    """So many rules on one route."""
    specs = [
        RuleSpec("everyone", RuleEffect.ALLOW, Audience.SIGNED_IN, (RequestMatch(actions=("view", "use")),)),
        RuleSpec("abroad", RuleEffect.DENY, Audience.SIGNED_IN, when=Test("country", "in", ("KP", "IR"))),
    ]
    for number in range(count - len(specs)):
        team, action = number % TEAMS, list(Action)[number % len(Action)]
        paths = (f"/apps/team{team}/app{number % 97}/**",) if number % 3 else ()
        match = RequestMatch(
            ("GET", "POST") if number % 5 == 0 else (),
            paths,
            (action.value,) if number % 2 or not paths else (),
            (f"flow:team{team}-*",) if number % 4 == 0 else (),
        )
        deny = number % 10 == 9
        specs.append(
            RuleSpec(
                f"rule-{number}",
                RuleEffect.DENY if deny else RuleEffect.ALLOW,
                Audience.MATCHING,
                (match,),
                groups=(f"team{team}", f"team{team}-leads") if number % 7 else (),
                roles=() if number % 7 else (f"releaser{team}",),
                when=Test("country", "in", ("KP",)) if deny else _WHEN[number % len(_WHEN)],
                reauth=None if deny or number % 11 else 3600.0,
                approve=Approve(groups=("leads",)) if number % 53 == 0 else None,
                masks=("salaries",) if number % 6 == 0 else (),
                limit=Limit(requests=100.0) if number % 8 == 0 else None,
                mode=Mode.ENFORCE,
            )
        )
    roles = tuple(RoleSpec(f"releaser{team}", groups=(f"team{team}-leads",)) for team in range(TEAMS))
    return RouteRules("builder", tuple(specs), roles=roles, attributes={"department": "dept"})


def groups(number: int) -> frozenset[str]:
    """Of two teams each, and some more that say nothing here."""
    return frozenset({f"team{number % TEAMS}", f"team{number * 7 % TEAMS}-leads", *(f"g{each}" for each in range(8))})


def people() -> list[Session]:
    """They sign in with their teams."""
    return [
        Session(
            f"s{number}", "app.example.com",
            Principal(
                f"user{number}", "https://idp.example.com", "corp", f"user{number}@example.com",
                groups=groups(number),
                claims={"dept": "ops", "clearance": "confidential"},
            ),
            "", (), True, NOW - 600, NOW - 600, NOW, 1800.0, NOW + 36_000, Level.MULTI, device_known=number % 3 > 0,
        )
        for number in range(PEOPLE)
    ]  # fmt: skip


def requests(tag: str, count: int) -> list[tuple[bytes, bytes, Act]]:
    """Method, path and meaning."""
    return [
        (
            b"POST" if number % 3 == 0 else b"GET",
            f"/apps/team{number % TEAMS}/app{number % 97}/{tag}{number}".encode(),
            Act(
                list(Action)[number % len(Action)], "flow", f"team{number % TEAMS}-{number % 20}", Sensitivity.INTERNAL
            ),
        )
        for number in range(count)
    ]


def facts(asked: Sequence[tuple[bytes, bytes, Act]], who: Sequence[Session]) -> list[Facts]:
    """Everybody asks for everything, in mixed order, at times and from places that differ."""
    zones = [
        Origin(f"192.0.2.{number}", frozenset({"office"}) if number % 2 else frozenset(), "DE", 64_500)
        for number in range(20)
    ]
    risks = [Risk(10, RiskLevel.LOW), Risk(45, RiskLevel.MEDIUM)]
    pairs = list(product(asked, who))
    random.Random(6).shuffle(pairs)
    return [
        Facts(
            NOW + number % 600, "builder", method, bytes(bytearray(path)), "192.0.2.1", session.principal, session, act,
            zones[number % len(zones)], risks[number % len(risks)],
        )
        for number, ((method, path, act), session) in enumerate(pairs)
    ]  # fmt: skip


def cost(policy: Policy, asked: Sequence[Facts]) -> float:
    """CPU time of one decision in µs, the loop around it included."""
    decide = policy.decide
    began = time.process_time()
    for each in asked:
        decide(each)
    return (time.process_time() - began) / len(asked) * 1e6


def _measure(bench: Bench, gate: Gate, count: int) -> Outcome:
    bench.progress.title(f"decision: CPU time of one decision of the policy at {count} rules")
    spec, who = rules(count), people()
    mix = facts(requests("", PATHS), who)
    fresh = facts(requests("new", 20 * len(who)), who[:3])
    samples: dict[str, list[float]] = {"mix": [], "hit": [], "miss": []}
    for _ in range(bench.scale.rounds):
        policy = compile_rules(spec)
        samples["mix"].append(cost(policy, mix))
        samples["hit"].append(cost(policy, mix))
        policy = compile_rules(spec)
        firsts = fresh[:: len(who[:3])]
        samples["miss"].append(cost(policy, firsts))
    for side, values in samples.items():
        bench.progress.summary(side, summarise(values), "µs")
    details = {f"{gate.key}_{side}": summarise(samples[side]).median for side in ("hit", "miss")}
    return Outcome(gate, summarise(samples["mix"]).median, details)


def measure_100(bench: Bench) -> Outcome:
    """At a hundred rules; the value is the median of the rounds."""
    return _measure(bench, GATE_100, 100)


def measure_1000(bench: Bench) -> Outcome:
    """At a thousand."""
    return _measure(bench, GATE_1000, 1000)
