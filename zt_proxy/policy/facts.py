"""What a condition can ask of a request: each fact is one small function from `Facts` to its value.

None is neither yes nor no: nobody knows. A stranger is nobody of whom anything is known.
"""

from collections.abc import Callable, Collection, Iterable
from math import isfinite

from zt_proxy.core.clock import SKEW
from zt_proxy.core.session import ClaimValue, Level, Principal, RiskLevel
from zt_proxy.core.types import SEVERAL, Facts, Sensitivity

Texts = Callable[[Facts], Collection[str] | None]
"""The values a request has of a fact, as text: none, one or several; None: not known."""
Number = Callable[[Facts], float | None]

SENSITIVITY = {each.value: rank for rank, each in enumerate(Sensitivity)}
LEVEL = {each.word: int(each) for each in Level}
RISK = {each.word: int(each) for each in RiskLevel}
NAME_CLAIMS = ("preferred_username",)
"""Claims by which a platform may call its users, beside subject and verified address."""


def claim_texts(principal: Principal, name: str) -> Collection[str] | None:
    """A claim's values as text; None: the provider did not hand it on."""
    value: ClaimValue | frozenset[str] | None = principal.claims.get(name)
    if value is None and name == "roles":
        value = principal.roles or None
    if value is None:
        return None
    if isinstance(value, (tuple, frozenset)):
        return value
    return (text_of(value),)


def text_of(value: ClaimValue) -> str:
    """As it is compared: `true` and `false` for what is one or the other."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def claim(name: str) -> Texts:
    """The function for one claim."""
    return lambda facts: None if facts.principal is None else claim_texts(facts.principal, name)


def header(name: str) -> Texts:
    """The function for one header; one that was not sent has no value, and that is known."""
    name = name.lower()

    def texts(facts: Facts) -> Collection[str] | None:
        if name not in facts.headers:
            return None
        value = facts.headers[name]
        return () if value is None else (value,)

    return texts


def _groups(facts: Facts) -> Collection[str] | None:
    return None if facts.principal is None else facts.principal.groups


def _provider(facts: Facts) -> Collection[str] | None:
    return None if facts.principal is None else (facts.principal.provider,)


def _network(facts: Facts) -> Collection[str] | None:
    return None if facts.origin is None else facts.origin.zones


def _country(facts: Facts) -> Collection[str] | None:
    return None if facts.origin is None or facts.origin.country is None else (facts.origin.country.upper(),)


def _asn(facts: Facts) -> Collection[str] | None:
    return None if facts.origin is None or facts.origin.asn is None else (str(facts.origin.asn),)


def _device_known(facts: Facts) -> Collection[str] | None:
    known = None if facts.session is None else facts.session.device_known
    return None if known is None else (text_of(known),)


def _method(facts: Facts) -> Collection[str]:
    return (facts.method.decode("latin-1"),)


def _action(facts: Facts) -> Collection[str] | None:
    return None if facts.act.action is None else (facts.act.action.value,)


def _object(facts: Facts) -> Collection[str] | None:
    """A request that is understood and names no object has none; which of several it is about, nobody can say."""
    if facts.act.object == SEVERAL:
        return None
    if facts.act.kind:
        return (f"{facts.act.kind}:{facts.act.object}",)
    return None if facts.act.action is None else ()


def _changes(facts: Facts) -> Collection[str] | None:
    if facts.act.changes is not None:
        return (facts.act.changes.value,)
    return None if facts.act.action is None else ()


def _sensitivity(facts: Facts) -> Collection[str] | None:
    return None if facts.act.sensitivity is None else (facts.act.sensitivity.value,)


def _risk(facts: Facts) -> Collection[str] | None:
    return None if facts.risk is None else (facts.risk.level.word,)


def _level(facts: Facts) -> Collection[str] | None:
    return None if facts.session is None else (facts.session.level.word,)


TEXTS: dict[str, Texts] = {
    "group": _groups,
    "network": _network,
    "country": _country,
    "asn": _asn,
    "device_known": _device_known,
    "level": _level,
    "provider": _provider,
    "risk": _risk,
    "sensitivity": _sensitivity,
    "method": _method,
    "action": _action,
    "object": _object,
    "changes": _changes,
}


def _level_number(facts: Facts) -> float | None:
    return None if facts.session is None else facts.session.level


def _risk_number(facts: Facts) -> float | None:
    return None if facts.risk is None else facts.risk.level


def _sensitivity_number(facts: Facts) -> float | None:
    return None if facts.act.sensitivity is None else SENSITIVITY[facts.act.sensitivity.value]


def age(facts: Facts) -> float | None:
    """Seconds since the sign-in proved who it is; None also of one in the future, beyond what clocks may differ."""
    if facts.session is None:
        return None
    seconds = facts.now - facts.session.auth_time
    return seconds if seconds >= -SKEW else None


def claim_number(name: str) -> Number:
    """The function for one claim that is a number; None of one that is not."""

    def number(facts: Facts) -> float | None:
        value = None if facts.principal is None else facts.principal.claims.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        try:
            said = float(value)
        except (ValueError, OverflowError):
            return None
        return said if isfinite(said) else None  # what is no number is neither more nor less than another

    return number


NUMBERS: dict[str, tuple[Number, dict[str, int]]] = {
    "level": (_level_number, LEVEL),
    "risk": (_risk_number, RISK),
    "sensitivity": (_sensitivity_number, SENSITIVITY),
    "auth_age": (age, {}),
}
"""With the words that stand for numbers, where there are any."""


def names_of(principal: Principal) -> set[str]:
    """What a platform may call this person."""
    names = {principal.subject}
    if principal.email is not None:
        names.add(principal.email)
    for name in NAME_CLAIMS:
        names.update(claim_texts(principal, name) or ())
    return names


def shown(values: Iterable[str] | None) -> str:
    """For a trace."""
    return "not known" if values is None else ", ".join(sorted(values)) or "none"
