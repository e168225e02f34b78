"""Conditions: from what is written under `when` to what the policy reads. One function per key.

The schema has been checked: names exist, words are known. What cannot be read raises ValueError with what was expected.
"""

import re
from collections.abc import Callable, Mapping

from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_when import RISKS, SENSITIVITIES, Age, RiskBounds, SensitivityBounds, Time, When, expand
from zt_proxy.policy.spec import All, Any, Cel, Condition, Hours, Not, Test
from zt_proxy.policy.spec import Named as NamedCondition

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-4]):([0-5]\d)", re.ASCII)
WEEK = 7 * 1440

Levels = Mapping[str, When]


def condition(when: When, levels: Levels) -> Condition:
    """One condition for a whole `when`. `levels`: the access levels of the file, without a cycle among them."""
    items = tuple(item for _, item in parts(when, levels))
    return items[0] if len(items) == 1 else All(items)


def parts(when: When, levels: Levels) -> list[tuple[str, Condition]]:
    """Each key that was written, with what it means by itself."""
    found: list[tuple[str, Condition]] = []
    for key, name in KEYS.items():
        value = getattr(when, name)
        if value is not None:
            found.append((key, READERS[key](value, levels)))
    return found


def attributes(schema: Schema) -> dict[str, str]:
    """Attribute → claim, where it is called otherwise."""
    chosen = schema.attributes
    named = {key: str(getattr(chosen, key)) for key in type(chosen).model_fields}
    return {key: claim for key, claim in named.items() if key != claim}


# ---- words ----


def days(words: list[str]) -> tuple[int, ...]:
    """Days of the week, 0 is Monday, of `mon`, `mon-fri`, `fri-mon`. Raises ValueError."""
    found: set[int] = set()
    for word in words:
        first, dash, last = word.lower().partition("-")
        start, end = _day(first, word), _day(last, word) if dash else _day(first, word)
        found.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return tuple(sorted(found))


def _day(name: str, word: str) -> int:
    if name not in DAYS:
        right = next((day for day in DAYS if len(name) >= 2 and (name[:3] == day or day.startswith(name))), "")
        hint = f" (did you mean `{right}`?)" if right else ""
        said = f"`{word}`" if name == word.lower() else f"`{word}`: `{name}`"
        raise ValueError(f"{said} is no day; expected {', '.join(f'`{day}`' for day in DAYS)}{hint}")
    return DAYS.index(name)


def clock(text: str) -> int:
    """Minutes of the day of `08:00`; `24:00` is its end. Raises ValueError."""
    match = _CLOCK.fullmatch(text)
    if match is None or (match[1] == "24" and match[2] != "00"):
        raise ValueError(f"`{text}` is no time of day; expected one such as `08:00` or `24:00`")
    return int(match[1]) * 60 + int(match[2])


def hours(time: Time) -> Hours:
    """Raises ValueError for days or times that cannot be read."""
    return Hours(days(time.days), clock(time.from_), clock(time.to), time.zone)


# ---- one function per key ----


def _all(value: list[When], levels: Levels) -> Condition:
    return All(tuple(condition(item, levels) for item in value))


def _any(value: list[When], levels: Levels) -> Condition:
    return Any(tuple(condition(item, levels) for item in value))


def _not(value: When, levels: Levels) -> Condition:
    return Not(condition(value, levels))


def _access_level(value: list[str], levels: Levels) -> Condition:
    found = tuple(NamedCondition(name, condition(levels[name], levels)) for name in value)
    return found[0] if len(found) == 1 else Any(found)


def _among(fact: str) -> Callable[[list[str], Levels], Condition]:
    return lambda value, _: Test(fact, "in", tuple(value))


def _numbers(value: list[int], _: Levels) -> Condition:
    return Test("asn", "in", tuple(value))


def _like(fact: str, value: list[str]) -> Condition:
    return Test(fact, "like" if any("*" in text for text in value) else "in", tuple(value))


def _each(items: list[Condition]) -> Condition:
    return items[0] if len(items) == 1 else All(tuple(items))


def _claim(value: dict[str, list[str]], _: Levels) -> Condition:
    return _each([Test(f"claim:{name}", "in", tuple(values)) for name, values in value.items()])


def _header(value: dict[str, list[str]], _: Levels) -> Condition:
    return _each([_like(f"header:{name.lower()}", values) for name, values in value.items()])


def _bounds(fact: str, bounds: RiskBounds | SensitivityBounds | Age) -> Condition:
    pairs = (("at_least", bounds.at_least), ("at_most", bounds.at_most))
    return _each([Test(fact, op, (value,)) for op, value in pairs if value is not None])


def _is(fact: str) -> Callable[[object, Levels], Condition]:
    """`sufficient` and `self` are the only words there are."""
    return lambda _, __: Test(fact, "is", (True,))


READERS: Mapping[str, Callable[..., Condition]] = {
    "all": _all,
    "any": _any,
    "not": _not,
    "access_level": _access_level,
    "user": lambda value, _: _like("user", value),
    "group": _among("group"),
    "role": _among("role"),
    "claim": _claim,
    "department": _among("department"),
    "location": _among("location"),
    "network": _among("network"),
    "country": _among("country"),
    "asn": _numbers,
    "time": lambda value, _: hours(value),
    "device_known": lambda value, _: Test("device_known", "is", (value,)),
    "level": lambda value, _: Test("level", "at_least", (value,)),
    "auth_age": lambda value, _: _bounds("auth_age", value),
    "provider": _among("provider"),
    "risk": lambda value, _: _bounds("risk", value),
    "sensitivity": lambda value, _: _bounds("sensitivity", value),
    "clearance": _is("clearance"),
    "owner": _is("owner"),
    "method": _among("method"),
    "path": lambda value, _: Test("path", "fits", tuple(value)),
    "header": _header,
    "action": lambda value, _: Test(
        "action", "in", tuple(dict.fromkeys(act for word in value for act in expand(word)))
    ),
    "object": lambda value, _: _like("object", value),
    "changes": _among("changes"),
    "cel": lambda value, _: Cel(value),
}
KEYS = {(field.alias or name): name for name, field in When.model_fields.items()}
"""Key in the file → attribute of `When`."""
ORDERED = {"risk": RISKS, "sensitivity": SENSITIVITIES, "level": ("single", "multi", "phishing-resistant")}
"""Facts whose words have an order, from the least."""
