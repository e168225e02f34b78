"""One rule, ready to be judged, and the book of all rules of a route."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from zt_proxy.core.session import Level
from zt_proxy.core.types import Decision, Mode
from zt_proxy.policy.index import RequestIndex, SubjectIndex
from zt_proxy.policy.nodes import Ask, Node
from zt_proxy.policy.spec import RuleSpec


class CompiledRule(NamedTuple):
    """One rule, ready: `compile` makes it."""

    spec: RuleSpec
    id: str
    deny: bool
    public: bool
    """It speaks of everybody, signed in or not."""
    bits: int
    """Its clauses in the book's index."""
    others: int
    """All bits but those."""
    subject: Node | None
    """Whether it is about this person; None: whoever the index of subjects gives for it."""
    when: Node | None
    ask: Ask | None
    """Subject and `when` together; None: nothing is left to be asked."""
    timed: bool
    """What it says may change while session and way stay the same."""
    plain: bool
    """It asks for nothing beyond the sign-in's own proof."""
    proves: bool
    """It asks for a proof: fresh, strong, or of its own."""
    reauth: float | None
    """Seconds that a proof may be old; one that is good once never older than `demands.ONCE`."""
    once: bool
    level: Level
    justify: bool
    approve: bool
    headers: frozenset[str]
    """Lower-case names of the headers that its conditions ask for."""
    unlock: str
    """Key of this rule's step-up in `Session.proofs`, `justified` and `approved`."""
    scope: str
    """See `Decision.scope`; empty: the rule needs nobody's approval."""
    decision: Decision
    """What it decides when it applies and nothing is outstanding."""
    unknown: Decision
    """What a deny decides when a fact is missing; which is added."""
    challenge: Decision
    """What it decides when the proof is too old."""
    too_weak: Decision
    """What it decides when there is no proof of its level."""
    ask_why: Decision
    ask_others: Decision


class Book:
    """Rules with their indexes. Denies come first, by id; then allows, those with fewest obligations first, by id."""

    __slots__ = (
        "_by_bit",
        "deny",
        "enforced",
        "public",
        "reading",
        "reporting",
        "request",
        "rules",
        "subject",
        "timed",
    )

    def __init__(self, rules: Sequence[CompiledRule], request: RequestIndex, subject: SubjectIndex) -> None:
        self.rules = tuple(rules)
        self.request = request
        self.subject = subject
        self._by_bit = [rule for rule in rules for _ in range(rule.bits.bit_count())]
        self.enforced = _bits(rule for rule in rules if rule.spec.mode is Mode.ENFORCE)
        self.public = _bits(rule for rule in rules if rule.public)
        self.deny = _bits(rule for rule in rules if rule.deny)
        self.timed = _bits(rule for rule in rules if rule.timed)
        self.reading = _bits(rule for rule in rules if rule.headers)
        self.reporting = tuple(
            sorted((rule for rule in rules if rule.spec.mode is Mode.REPORT), key=lambda rule: rule.id)
        )

    def each(self, bits: int) -> Iterator[CompiledRule]:
        """The rules to which the bits belong, in order."""
        by_bit = self._by_bit
        while bits:
            rule = by_bit[(bits & -bits).bit_length() - 1]
            bits &= rule.others
            yield rule


def _bits(rules: Iterator[CompiledRule]) -> int:
    found = 0
    for rule in rules:
        found |= rule.bits
    return found
