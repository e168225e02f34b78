"""Facts in, decision out.

Deny beats allow, nothing matched is deny, an empty rule set denies. A stranger is told to sign in wherever a public
rule does not let them through, so that they learn nothing of which paths exist. An exception in here is the caller's
to turn into a denial; it never becomes an allow.
"""

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from zt_proxy.core.clock import SKEW
from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Level, Principal, Proof, Session, request_of
from zt_proxy.core.types import ChallengeKind, Decision, Effect, Facts

_LOGIN = Decision(Effect.CHALLENGE, Reason.LOGIN_REQUIRED, challenge=ChallengeKind.LOGIN)
_MFA = Decision(Effect.CHALLENGE, Reason.MFA_REQUIRED, challenge=ChallengeKind.MFA)
_NOTHING_MATCHED = Decision(Effect.DENY, Reason.NO_RULE_MATCHED)
_REPORT_ONLY = Decision(Effect.ALLOW, Reason.RULE_ALLOWED)


ONCE = 120.0
"""Seconds for which a proof that is good for one request waits for it."""
REMEMBERED = 4096
"""Requests (method and path) per route whose fitting rules are remembered."""
REMEMBERED_PATH = 256
"""Longer paths are matched anew each time, so that nobody can fill memory with them."""


class CompiledRule(NamedTuple):
    """One rule, ready: `compile.compile_rules` makes it."""

    id: str
    deny: bool
    public: bool
    """It speaks of everybody, signed in or not."""
    fits: Callable[[bytes, bytes], bool]
    """Method and canonical path."""
    subject: Callable[[Principal], bool]
    reauth: float | None
    """Seconds that a proof may be old; one that is good once never older than `ONCE`."""
    once: bool
    level: Level
    unlock: str
    """Key of this rule's step-up in `Session.proofs`."""
    decision: Decision
    """What it decides when it applies and the proof is good enough."""
    challenge: Decision
    """What it decides when the proof is too old."""
    too_weak: Decision
    """What it decides when there is no proof of its level."""
    plain: bool
    """It asks for no proof beyond the sign-in's own."""


class Policy:
    """The rules of one route, compiled. Immutable, and safe to share between connections."""

    __slots__ = ("_fitting", "_provider", "_report_only", "_reporting", "_rules", "route")

    def __init__(
        self,
        route: str,
        rules: tuple[CompiledRule, ...],
        reporting: tuple[tuple[CompiledRule, tuple[CompiledRule, ...]], ...] = (),
        *,
        report_only: bool = False,
        provider: str = "",
    ) -> None:
        """`rules` are those in force, denies first; `reporting` has each rule in report mode with those plus itself.
        `provider`: whose people alone are known here."""
        self.route = route
        self._rules = rules
        self._reporting = reporting
        self._report_only = report_only
        self._provider = provider
        self._fitting: dict[tuple[bytes, bytes], tuple[CompiledRule, ...]] = {}

    def decide(self, facts: Facts) -> Decision:
        """The decision, with what rules in report mode would have changed in it.

        A rule in report mode is reported as `id:deny`, `id:allow` or `id:reauth` when it alone, added to the rules in
        force, would have led to another effect or challenge. On a route in report mode nobody who signed in (with the
        second factor) is stopped: what the rules said is reported as `route:deny:no-rule-matched`,
        `route:deny:rule-denied` with `id:deny`, or `route:reauth:reauth-required` with `id:reauth`. Strangers pass
        there only where a public rule lets them, and sign in everywhere else.
        """
        if self._provider and facts.principal is not None and facts.principal.provider != self._provider:
            facts = replace(facts, principal=None, session=None)  # somebody else's people are strangers
        request = (facts.method, facts.path)
        rules = self._fitting.get(request)
        if rules is None:
            rules = self._fit(request)
        decision = _judge(rules, facts)
        if not self._reporting and not self._report_only:
            return decision
        return self._with_reports(decision, facts)

    def allows_at_any_age(self, facts: Facts, spent: Level) -> bool:
        """Some rule lets this through if it does not count how old a proof is, as for a stream that was opened while it
        was fresh. `spent`: how strong the proof was that it was opened with, if that was good once."""
        principal, session = facts.principal, facts.session
        if principal is None or session is None:
            return False
        request = (facts.method, facts.path)
        for rule in self._fitting.get(request) or self._fit(request):
            if not rule.deny and rule.subject(principal):
                own = session.proofs.get(rule.unlock)
                proved = spent if rule.once else own.level if own is not None else Level.SINGLE
                if rule.level <= max(proved, session.level):
                    return True
        return False

    def is_timeless(self, method: bytes, path: bytes) -> bool:
        """What `decide` says of this request can change with the session and the rules alone, not with the clock."""
        if self._reporting or self._report_only:
            return False
        request = (method, path)
        rules = self._fitting.get(request) or self._fit(request)
        return all(rule.reauth is None and not rule.once for rule in rules)

    def _fit(self, request: tuple[bytes, bytes]) -> tuple[CompiledRule, ...]:
        """The rules in force that are about this request, remembered: which they are depends on nothing else."""
        rules = tuple(rule for rule in self._rules if rule.fits(*request))
        if len(request[1]) <= REMEMBERED_PATH:
            if len(self._fitting) >= REMEMBERED:
                self._fitting.clear()
            self._fitting[request] = rules
        return rules

    def _with_reports(self, decision: Decision, facts: Facts) -> Decision:
        reported: list[str] = []
        for rule, with_it in self._reporting:
            if rule.fits(facts.method, facts.path):
                other = _judge(tuple(one for one in with_it if one.fits(facts.method, facts.path)), facts)
                if (other.effect, other.challenge) != (decision.effect, decision.challenge):
                    reported.append(f"{rule.id}:{_word(other)}")
        if self._report_only:
            decision = _without_effect(decision, facts, reported)
        return replace(decision, reported=tuple(reported)) if reported else decision


def _judge(rules: tuple[CompiledRule, ...], facts: Facts) -> Decision:
    """`rules` are those about this request, denies first."""
    principal, session = facts.principal, facts.session
    if principal is None or session is None:
        return _judge_stranger(rules)
    if not session.mfa:
        return _judge_without_mfa(rules, principal)
    challenge: Decision | None = None
    for rule in rules:
        if not rule.subject(principal):
            continue
        decision = rule.decision if rule.plain else _proven(session, rule, facts)
        if decision.effect is not Effect.CHALLENGE:
            return decision
        if challenge is None:
            challenge = decision
    return challenge or _NOTHING_MATCHED


def _judge_stranger(rules: tuple[CompiledRule, ...]) -> Decision:
    for rule in rules:
        if rule.public:
            return rule.decision
    return _LOGIN


def _judge_without_mfa(rules: tuple[CompiledRule, ...], principal: Principal) -> Decision:
    """Who has not shown the second factor reaches what is public, and is told nothing of the rest."""
    denied = False
    for rule in rules:
        if rule.public or rule.deny:
            if rule.public:
                return _MFA if denied and not rule.deny else rule.decision
            denied = denied or rule.subject(principal)
    return _MFA


def _proven(session: Session, rule: CompiledRule, facts: Facts) -> Decision:
    """What the rule decides by what was proved: at the sign-in, or for this rule since (FIELD 17)."""
    if rule.once:
        key = f"{rule.unlock}\x1f{request_of(facts.method, facts.path)}"
        proof = session.proofs.get(key)
        age = ONCE if rule.reauth is None else min(ONCE, rule.reauth)
        if proof is not None and proof.level >= rule.level and _fresh(proof, age, facts.now):
            return replace(rule.decision, spend=key, level=rule.level, once=True)
        return rule.challenge
    strong = False
    for proof in (session.proved(), session.proofs.get(rule.unlock)):
        if proof is not None and proof.level >= rule.level:
            if rule.reauth is None or _fresh(proof, rule.reauth, facts.now):
                return rule.decision
            strong = True
    return rule.challenge if strong else rule.too_weak


def _fresh(proof: Proof, age: float, now: float) -> bool:
    """A proof from the future, beyond what clocks may differ, proves nothing."""
    return -SKEW <= now - proof.at <= age


def _word(decision: Decision) -> str:
    return decision.challenge.value if decision.challenge else decision.effect.value


def _without_effect(decision: Decision, facts: Facts, reported: list[str]) -> Decision:
    """A report-only route: what the rules would have done goes into `reported`, the person goes on."""
    if decision.spend:
        return _REPORT_ONLY
    if decision.effect is Effect.ALLOW or decision.challenge in {ChallengeKind.LOGIN, ChallengeKind.MFA}:
        return decision
    reported.append(f"route:{_word(decision)}:{decision.reason.value}")
    if decision.rule:
        reported.append(f"{decision.rule}:{_word(decision)}")
    if facts.principal is None or facts.session is None:
        return _LOGIN
    return _REPORT_ONLY if facts.session.mfa else _MFA
