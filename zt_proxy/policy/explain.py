"""Why a decision is what it is: each rule, criterion by criterion, by the very functions that decide.

For the operator alone: what is in a trace tells which rules there are.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from zt_proxy.core.session import Session
from zt_proxy.core.types import Decision, Effect, Facts, Mode
from zt_proxy.policy.conditions import Role
from zt_proxy.policy.demands import settle
from zt_proxy.policy.engine import missing_of
from zt_proxy.policy.nodes import Node, Verdict
from zt_proxy.policy.rules import Book, CompiledRule
from zt_proxy.policy.spec import RequestMatch, RuleEffect
from zt_proxy.policy.subjects import describe

Said = Literal["hit", "miss", "unknown"]


class Criterion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that a rule asks for, and whether the request has it."""

    kind: str
    """`method`, `path`, `action`, `object`, `subject`, `condition`, or `requirement`."""
    wanted: str
    said: Said
    actual: str = ""
    """What the request has; `not known` if nobody knows."""
    depth: int = 0
    """Of a condition inside others: how deep."""


class RuleTrace(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule about one request."""

    id: str
    effect: RuleEffect
    mode: Mode
    said: Said
    """`hit`: it applies; of an allow its requirements may still be outstanding."""
    criteria: tuple[Criterion, ...]
    unmet: str = ""
    """The first criterion that is not a hit; empty: none."""
    missing: tuple[str, ...] = ()
    """Facts for want of which it is not known whether it applies."""
    decides: bool = False
    """The decision names this rule."""
    inherited: str = ""


class Trace(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision with its reasons; `msgspec.json.encode` writes it."""

    decision: Decision
    rules: tuple[RuleTrace, ...]
    """In the order in which they are judged, those that are off last."""
    roles: tuple[str, ...] = ()
    """Of whoever asks: those of the provider, and those of the configuration that they are known to have."""


def trace(
    decision: Decision, book: Book, facts: Facts, *, idle: Book | None = None, roles: Sequence[Role] = ()
) -> Trace:
    """`book`: the rules in force and in report mode; `idle`: those that are off."""
    rules = [_trace_rule(rule, book, facts, decision) for rule in book.rules]
    if idle is not None:
        rules += [_trace_rule(rule, idle, facts, None) for rule in idle.rules]
    names = {role.name for role in roles if role.ask(facts)}
    if facts.principal is not None:
        names |= facts.principal.roles
    return Trace(decision, tuple(rules), tuple(sorted(names)))


def _trace_rule(rule: CompiledRule, book: Book, facts: Facts, decision: Decision | None) -> RuleTrace:
    asked = [*_request(rule, book, facts), _subject(rule, book, facts)]
    if rule.when is not None:
        asked += _conditions(rule.when, facts, 0)
    applies = _worst([each.said for each in asked if each.depth == 0])
    wanted = list(asked)
    session = facts.session
    if session is not None and applies == "hit" and not rule.public and not session.mfa:
        wanted.append(Criterion("requirement", "a second factor at the sign-in", "miss", "mfa-required"))
    elif session is not None and applies == "hit" and not rule.plain:
        wanted.append(_requirement(rule, session, facts))
    unmet = next((each for each in wanted if each.depth == 0 and each.said != "hit"), None)
    return RuleTrace(
        id=rule.id,
        effect=RuleEffect.DENY if rule.deny else RuleEffect.ALLOW,
        mode=rule.spec.mode,
        said=applies,
        criteria=tuple(wanted),
        unmet=_name(unmet, rule, facts),
        missing=missing_of((rule,), facts) if applies == "unknown" else (),
        decides=decision is not None and decision.rule == rule.id,
        inherited=rule.spec.inherited,
    )


def _name(unmet: Criterion | None, rule: CompiledRule, facts: Facts) -> str:
    if unmet is None:
        return ""
    if unmet.kind == "condition" and rule.when is not None:
        return f"condition: {_first_unmet(rule.when, facts)}"
    return f"{unmet.kind}: {unmet.wanted}"


def _request(rule: CompiledRule, book: Book, facts: Facts) -> list[Criterion]:
    """Of several matches the first that fits, else the one that fits best."""
    index, act = book.request, facts.act
    method, path = facts.method.decode("latin-1"), facts.path.decode("latin-1")
    action = act.action.value if act.action is not None else "not known"
    named = f"{act.kind}:{act.object}" if act.kind else "none"
    methods, paths, actions, objects = index.methods(facts), index.paths(facts), index.actions(act), index.objects(act)
    best: list[Criterion] = [Criterion("path", "nothing: the rule is about no request", "miss", path)]
    most = -1
    bit = rule.bits & -rule.bits
    for match in rule.spec.matches:
        criteria = [
            Criterion(kind, ", ".join(wanted) or "any", "hit" if bit & fitting else "miss", actual)
            for kind, wanted, fitting, actual in (
                ("method", match.methods, methods, method),
                ("path", match.paths, paths, path),
                ("action", match.actions, actions, action),
                ("object", match.objects, objects, named),
            )
            if wanted or match == RequestMatch()
        ]
        if act.refused and not bit & index.unnamed:
            criteria.append(Criterion("action", "known to the profile, or named by its path", "miss", "not known"))
        hits = sum(each.said == "hit" for each in criteria) if bit & ~index.fitting(facts) else 1 << 30
        if hits > most:
            best, most = criteria, hits
        bit <<= 1
    return best


def _subject(rule: CompiledRule, book: Book, facts: Facts) -> Criterion:
    who, wanted = facts.principal, describe(rule.spec)
    actual = "a stranger" if who is None else f"{who.subject} of {who.provider}"
    said: Verdict = True
    if who is not None and who.integration:
        pass  # an integration's book has no other rules
    elif who is None or facts.session is None:
        said = rule.public
    elif not book.subject.candidates(who) & rule.bits:
        said = False
    elif rule.subject is not None:
        said = rule.subject.ask(facts)
    return Criterion("subject", wanted, _said(said), actual)


def _conditions(node: Node, facts: Facts, depth: int) -> list[Criterion]:
    criteria = [Criterion("condition", node.label, _said(node.ask(facts)), node.actual(facts), depth)]
    for child in node.children:
        criteria += _conditions(child, facts, depth + 1)
    return criteria


def _requirement(rule: CompiledRule, session: Session, facts: Facts) -> Criterion:
    _, decision = settle(rule, session, facts)
    spec = rule.spec
    wanted = [
        word
        for word, needed in (
            (f"a {spec.level.word} proof", spec.level > 1),
            (f"a proof of the last {spec.reauth or 0:g} s", spec.reauth is not None),
            ("a proof for this request alone", spec.once),
            ("a reason", spec.justify),
            ("somebody's approval", spec.approve is not None),
        )
        if needed
    ]
    met = decision.effect is Effect.ALLOW
    return Criterion("requirement", ", ".join(wanted), "hit" if met else "miss", "" if met else decision.reason.value)


def _first_unmet(node: Node, facts: Facts) -> str:
    """Of conditions that all have to hold, the one that does not."""
    while node.kind in {"all", "named"}:
        node = next(child for child in node.children if child.ask(facts) is not True)
    return node.label


def _worst(said: list[Said]) -> Said:
    return "miss" if "miss" in said else "unknown" if "unknown" in said else "hit"


def _said(verdict: Verdict) -> Said:
    return "unknown" if verdict is None else "hit" if verdict else "miss"
