"""Facts in, decision out.

Deny beats allow, nothing matched is deny, an empty rule set denies. A fact that nobody knows lets a deny apply and an
allow not. A stranger is told to sign in wherever a public rule does not let them through, so that they learn nothing of
which paths exist. The order in which rules were written never matters. An exception in here is the caller's to turn
into a denial; it never becomes an allow.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zt_proxy.core.errors import Reason
from zt_proxy.core.session import Level, Session
from zt_proxy.core.types import ChallengeKind, Decision, Effect, Facts, Obligations
from zt_proxy.policy.conditions import Role
from zt_proxy.policy.demands import holds_at_any_age, settle
from zt_proxy.policy.rules import Book, CompiledRule

if TYPE_CHECKING:
    from zt_proxy.policy.explain import Trace

_LOGIN = Decision(Effect.CHALLENGE, Reason.LOGIN_REQUIRED, challenge=ChallengeKind.LOGIN)
_MFA = Decision(Effect.CHALLENGE, Reason.MFA_REQUIRED, challenge=ChallengeKind.MFA)
_NOTHING_MATCHED = Decision(Effect.DENY, Reason.NO_RULE_MATCHED)
_NOT_UNDERSTOOD = Decision(Effect.DENY, Reason.ACTION_UNKNOWN)
_REPORT_ONLY = Decision(Effect.ALLOW, Reason.RULE_ALLOWED)

BREAK_GLASS = "break-glass"
"""Key in `Session.justified` of what the person said when they broke the glass."""


class Policy:
    """The rules of one route, compiled. Immutable but for what it remembers, and safe to share between connections."""

    __slots__ = (
        "_book",
        "_break_glass",
        "_idle",
        "_provider",
        "_report_only",
        "_roles",
        "_several",
        "headers_wanted",
        "route",
    )

    def __init__(
        self,
        route: str,
        book: Book,
        *,
        report_only: bool = False,
        provider: str = "",
        break_glass: tuple[str, ...] = (),
        several: bool = False,
        idle: Callable[[], Book],
        roles: Callable[[], Sequence[Role]] = tuple,
        headers: Iterable[str] = (),
    ) -> None:
        """`book`: the rules in force and those in report mode; `idle` gives those that are off, for traces.
        `provider`: whose people alone are known here. `roles` gives those of the configuration, for traces.
        `headers`: those that rules for integrations ask for."""
        self.route = route
        self._book = book
        self._report_only = report_only
        self._provider = provider
        self._break_glass = frozenset(break_glass)
        self._several = several
        self._idle = idle
        self._roles = roles
        self.headers_wanted: frozenset[str] = frozenset(headers).union(*(rule.headers for rule in book.rules))
        """Lower-case names of the headers that conditions of the route ask for: `Facts.headers` has to have them."""

    def decide(self, facts: Facts) -> Decision:
        """The decision, with what rules in report mode would have changed in it.

        A rule in report mode is reported as `id:deny`, `id:allow` or `id:reauth` when it alone, added to the rules in
        force, would have led to another effect or challenge, and as `id:mask`, `id:limit` or `id:notify` when only what
        comes with the permission would differ. On a route in report mode nobody who signed in (with the second factor)
        is stopped, and nothing is masked or limited: what the rules said is reported as `route:deny:no-rule-matched`,
        `route:deny:rule-denied` with `id:deny`, or `route:reauth:reauth-required` with `id:reauth`. Strangers pass
        there only where a public rule lets them, and sign in everywhere else.
        """
        facts = self._known_here(facts)
        book = self._book
        bits, broken = self._concerning(facts), self._is_broken(facts)
        decision = judge(book, bits & book.enforced, facts)
        if broken:
            decision = _broken(decision, facts)
        if not book.reporting and not self._report_only:
            return decision
        return self._with_reports(decision, bits, facts, broken)

    def allows_at_any_age(self, facts: Facts, spent: Level) -> bool:
        """Some rule lets this through if it does not count how old a proof is, as for a stream that was opened while it
        was fresh. `spent`: how strong the proof was that it was opened with, if that was good once."""
        facts = self._known_here(facts)
        session, book = facts.session, self._book
        if facts.principal is None or session is None:
            return False
        return any(
            (rule.ask is None or rule.ask(facts) is True) and holds_at_any_age(rule, session, facts, spent)
            for rule in book.each(self._concerning(facts) & book.enforced & ~book.deny)
        )

    def is_timeless(self, facts: Facts) -> bool:
        """What `decide` says of this depends on nothing but the session, the way (method, path, query, headers, client
        address, and what the profile read of them) and the rules: it stays as long as those stay."""
        facts = self._known_here(facts)
        if facts.session is not None and facts.session.break_glass and self._may_break(facts):
            return False
        if any(role.node is not None and role.node.timed for role in self._roles()):
            return False  # the app is told who has it (`roles_of`), whatever rules ask
        return not self._concerning(facts) & self._book.timed

    def about(self, facts: Facts) -> Iterator[CompiledRule]:
        """The rules in force that are about this request and may be about this person, in the order of judgement."""
        facts = self._known_here(facts)
        return self._book.each(self._concerning(facts) & self._book.enforced)

    def roles_of(self, facts: Facts) -> tuple[str, ...]:
        """Roles of the configuration that whoever asks has, by name."""
        return tuple(sorted(role.name for role in self._roles() if role.ask(facts)))

    def explain(self, facts: Facts) -> "Trace":
        """Why `decide` decides as it does, rule by rule: for the operator alone."""
        from zt_proxy.policy.explain import trace

        facts = self._known_here(facts)
        return trace(self.decide(facts), self._book, facts, idle=self._idle(), roles=self._roles())

    def _known_here(self, facts: Facts) -> Facts:
        if self._provider and facts.principal is not None and facts.principal.provider != self._provider:
            return replace(facts, principal=None, session=None)  # somebody else's people are strangers
        return facts

    def _concerning(self, facts: Facts) -> int:
        """The rules, in force and in report mode, that are about this request and may be about this person."""
        book, who = self._book, facts.principal
        bits = book.request.fitting(facts)
        if who is None or facts.session is None:
            return bits & book.public
        return bits & book.subject.candidates(who)

    def _may_break(self, facts: Facts) -> bool:
        who = facts.principal
        if who is None:
            return False
        return who.email in self._break_glass or (not self._several and who.subject in self._break_glass)

    def _is_broken(self, facts: Facts) -> bool:
        session = facts.session
        return session is not None and session.break_glass > facts.now and self._may_break(facts)

    def _with_reports(self, decision: Decision, bits: int, facts: Facts, broken: bool) -> Decision:
        book, reported = self._book, list[str]()
        for rule in book.reporting:
            if rule.bits & bits:
                other = judge(book, bits & (book.enforced | rule.bits), facts)
                word = _difference(decision, _broken(other, facts) if broken else other)
                if word:
                    reported.append(f"{rule.id}:{word}")
        if self._report_only:
            decision = _without_effect(decision, facts, reported)
        return replace(decision, reported=tuple(reported)) if reported else decision


def judge(book: Book, bits: int, facts: Facts) -> Decision:
    """What these rules of the book say; `bits` are of those about this request that may be about this person."""
    session = facts.session
    if facts.principal is None or session is None:
        return _judge_stranger(book, bits, facts)
    if not session.mfa:
        return _judge_without_mfa(book, bits, facts)
    return judge_known(book, bits, facts, session)


def judge_known(book: Book, bits: int, facts: Facts, session: Session | None) -> Decision:
    """The same of somebody who is known: a person with the second factor, or an integration, without session."""
    unsure: CompiledRule | None = None
    challenge: Decision | None = None
    least = 0
    unknown: list[CompiledRule] = []
    for rule in book.each(bits):
        verdict = True if rule.ask is None else rule.ask(facts)
        if verdict is False:
            continue
        if rule.deny:
            if verdict:
                return rule.decision
            unsure = unsure or rule
            continue
        if unsure is not None:
            break
        if verdict is None:
            unknown.append(rule)
        elif rule.plain:
            return rule.decision
        elif session is not None:
            outstanding, decision = settle(rule, session, facts)
            if not outstanding:
                return decision
            if challenge is None or outstanding < least:
                challenge, least = decision, outstanding
    if unsure is not None:
        return replace(unsure.unknown, missing=missing_of((unsure,), facts))
    if challenge is not None:
        return challenge
    nothing = _NOT_UNDERSTOOD if facts.act.refused else _NOTHING_MATCHED
    return replace(nothing, missing=missing_of(unknown, facts)) if unknown else nothing


def missing_of(rules: list[CompiledRule] | tuple[CompiledRule, ...], facts: Facts) -> tuple[str, ...]:
    """The facts for want of which it is not known whether these rules apply."""
    nodes = [node for rule in rules for node in (rule.subject, rule.when) if node is not None]
    return tuple(sorted(set().union(*(node.missing(facts) for node in nodes))))


def _judge_stranger(book: Book, bits: int, facts: Facts) -> Decision:
    """A public deny that depends on who it is keeps strangers out until they have signed in."""
    hidden = False
    for rule in book.each(bits & book.public):
        verdict = True if rule.ask is None else rule.ask(facts)
        if rule.deny:
            if verdict:
                return rule.decision
            hidden = hidden or verdict is None
        elif verdict and not hidden:
            return rule.decision
    return _LOGIN


def _judge_without_mfa(book: Book, bits: int, facts: Facts) -> Decision:
    """Who has not shown the second factor reaches what is public, and is told nothing of the rest."""
    hidden = False
    for rule in book.each(bits & (book.public | book.deny)):
        verdict = True if rule.ask is None else rule.ask(facts)
        if rule.deny:
            if verdict and rule.public:
                return rule.decision
            hidden = hidden or verdict is not False
        elif verdict:
            return _MFA if hidden else rule.decision
    return _MFA


def _broken(decision: Decision, facts: Facts) -> Decision:
    """Somebody broke the glass: nothing that rules say stops them, but they have to be who they are."""
    session = facts.session
    if session is None or not session.mfa or decision.effect is Effect.ALLOW or decision.reason is Reason.MFA_REQUIRED:
        return decision
    duties = Obligations(break_glass=True, justification=session.justified.get(BREAK_GLASS, ""))
    return Decision(Effect.ALLOW, Reason.BREAK_GLASS, decision.rule, obligations=duties)


def _word(decision: Decision) -> str:
    return decision.challenge.value if decision.challenge else decision.effect.value


def _difference(decision: Decision, other: Decision) -> str:
    """What another decision would have done instead; empty: the same."""
    if (other.effect, other.challenge) != (decision.effect, decision.challenge):
        return _word(other)
    if other.effect is not Effect.ALLOW or (had := _duties(decision)) == (duties := _duties(other)):
        return ""
    return next((name for name, value in duties.items() if value and value != had[name]), Effect.ALLOW.value)


def _duties(decision: Decision) -> dict[str, object]:
    duties = decision.obligations or Obligations()
    return {"mask": duties.masks, "limit": bool(duties.limit), "notify": duties.notify}


def _without_effect(decision: Decision, facts: Facts, reported: list[str]) -> Decision:
    """A report-only route: what the rules would have done goes into `reported`, the person goes on."""
    if decision.effect is Effect.ALLOW:
        if decision.obligations is not None and not decision.obligations.break_glass:
            reported.extend(f"{decision.rule}:{name}" for name, value in _duties(decision).items() if value)
            decision = replace(decision, obligations=None)
        return _REPORT_ONLY if decision.spend else decision
    if decision.challenge in {ChallengeKind.LOGIN, ChallengeKind.MFA}:
        return decision
    reported.append(f"route:{_word(decision)}:{decision.reason.value}")
    if decision.rule:
        reported.append(f"{decision.rule}:{_word(decision)}")
    if facts.principal is None or facts.session is None:
        return _LOGIN
    return _REPORT_ONLY if facts.session.mfa else _MFA
