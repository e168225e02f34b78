"""Rules to closures, once at load: what a request costs is decided here (DESIGN: everything compiled at load)."""

import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote_to_bytes

from zt_proxy.core.errors import Reason
from zt_proxy.core.session import ClaimValue, Level, Principal, unlock_key
from zt_proxy.core.types import ChallengeKind, Decision, Effect, Mode
from zt_proxy.policy.engine import CompiledRule, Policy
from zt_proxy.policy.machines import MachineRules
from zt_proxy.policy.spec import Audience, RouteRules, RuleEffect, RuleSpec
from zt_proxy.policy.templates import compile_paths

RequestTest = Callable[[bytes, bytes], bool]
SubjectTest = Callable[[Principal], bool]

_DISGUISE = re.compile(rb"[%;]|//")
_PARAMETERS = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"/{2,}")


def compile_rules(rules: RouteRules) -> Policy:
    """The policy of one route for people. Raises ConfigurationError for a path template that cannot be read.

    A route in mode `off` has no rules, and so denies.
    """
    live = [
        rule
        for rule in rules.rules
        if rule.mode is not Mode.OFF and rules.mode is not Mode.OFF and not _for_machines_alone(rule)
    ]
    compiled = [(spec, _compile_rule(spec, rules)) for spec in live]
    enforced = _deny_first(rule for spec, rule in compiled if spec.mode is Mode.ENFORCE)
    reporting = tuple(
        (
            rule,
            _deny_first(other for other_spec, other in compiled if other is rule or other_spec.mode is Mode.ENFORCE),
        )
        for spec, rule in compiled
        if spec.mode is Mode.REPORT
    )
    return Policy(rules.route, enforced, reporting, report_only=rules.mode is Mode.REPORT, provider=rules.provider)


def compile_machines(rules: RouteRules) -> MachineRules:
    """The policy of one route for integrations; templates are read when an integration first asks."""
    return MachineRules(rules, lambda spec: _request_test(spec, spec.effect is RuleEffect.DENY, rules.case_insensitive))


def _for_machines_alone(spec: RuleSpec) -> bool:
    """The rule names integrations and no people: without it a deny for one integration would be one for everybody."""
    return bool(spec.integrations) and not spec.narrowed


def _deny_first(rules: Iterable[CompiledRule]) -> tuple[CompiledRule, ...]:
    return tuple(sorted(rules, key=lambda rule: not rule.deny))


def _compile_rule(spec: RuleSpec, rules: RouteRules) -> CompiledRule:
    deny = spec.effect is RuleEffect.DENY
    narrowed = spec.narrowed
    # Lists and a proof of identity have no meaning for strangers: an allow with them is not public, a deny still is.
    public = spec.audience is Audience.PUBLIC and (deny or (not narrowed and not _asks(spec)))
    if public or (spec.audience is not Audience.MATCHING and not narrowed):
        subject: SubjectTest = _everyone
    else:
        subject = _subject_test(spec, deny)
    return CompiledRule(
        id=spec.id,
        deny=deny,
        public=public,
        fits=_request_test(spec, deny, rules.case_insensitive),
        subject=subject,
        reauth=None if deny else spec.reauth,
        once=not deny and spec.once,
        level=spec.level,
        unlock=unlock_key(rules.route, spec.id),
        decision=_outright(spec.id, deny, public),
        challenge=_step_up(spec, Reason.REAUTH_REQUIRED),
        too_weak=_step_up(spec, Reason.MFA_REQUIRED),
        plain=deny or not _asks(spec),
    )


def _asks(spec: RuleSpec) -> bool:
    """The rule wants a proof of who the person is."""
    return spec.once or spec.reauth is not None or spec.level > Level.SINGLE


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


def _outright(rule: str, deny: bool, public: bool) -> Decision:
    if deny:
        return Decision(Effect.DENY, Reason.RULE_DENIED, rule)
    return Decision(Effect.ALLOW, Reason.PUBLIC if public else Reason.RULE_ALLOWED, rule)


def _request_test(spec: RuleSpec, deny: bool, case_insensitive: bool) -> RequestTest:
    tests = [_match_test(match.methods, match.paths, deny, case_insensitive) for match in spec.matches]
    if len(tests) == 1:
        return tests[0]
    return lambda method, path: any(test(method, path) for test in tests)


def _match_test(methods: tuple[str, ...], paths: tuple[str, ...], deny: bool, case_insensitive: bool) -> RequestTest:
    named = frozenset(method.encode() for method in methods)
    on_path = _path_test(paths, deny, case_insensitive)
    if on_path is None:
        return (lambda method, _: method in named) if named else (lambda _, __: True)
    if not named:
        return lambda _, path: on_path(path)
    return lambda method, path: method in named and on_path(path)


def _path_test(paths: tuple[str, ...], deny: bool, case_insensitive: bool) -> Callable[[bytes], bool] | None:
    """None if any path fits.

    A deny also holds for the path as a careless platform would read it, where the route lets such paths in at all:
    percent-decoded, without parameters, without empty segments, without what an encoded `?` or `#` hides.
    """
    if not paths:
        return None
    spelled = compile_paths(paths, case_insensitive=case_insensitive).fullmatch
    if not deny:
        return lambda path: spelled(path) is not None
    plain = compile_paths(paths, case_insensitive=case_insensitive, decoded=True).fullmatch

    def denied(path: bytes) -> bool:
        if spelled(path) is not None:
            return True
        return _DISGUISE.search(path) is not None and plain(_plain_reading(path)) is not None

    return denied


def _plain_reading(path: bytes) -> bytes:
    decoded = unquote_to_bytes(path).partition(b"?")[0].partition(b"#")[0]
    return _SLASHES.sub(b"/", _PARAMETERS.sub(b"", decoded))


def _everyone(_: Principal) -> bool:
    return True


def _subject_test(spec: RuleSpec, deny: bool) -> SubjectTest:
    """Whether the rule is about this person. What is not known counts as met for a deny and as not met for an allow.

    A rule for `matching` people that lists nobody allows nobody and denies everybody.
    """
    users, groups = frozenset(spec.users), frozenset(spec.groups)
    emails, people = users.union(spec.emails), frozenset(spec.people)
    providers = frozenset(spec.providers)
    by_mail = any("@" in email for email in emails)
    listing = bool(emails or people or groups)
    claims = tuple((name, frozenset(values)) for name, values in spec.claims.items())
    if not listing and not claims and not providers:
        return lambda _: deny

    def applies(principal: Principal) -> bool:
        if providers and principal.provider not in providers:
            return False
        if listing:
            listed = (
                principal.subject in users
                or principal.email in emails
                or not groups.isdisjoint(principal.groups)
                or (principal.provider, principal.subject) in people
            )
            if not listed and not (deny and by_mail and principal.email is None):
                return False
        for name, wanted in claims:
            held = _claim_texts(principal, name)
            if (not deny) if held is None else wanted.isdisjoint(held):
                return False
        return True

    return applies


def _claim_texts(principal: Principal, name: str) -> Iterable[str] | None:
    value: ClaimValue | frozenset[str] | None = principal.claims.get(name)
    if value is None and name == "roles":
        value = principal.roles or None
    if value is None:
        return None
    if isinstance(value, bool):
        return ("true",) if value else ("false",)
    if isinstance(value, (str, int, float)):
        return (str(value),)
    return value
