"""Masks: from the checked schema to what workers read."""

import json
from collections.abc import Mapping

from zt_proxy.config.build_when import condition
from zt_proxy.config.schema_mask import Answers, Mask, Readers
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_when import When
from zt_proxy.policy.spec import All, Any, Condition, Not, Test
from zt_proxy.worker.settings import AnswerSettings, MaskSpec


def masks(route: Route, levels: Mapping[str, When]) -> tuple[MaskSpec, ...]:
    """The masks of a route, in the order of the file."""
    return tuple(_mask(mask, name, levels) for mask, name in zip(route.mask, names(route), strict=True))


def names(route: Route) -> tuple[str, ...]:
    """Names of the masks of a route, also of those that have none in the file."""
    return tuple(mask.name or f"mask-{number}" for number, mask in enumerate(route.mask, 1))


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
