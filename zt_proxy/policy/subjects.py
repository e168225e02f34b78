"""Whom a rule is about: what the index of subjects can tell by names alone, and what has to be asked."""

from zt_proxy.core.types import Facts
from zt_proxy.policy import facts as known
from zt_proxy.policy.conditions import Role, Vocabulary
from zt_proxy.policy.index import SubjectIndex
from zt_proxy.policy.nodes import Node, Verdict
from zt_proxy.policy.spec import Audience, RuleEffect, RuleSpec


def add_subject(spec: RuleSpec, bits: int, public: bool, words: Vocabulary, index: SubjectIndex) -> Node | None:
    """Enter a rule into the index; gives what is left to be asked of a person, or None.

    A rule for `matching` people that lists nobody allows nobody and denies everybody.
    """
    if public or (spec.audience is not Audience.MATCHING and not spec.narrowed):
        index.add_everyone(bits)
        return None
    if not spec.narrowed:
        if spec.effect is RuleEffect.DENY:
            index.add_everyone(bits)
        return None
    roles = [words.role(name) for name in spec.roles]
    listing = bool(spec.users or spec.emails or spec.people or spec.groups or spec.roles)
    mails = {*spec.users, *spec.emails, *(user for role in roles for user in role.users)}
    unknown_counts = spec.effect is RuleEffect.DENY and any("@" in mail for mail in mails)
    if not listing or unknown_counts or any(role.node is not None for role in roles):
        index.add_everyone(bits)
    else:
        index.add(
            bits,
            {*spec.users, *(user for role in roles for user in role.subjects)},
            mails,
            spec.people,
            {*spec.groups, *(group for role in roles for group in role.groups)},
            spec.roles,
        )
        if not spec.claims and not spec.providers:
            return None
    return _node(spec, roles, listing, words)


def _node(spec: RuleSpec, roles: list[Role], listing: bool, words: Vocabulary) -> Node:
    """Providers, one of those listed, and every claim: False as soon as one is, None where one is not known."""
    named = Role("", (), spec.groups, None)
    users, emails = frozenset(spec.users), frozenset((*spec.users, *spec.emails))
    by_mail = any("@" in mail for mail in emails)
    people, providers = frozenset(spec.people), frozenset(spec.providers)
    claims = tuple((name, known.claim(name), frozenset(values)) for name, values in spec.claims.items())
    nodes = [role.node for role in roles if role.node is not None]

    def listed(facts: Facts) -> Verdict:
        who = facts.principal
        if who is None:
            return None
        if who.subject in users or who.email in emails or (who.provider, who.subject) in people:
            return True
        verdict: Verdict = None if by_mail and who.email is None else False
        for role in (named, *roles):
            said = role.ask(facts)
            if said is True:
                return True
            if said is None:
                verdict = None
        return verdict

    def ask(facts: Facts) -> Verdict:
        who = facts.principal
        if who is None:
            return None
        if providers and who.provider not in providers:
            return False
        verdict = listed(facts) if listing else True
        if verdict is False:
            return False
        for _, texts, wanted in claims:
            held = texts(facts)
            if held is None:
                verdict = None
            elif wanted.isdisjoint(held):
                return False
        return verdict

    def lacks(facts: Facts) -> set[str]:
        found = {f"claim:{name}" for name, texts, _ in claims if texts(facts) is None}
        if listing and listed(facts) is None:
            if facts.principal is None or (by_mail and facts.principal.email is None):
                found.add("user")
            for role in roles:
                found |= role.missing(facts)
        return found

    return Node(
        describe(spec),
        ask,
        lacks=lacks,
        timed=any(node.timed for node in nodes),
        headers=frozenset().union(*(node.headers for node in nodes)),
    )


def describe(spec: RuleSpec) -> str:
    """Whom the rule is for, for a trace."""
    if not spec.narrowed and not spec.integrations:
        return "nobody is listed" if spec.audience is Audience.MATCHING else spec.audience.value
    words = [
        f"{name} {', '.join(values)}"
        for name, values in (
            ("users", (*spec.users, *spec.emails, *(f"{subject} of {provider}" for provider, subject in spec.people))),
            ("groups", spec.groups),
            ("roles", spec.roles),
            ("integrations", spec.integrations),
        )
        if values
    ]
    text = " or ".join(words) or spec.audience.value
    narrower = [f"claim {name} {', '.join(values)}" for name, values in spec.claims.items()]
    if spec.providers:
        narrower.append(f"provider {', '.join(spec.providers)}")
    return "; ".join([text, *narrower])
