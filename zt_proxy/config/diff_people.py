"""Whom two versions of a route can tell apart: strangers, people who are named and who are not, integrations."""

from collections.abc import Iterable
from math import prod
from typing import Any

import msgspec

from zt_proxy.config.diff_values import ELSE, Sides, spread
from zt_proxy.core.session import ClaimValue, Principal
from zt_proxy.core.types import Sensitivity
from zt_proxy.policy.spec import Test

NOBODY = "zz-somebody"
MOST = 600
"""People who are tried for one kind of request."""
_PLAIN = f"{NOBODY}@example.invalid"
_ATTRIBUTES = ("department", "location", "clearance")


class Someone(msgspec.Struct, frozen=True):
    """Who asks; `principal` None: a stranger."""

    principal: Principal | None
    words: tuple[str, ...] = ()
    """Options of `explain` that make this person."""

    @property
    def is_person(self) -> bool:
        return self.principal is not None and not self.principal.integration


class People(msgspec.Struct, frozen=True):
    """Whom to try. `kinds`: how many there would be with every combination; more than `someone`: some were left out."""

    someone: tuple[Someone, ...]
    kinds: int


def people_of(sides: Sides) -> People:
    """The plainest first: then with one group, role, claim or name of those that either file knows, then with more."""
    providers, users = _providers(sides), _users(sides)
    groups, roles, claims = _groups(sides), list(_named(sides, "roles", "role")), _claims(sides)
    counts = [
        len(providers),
        len(users),
        *(2 for _ in (*groups, *roles)),
        *(len(values) + 2 for values in claims.values()),
    ]
    found: dict[tuple[str, ...], Someone] = {(): Someone(None)}
    for combo in spread(counts, len(counts)):
        provider, (name, mail) = providers[combo[0]], users[combo[1]]
        held = [group for group, place in zip(groups, combo[2:], strict=False) if place]
        given = [role for role, place in zip(roles, combo[2 + len(groups) :], strict=False) if place]
        said: dict[str, ClaimValue] = {}
        for (claim, values), place in zip(claims.items(), combo[2 + len(groups) + len(roles) :], strict=True):
            if place:
                said[claim] = (*values, ELSE)[place - 1]
        one = _someone((provider if len(providers) > 1 else "", provider), (name, mail), held, given, said)
        found.setdefault(one.words, one)
        if len(found) > MOST:
            break
    if groups:
        one = _someone(("", providers[0]), users[0], groups, [], {})
        found.setdefault(one.words, one)
    integrations = dict.fromkeys(name for estate in sides.estates for name in estate.schema.integrations)
    for name in integrations:
        principal = Principal(f"integration:{name}", "", "", name=name, integration=name)
        found["--integration", name] = Someone(principal, ("--integration", name))
    return People(tuple(found.values()), max(len(found), prod(counts) + 1 + len(integrations)))


def _providers(sides: Sides) -> list[str]:
    every = list(dict.fromkeys(name for estate in sides.estates for name in estate.schema.identity.providers))
    told = any(rule.providers or rule.people for rule in sides.rules) or sides.asks("provider")
    return every if told or any(world.rules.provider for world in sides.worlds) else every[:1]


def _users(sides: Sides) -> list[tuple[str, str | None]]:
    """Subject and verified address; the first is nobody whom a rule names."""
    users = [*_named(sides, "users", "user"), *(mail for rule in sides.rules for mail in rule.emails)]
    users += [account for world in sides.worlds for account in world.rules.break_glass]
    users += [user for known in sides.roles for role in known for user in role.users]
    users += [subject for rule in sides.rules for _, subject in rule.people]
    found: list[tuple[str, str | None]] = [(NOBODY, _PLAIN)]
    for user in dict.fromkeys(user.replace("*", "x") for user in users if not user.startswith("integration:")):
        found.append((NOBODY, user) if "@" in user else (user, _PLAIN))
    if any("@" in user for user in users):
        found.append((NOBODY, None))
    return found


def _groups(sides: Sides) -> list[str]:
    named = _named(sides, "groups", "group")
    named.update(dict.fromkeys(group for known in sides.roles for role in known for group in role.groups))
    return list(named)


def _named(sides: Sides, key: str, fact: str) -> dict[str, None]:
    listed = [name for rule in sides.rules for name in getattr(rule, key)]
    return dict.fromkeys((*listed, *(str(value) for test in sides.tests(fact) for value in test.values)))


def _claims(sides: Sides) -> dict[str, list[ClaimValue]]:
    """Claim → values that are named, and both sides of bounds."""
    values: dict[str, dict[ClaimValue, None]] = {}
    for rule in sides.rules:
        for name, wanted in rule.claims.items():
            values.setdefault(name, {}).update(dict.fromkeys(wanted))
    for world in sides.worlds:
        called = {fact: world.rules.attributes.get(fact, fact) for fact in _ATTRIBUTES}
        for atom in sides.atoms:
            if not isinstance(atom, Test):
                continue
            name = atom.fact.removeprefix("claim:") if atom.fact[:6] == "claim:" else called.get(atom.fact, "")
            if not name:
                continue
            listed: Iterable[Any] = [each.value for each in Sensitivity] if atom.fact == "clearance" else atom.values
            for value in listed:
                near = (value - 1, value, value + 1) if atom.op in {"at_least", "at_most"} else (value,)
                values.setdefault(name, {}).update(dict.fromkeys(_text(each) for each in near))
    return {name: list(each) for name, each in values.items()}


def _text(value: Any) -> ClaimValue:
    text: ClaimValue = value.replace("*", "x") if isinstance(value, str) else value
    return text


def _someone(
    provider: tuple[str, str],
    user: tuple[str, str | None],
    groups: list[str],
    roles: list[str],
    claims: dict[str, ClaimValue],
) -> Someone:
    """`provider`: as it is told, if it has to be, and its name."""
    name, mail = user
    words = [] if user == (NOBODY, _PLAIN) else ["--user", mail if name == NOBODY and mail else name]
    for option, items in (("--group", groups), ("--role", roles)):
        words += [part for item in items for part in (option, item)]
    words += [part for claim, value in claims.items() for part in ("--claim", f"{claim}={value}")]
    words = words or ["--user", _PLAIN]
    words += ["--provider", provider[0]] if provider[0] else []
    principal = Principal(
        name, "", provider[1], email=mail, groups=frozenset(groups), roles=frozenset(roles), claims=claims
    )
    return Someone(principal, tuple(words))
