"""Masks: from the checked schema to what workers read."""

import json
from collections.abc import Mapping, Sequence

from zt_proxy.config.build_when import condition
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_mask import Answers, Mask, Readers
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_when import When
from zt_proxy.policy.spec import All, Any, Condition, Not, Test
from zt_proxy.worker.settings import AnswerSettings, MaskSpec


def masks(route: Route, schema: Schema) -> tuple[MaskSpec, ...]:
    """The masks that count on a route, in the order of the file."""
    return tuple(_mask(mask, name, schema.access_levels) for name, mask in on_route(route, schema))


def on_route(route: Route, schema: Schema) -> list[tuple[str, Mask]]:
    """Name and mask of every mask that counts on a route, those of its group first."""
    group = schema.route_groups.get(route.group) if route.group is not None else None
    return [*(named(group.mask, f"{route.group}-mask") if group is not None else ()), *named(route.mask, "mask")]


def named(written: Sequence[Mask], prefix: str) -> list[tuple[str, Mask]]:
    """Masks with their names, also those that have none in the file."""
    return [(mask.name or f"{prefix}-{number}", mask) for number, mask in enumerate(written, 1)]


def answers(written: Answers) -> AnswerSettings:
    """What is done with the answers of a route with masks."""
    return AnswerSettings(
        limit=written.limit,
        pass_types=tuple(each.lower() for each in written.pass_types),
        insecure_pass=written.uninspectable == "insecure_pass",
        websocket=written.websocket == "pass",
    )


def _mask(mask: Mask, name: str, levels: Mapping[str, When]) -> MaskSpec:
    terms: list[Condition] = []
    if mask.only is not None:
        terms.append(readers(mask.only, levels))
    if mask.unless is not None:
        terms.append(Not(readers(mask.unless, levels)))
    return MaskSpec(
        name=name,
        fields=tuple(mask.fields),
        way=mask.with_,
        value="" if mask.value is None else json.dumps(mask.value, ensure_ascii=False),
        applies=None if not terms else terms[0] if len(terms) == 1 else All(tuple(terms)),
        named_only=mask.only_by_rule,
        case_insensitive=mask.case == "insensitive",
        headers=tuple(header.lower() for header in mask.headers),
    )


def readers(who: Readers, levels: Mapping[str, When]) -> Condition:
    """One condition for all that is said of some readers; something is said."""
    users = [*who.users, *(f"integration:{name}" for name in who.integrations)]
    pairs = (("group", who.groups), ("user", users), ("role", who.roles))
    anyone = [Test(fact, "in", tuple(values)) for fact, values in pairs if values]
    terms: list[Condition] = [anyone[0] if len(anyone) == 1 else Any(tuple(anyone))] if anyone else []
    terms += [Test(f"claim:{name}", "in", tuple(values)) for name, values in who.claims.items()]
    if who.when is not None:
        terms.append(condition(who.when, levels))
    return terms[0] if len(terms) == 1 else All(tuple(terms))
