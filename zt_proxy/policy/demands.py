"""What a rule still asks of a person: proofs, a reason, somebody's approval (FIELD 17).

They are asked for in this order: a strong proof, a fresh one, why, and last another person. Of several rules that would
let somebody through, the one with the least burdensome demands is taken, whatever order they were written in.
"""

from msgspec.structs import replace

from zt_proxy.core.clock import SKEW
from zt_proxy.core.session import Proof, Session, request_of
from zt_proxy.core.types import Decision, Facts, Obligations
from zt_proxy.policy.rules import CompiledRule

ONCE = 120.0
"""Seconds for which a proof that is good for one request waits for it."""

JUSTIFY, REAUTH, MFA, APPROVE = 1, 2, 4, 8
"""What is outstanding, as bits: their sum orders rules by their most burdensome demand first."""


def settle(rule: CompiledRule, session: Session, facts: Facts) -> tuple[int, Decision]:
    """What is outstanding (0: nothing), and what the rule decides by that."""
    outstanding, first = 0, None
    decision = rule.decision
    if rule.proves:
        proven = _proven(rule, session, facts)
        if proven.challenge is not None:
            outstanding, first = MFA if proven is rule.too_weak else REAUTH, proven
        else:
            decision = proven
    said, approver = "", ""
    if rule.justify:
        said = session.justified.get(rule.unlock, "")
        if not said:
            outstanding, first = outstanding | JUSTIFY, first or rule.ask_why
    if rule.approve:
        approver = approved_by(rule, session, facts.now)
        if not approver:
            outstanding, first = outstanding | APPROVE, first or rule.ask_others
    if first is not None:
        return outstanding, first
    if rule.justify or rule.approve:
        duties = replace(decision.obligations or Obligations(), justification=said, approved_by=approver)
        decision = replace(decision, obligations=duties)
    return 0, decision


def approved_by(rule: CompiledRule, session: Session, now: float) -> str:
    """Who agreed to what the rule lets through, and still does; empty: nobody. Nobody agrees with themselves."""
    approval = session.approved.get(rule.unlock)
    if approval is None or approval.until <= now or approval.scope not in ("", rule.scope):
        return ""
    who = session.principal
    return "" if approval.by in {who.subject, who.email} else approval.by


def holds_at_any_age(rule: CompiledRule, session: Session, facts: Facts, spent: int) -> bool:
    """Nothing is outstanding if one does not count how old a proof is. `spent`: its level, if it was good once."""
    own = session.proofs.get(rule.unlock)
    proved = spent if rule.once else own.level if own is not None else 0
    if rule.level > max(proved, session.level):
        return False
    if rule.justify and not session.justified.get(rule.unlock):
        return False
    return not rule.approve or bool(approved_by(rule, session, facts.now))


def _proven(rule: CompiledRule, session: Session, facts: Facts) -> Decision:
    """By what was proved: at the sign-in, or for this rule since."""
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
