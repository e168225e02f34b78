"""Rules to closures and indexes, once at load: what a request costs is decided here (DESIGN: everything compiled)."""

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from zt_proxy.core.errors import ConfigurationError, Reason
from zt_proxy.core.session import unlock_key
from zt_proxy.core.types import ChallengeKind, Decision, Effect, Mode, Obligations
from zt_proxy.policy.conditions import Vocabulary, compile_condition
from zt_proxy.policy.engine import Policy
from zt_proxy.policy.index import RequestIndex, SubjectIndex
from zt_proxy.policy.machines import MachineRules, headers_of
from zt_proxy.policy.nodes import Ask, Node, all_of
from zt_proxy.policy.rules import Book, CompiledRule
from zt_proxy.policy.spec import All, Audience, Condition, Named, Not, RouteRules, RuleEffect, RuleSpec, Test
from zt_proxy.policy.subjects import add_subject

_NEVER = Decision(Effect.DENY, Reason.INTERNAL_ERROR)
"""In place of what a rule never decides: a thousand routes keep no decisions that nobody makes."""


def compile_rules(rules: RouteRules) -> Policy:
    """The policy of one route for people. Raises ConfigurationError for a rule that cannot be read.

    A route in mode `off` has no rules, and so denies.
    """
    people = [spec for spec in rules.rules if not _for_machines_alone(spec)]
    off = rules.mode is Mode.OFF
    words = Vocabulary(rules)
    live = [spec for spec in people if not off and spec.mode is not Mode.OFF]
    idle = [replace(spec, mode=Mode.OFF) for spec in people if off or spec.mode is Mode.OFF]
    return Policy(
        rules.route,
        compile_book(live, rules, words),
        report_only=rules.mode is Mode.REPORT,
        provider=rules.provider,
        break_glass=rules.break_glass,
        several=rules.several,
        idle=lambda: compile_book(idle, rules, words),
        roles=words.roles,
        headers=set().union(*(headers_of(spec.when) for spec in rules.rules if spec.when is not None)),
    )


def compile_machines(rules: RouteRules) -> MachineRules:
    """The policy of one route for integrations; an integration's rules are read when it first asks."""
    return MachineRules(rules, lambda specs: compile_book(specs, rules, Vocabulary(rules), machines=True))


def compile_book(specs: Iterable[RuleSpec], rules: RouteRules, words: Vocabulary, *, machines: bool = False) -> Book:
    """Rules in the order in which they are judged, which does not depend on the order in which they were written."""
    ordered = sorted(specs, key=_place)
    request = RequestIndex(ordered, case_insensitive=rules.case_insensitive, remember=not machines)
    subject = SubjectIndex()
    compiled = [
        _compile_rule(spec, bits, rules, words, None if machines else subject)
        for spec, bits in zip(ordered, request.bits, strict=True)
    ]
    return Book(compiled, request, subject)


def _for_machines_alone(spec: RuleSpec) -> bool:
    """The rule names integrations and no people: without it a deny for one integration would be one for everybody."""
    return bool(spec.integrations) and not spec.narrowed


def _place(spec: RuleSpec) -> tuple[bool, int, str]:
    """Denies first; of allows those that bring least with them; then by id."""
    deny = spec.effect is RuleEffect.DENY
    duties = len(spec.masks) + (spec.limit is not None) + spec.notify + spec.once
    return not deny, 0 if deny else duties, spec.id


def _compile_rule(
    spec: RuleSpec, bits: int, rules: RouteRules, words: Vocabulary, index: SubjectIndex | None
) -> CompiledRule:
    """`index`: where people are found; None for integrations, which are found by their names."""
    deny = spec.effect is RuleEffect.DENY
    public = _is_public(spec)
    try:
        subject = add_subject(spec, bits, public, words, index) if index is not None else None
        when = None if spec.when is None else compile_condition(spec.when, words)
    except ConfigurationError as error:
        raise ConfigurationError(f"rule {spec.id!r}: {error.detail}") from error
    nodes: list[Node] = [node for node in (subject, when) if node is not None]
    asks: list[Ask] = [node.ask for node in nodes]
    proves = not deny and spec.proves
    waits = not deny and (spec.once or spec.reauth is not None or spec.approve is not None or spec.limit is not None)
    unlock = unlock_key(rules.route, spec.id)
    scope = "" if deny or spec.approve is None else _scope(spec, rules)
    return CompiledRule(
        spec=spec,
        id=spec.id,
        deny=deny,
        public=public,
        bits=bits,
        others=~bits,
        subject=subject,
        when=when,
        ask=all_of(asks) if asks else None,
        timed=waits or any(node.timed for node in nodes),
        plain=deny or not (proves or spec.asks_a_person),
        proves=proves,
        reauth=None if deny else spec.reauth,
        once=not deny and spec.once,
        level=spec.level,
        justify=not deny and spec.justify,
        approve=not deny and spec.approve is not None,
        headers=frozenset().union(*(node.headers for node in nodes)),
        unlock=unlock,
        scope=scope,
        decision=_outright(spec, deny, public, unlock),
        unknown=Decision(Effect.DENY, Reason.FACT_MISSING, spec.id) if asks else _NEVER,
        challenge=_step_up(spec, Reason.REAUTH_REQUIRED) if proves else _NEVER,
        too_weak=_step_up(spec, Reason.MFA_REQUIRED) if proves else _NEVER,
        ask_why=_ask(spec, Reason.JUSTIFICATION_REQUIRED, ChallengeKind.JUSTIFY) if spec.justify else _NEVER,
        ask_others=_ask(spec, Reason.APPROVAL_REQUIRED, ChallengeKind.APPROVE, scope) if spec.approve else _NEVER,
    )


def _is_public(spec: RuleSpec) -> bool:
    """Lists and proofs have no meaning for strangers: an allow with them is not public, a deny still is."""
    if spec.audience is not Audience.PUBLIC:
        return False
    return spec.effect is RuleEffect.DENY or not (spec.narrowed or spec.asks_a_person)


def _step_up(spec: RuleSpec, reason: Reason) -> Decision:
    return Decision(
        Effect.CHALLENGE,
        reason,
        spec.id,
        ChallengeKind.REAUTH,
        max_age=spec.reauth or 0.0,
        level=spec.level,
        once=spec.once,
    )


def _ask(spec: RuleSpec, reason: Reason, kind: ChallengeKind, scope: str = "") -> Decision:
    return Decision(Effect.CHALLENGE, reason, spec.id, kind, scope=scope)


def _scope(spec: RuleSpec, rules: RouteRules) -> str:
    """Another one for a rule that says anything else of whom or what it lets through: an approval of yesterday's rule
    is none of today's. What it says of watching and of its trial changes nothing about that."""
    said = replace(spec, mode=Mode.ENFORCE, notify=False, inherited="")
    return hashlib.sha256(msgspec.json.encode((said, rules.case_insensitive), order="deterministic")).hexdigest()[:16]


def _outright(spec: RuleSpec, deny: bool, public: bool, unlock: str) -> Decision:
    if deny:
        reason = Reason.RISK_TOO_HIGH if spec.when is not None and _needs_risk(spec.when) else Reason.RULE_DENIED
        return Decision(Effect.DENY, reason, spec.id)
    duties = Obligations(spec.masks, notify=spec.notify, limit=unlock if spec.limit is not None else "")
    return Decision(
        Effect.ALLOW,
        Reason.PUBLIC if public else Reason.RULE_ALLOWED,
        spec.id,
        obligations=None if duties == Obligations() else duties,
    )


def _needs_risk(condition: Condition) -> bool:
    """It can only be met by a risk, whatever else it asks for."""
    match condition:
        case Test():
            return condition.fact == "risk"
        case Named():
            return _needs_risk(condition.item)
        case Not():
            return isinstance(condition.item, Test) and condition.item.fact == "risk"
        case All():
            return any(_needs_risk(item) for item in condition.items)
        case _:
            return False
