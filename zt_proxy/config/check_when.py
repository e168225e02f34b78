"""Conditions: whether their words are known, whether what they ask can be known, and whether they can be met."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from zt_proxy.config import build_when, logic
from zt_proxy.config.check import Checking
from zt_proxy.config.countries import CODES, right
from zt_proxy.config.problems import Mark, choice, nearest
from zt_proxy.config.schema_when import Age, RiskBounds, SensitivityBounds, Time, When
from zt_proxy.config.templates import template_fault
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.policy.conditions import Vocabulary, compile_condition
from zt_proxy.policy.spec import Cel, RouteRules

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
IN_PRINCIPAL = {"sub": "user", "email": "user", "groups": "group", "name": "user", "roles": "role"}
"""Claims that are read already, and the key that asks for them."""
ATTRIBUTES = ("department", "location", "clearance")
OF_THE_PERSON = frozenset({"user", "group", "claim", "department", "location", "provider"})
"""Keys about a person, wherever they are: roles are made of them."""
OF_PEOPLE = OF_THE_PERSON | {"role", "device_known", "level", "auth_age", "risk", "clearance", "owner"}
"""Keys about a person or their session: of strangers they are never known."""
NOT_OF_INTEGRATIONS = OF_PEOPLE - {"user", "group", "role", "provider"}
"""Of those, what is never known of integrations either. They have a name, and no groups, roles or provider."""
OF_PROFILES = frozenset({"action", "object", "changes", "sensitivity", "clearance", "owner"})
"""Keys about what a request means: only a profile knows."""
_TOGETHER = frozenset({"all", "any", "not"})
_OBJECT = re.compile(r"[a-z*][a-z0-9*_-]*:.+", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_SECRET_HEADERS = frozenset({"cookie", "authorization", "proxy-authorization"})
_OURS = re.compile(r"x-zt-.*|zt-.*|forwarded|x-forwarded-.*|x-real-ip|remote-.*|x-auth-request-.*", re.IGNORECASE)


def words(checking: Checking, when: When) -> bool:
    """Everything about single words, telling what is wrong; True: the condition can be built."""
    fine = True
    if when.start is not None and not when.damaged and not any(True for _ in _written(when)):
        checking.problems.error(when.start, "an empty condition", "at least one of its keys")
        return False
    for key, value in _written(when):
        if isinstance(value, list | dict) and not value:
            if when.complete(key):
                checking.problems.error(when.at(key), f"`{key}` is empty and would never be met", hint="leave it out")
            fine = False
            continue
        reader = _WORDS.get(key)
        if reader is not None and not reader(checking, when, key):
            fine = False
        for below in _below(key, value):
            fine = words(checking, below) and fine
    return fine and not when.damaged


def sense(checking: Checking, when: When, levels: Mapping[str, When]) -> bool:
    """Conditions that can never be met, or always are, told where they begin; the innermost alone. True: one was told.

    `words` has found nothing wrong, and `levels` has every access level that is named.
    """
    told = [sense(checking, below, levels) for key, value in _written(when) for below in _below(key, value)]
    if any(told):
        return True
    parts = build_when.parts(when, levels)
    for key, item in parts:
        if key not in _TOGETHER and logic.never(item):
            checking.problems.error(when.at(key), f"`{key}` can never be met{_why(key)}")
            return True
        if key not in _TOGETHER and logic.always(item):
            checking.problems.warning(when.at(key), f"`{key}` is met by whatever is known", hint="leave it out")
            return True
    whole = build_when.condition(when, levels)
    at = when.start if len(parts) > 1 else when.at(parts[0][0])
    if logic.never(whole):
        keys = choice_and([key for key, _ in parts]) if len(parts) > 1 else f"`{parts[0][0]}`"
        checking.problems.error(at, f"{keys} can never be met{' together' if len(parts) > 1 else ''}")
        return True
    if logic.always(whole):
        checking.problems.warning(at, f"`{parts[0][0]}` is met by whatever is known", hint="leave it out")
        return True
    return False


def uses(when: When, levels: Mapping[str, When]) -> Iterator[tuple[When, str, str]]:
    """Every key in a condition: the mapping where it stands, the key, and the key that is asked for in the end, which
    for an access level is one of its own. `levels` without cycles; what is not there is passed over."""
    for key, value in _written(when):
        if key == "access_level":
            for name in when.access_level or ():
                if name in levels:
                    yield from ((when, key, asked) for _, _, asked in uses(levels[name], levels))
        elif key not in _TOGETHER:
            yield when, key, key
        for below in _below(key, value):
            yield from uses(below, levels)


def choice_and(keys: Sequence[str]) -> str:
    """`a`, `b` and `c`"""
    return choice(keys).replace(" or ", " and ")


def exact(checking: Checking, model: When, key: str) -> bool:
    """Names are compared exactly: a wild card or a blank fits nobody."""
    fine = True
    for index, name in enumerate(getattr(model, build_when.KEYS[key])):
        if not name or name != name.strip() or "*" in name:
            checking.problems.error(model.at(key, index), f"`{name}` fits nothing: names are compared exactly")
            fine = False
    return fine


def known_claims(checking: Checking) -> set[str] | None:
    """Claims that some provider hands on; None: not known, because something there was wrong."""
    identity = checking.schema.identity
    if not identity.complete("providers"):
        return None
    return {claim for provider in identity.providers.values() for claim in provider.claims}


def method_fault(checking: Checking, at: Mark | None, method: str, key: str) -> bool:
    """Whether a method can never be met, which is told. `key`: under which it was written."""
    if method.upper() in {"CONNECT", "TRACE"}:
        checking.problems.error(at, f"`{method}` is refused by the proxy and cannot be ruled on")
    elif method != method.upper():
        checking.problems.error(at, f"`{method}`: methods are upper case", f"`{method.upper()}`")
    elif not method.isascii() or not method.replace("-", "").isalpha():
        checking.problems.error(at, f"`{method}` is not a method", hint=f"leave `{key}` out to mean any")
    else:
        if method not in METHODS and (hint := nearest(method, METHODS)):
            checking.problems.warning(at, f"`{method}` is an unusual method", hint=hint)
        return False
    return True


# ---- one function per key: False, if the condition cannot be built or never be met for what was told ----


def _one_of(kind: str, names: Callable[[Checking], Mapping[str, object] | None]) -> "_Reader":
    def read(checking: Checking, when: When, key: str) -> bool:
        known, fine = names(checking), True
        for index, name in enumerate(getattr(when, build_when.KEYS[key])):
            if known is not None and name not in known:
                hint = nearest(name, known) or (f"known here: {choice(known)}" if known else "")
                checking.problems.error(when.at(key, index), f"`{name}` is no {kind}", hint=hint)
                fine = False
        return fine

    return read


def _complete(key: str) -> Callable[[Checking], Mapping[str, object] | None]:
    return lambda checking: getattr(checking.schema, key) if checking.schema.complete(key) else None


def _providers(checking: Checking) -> Mapping[str, object] | None:
    identity = checking.schema.identity
    return identity.providers if identity.complete("providers") else None


def _country(checking: Checking, when: When, key: str) -> bool:
    fine = True
    for index, code in enumerate(when.country or ()):
        if code not in CODES:
            meant = right(code)
            hint = f"did you mean `{meant}`?" if meant else ""
            checking.problems.error(
                when.at(key, index), f"`{code}` is no country", "two letters of ISO 3166-1, such as `DE`", hint
            )
            fine = False
    return fine


def _asn(checking: Checking, when: When, key: str) -> bool:
    fine = True
    for index, number in enumerate(when.asn or ()):
        if not 0 < number < 1 << 32:
            checking.problems.error(when.at(key, index), f"`{number}` is no autonomous system", "1 to 4294967295")
            fine = False
    if checking.schema.geoip.asn is None and checking.schema.complete("geoip"):
        checking.problems.error(
            when.at(key), "`asn` is never known: there is no database of autonomous systems", "`geoip: {asn: FILE}`"
        )
    return fine


def _time(checking: Checking, when: When, key: str) -> bool:
    time = when.time
    assert isinstance(time, Time)
    fine = True
    for index, word in enumerate(time.days):
        fine = checking.attempt(time.at("days", index), build_when.days, [word]) is not None and fine
    if not time.days and time.complete("days"):
        checking.problems.error(time.at("days"), "`days` is empty and would never be met", hint="leave it out")
        fine = False
    start = checking.attempt(time.at("from"), build_when.clock, time.from_)
    end = checking.attempt(time.at("to"), build_when.clock, time.to)
    if start is not None and end is not None and start in {end, 1440}:
        checking.problems.error(time.at("from"), f"from `{time.from_}` to `{time.to}` is no time at all")
        fine = False
    if end == 0 and start != end:
        checking.problems.error(time.at("to"), "`00:00` is the beginning of the day", "`24:00` for its end")
        fine = False
    if not _is_zone(time.zone):
        zones = available_timezones()
        place = time.zone.rpartition("/")[2].lower()
        city = next((zone for zone in sorted(zones) if zone.rpartition("/")[2].lower() == place), "")
        hint = f"did you mean `{city}`?" if city else nearest(time.zone, zones)
        checking.problems.error(
            time.at("zone"), f"`{time.zone}` is no time zone", "an IANA name such as `Europe/Berlin`", hint
        )
        fine = False
    return fine and start is not None and end is not None


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder, or one that is too long
        return False
    return "/" in name or name in available_timezones()


def _bounds(checking: Checking, when: When, key: str) -> bool:
    bounds = getattr(when, key)
    assert isinstance(bounds, RiskBounds | SensitivityBounds | Age)
    if bounds.at_most is None and bounds.at_least is None:
        if not bounds.damaged:
            checking.problems.error(when.at(key), f"`{key}` says nothing", "`at_most` or `at_least`")
        return False
    return True


def _claim(checking: Checking, when: When, key: str) -> bool:
    fine, known = True, known_claims(checking)
    for name, values in (when.claim or {}).items():
        at = when.at(key, name)
        if not values:
            checking.problems.error(at, f"`{name}` has no values and would never be met")
            fine = False
        if name in IN_PRINCIPAL:
            checking.problems.error(at, f"`{name}` is no further claim", f"`{IN_PRINCIPAL[name]}`")
        elif known is not None and name not in known:
            checking.problems.error(
                at,
                f"no provider hands on the claim `{name}`",
                f"`claims: [{name}]` at a provider",
                nearest(name, known),
            )
    return fine


def _attribute(checking: Checking, when: When, key: str) -> bool:
    known, claim = known_claims(checking), getattr(checking.schema.attributes, key)
    if known is not None and claim not in known:
        checking.problems.error(
            when.at(key),
            f"`{key}` is never known: no provider hands on the claim `{claim}`",
            f"`claims: [{claim}]` at a provider, or another claim under `attributes`",
            nearest(claim, known),
        )
    return exact(checking, when, key) if key != "clearance" else True


def _method(checking: Checking, when: When, key: str) -> bool:
    faults = [
        method_fault(checking, when.at(key, index), method, key) for index, method in enumerate(when.method or ())
    ]
    return not any(faults)


def _path(checking: Checking, when: When, key: str) -> bool:
    faults = [(index, template_fault(template)) for index, template in enumerate(when.path or ())]
    for index, said in faults:
        if said:
            checking.problems.error(when.at(key, index), said)
    return not any(said for _, said in faults)


def _header(checking: Checking, when: When, key: str) -> bool:
    fine = True
    for name, values in (when.header or {}).items():
        at = when.at(key, name)
        if not _TOKEN.fullmatch(name):
            checking.problems.error(at, f"`{name}` is no header name", "letters, digits and `-`")
        elif name.lower() in _SECRET_HEADERS:
            checking.problems.error(at, f"`{name}` holds credentials, which are not for rules")
        elif _OURS.fullmatch(name):
            checking.problems.error(at, f"`{name}` never comes from a client: the proxy takes it away")
        elif values:
            continue
        else:
            checking.problems.error(at, f"`{name}` has no values and would never be met")
        fine = False
    return fine


def object_fault(name: str) -> str:
    """What is wrong with an object's name in a rule, or nothing."""
    return "" if _OBJECT.fullmatch(name) else f"`{name}` names no object; expected `KIND:NAME` such as `flow:*`"


def _object(checking: Checking, when: When, key: str) -> bool:
    faults = [(index, object_fault(name)) for index, name in enumerate(when.object or ())]
    for index, said in faults:
        if said:
            checking.problems.error(when.at(key, index), said)
    return not any(said for _, said in faults)


def _cel(checking: Checking, when: When, key: str) -> bool:
    rules = RouteRules("", (), attributes=build_when.attributes(checking.schema))
    try:
        compile_condition(Cel(when.cel or ""), Vocabulary(rules))
    except ConfigurationError as error:
        checking.problems.error(when.at(key), f"`cel`: {error.detail.splitlines()[0]}")
        return False
    return True


_Reader = Callable[[Checking, When, str], bool]
_WORDS: dict[str, _Reader] = {
    "access_level": _one_of("access level", _complete("access_levels")),
    "group": exact,
    "role": exact,
    "claim": _claim,
    "department": _attribute,
    "location": _attribute,
    "clearance": _attribute,
    "network": _one_of("network", _complete("networks")),
    "provider": _one_of("provider", _providers),
    "country": _country,
    "asn": _asn,
    "time": _time,
    "auth_age": _bounds,
    "risk": _bounds,
    "sensitivity": _bounds,
    "method": _method,
    "path": _path,
    "header": _header,
    "object": _object,
    "cel": _cel,
}


def _written(when: When) -> Iterator[tuple[str, object]]:
    for key, name in build_when.KEYS.items():
        value = getattr(when, name)
        if value is not None:
            yield key, value


def _below(key: str, value: object) -> list[When]:
    if isinstance(value, When):
        return [value]
    return [item for item in value if isinstance(item, When)] if isinstance(value, list) else []


def _why(key: str) -> str:
    return ": its bounds exclude each other" if key in {"risk", "sensitivity", "auth_age"} else ""
