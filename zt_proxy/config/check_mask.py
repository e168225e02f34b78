"""Masks: that paths can be read, that somebody is masked, and that what is let through unmasked is told."""

import re
from collections.abc import Mapping

from zt_proxy.config.build_mask import named, on_route
from zt_proxy.config.check import Checking
from zt_proxy.config.check_identity import NAME
from zt_proxy.config.check_when import known_claims, sense, words
from zt_proxy.config.problems import Collector, nearest
from zt_proxy.config.schema_mask import Answers, Mask, Readers
from zt_proxy.config.schema_routes import Route
from zt_proxy.worker.protect.mask import paths

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_MEDIA = re.compile(r"[!#$&^_.+0-9a-z-]+/(?:\*|[!#$&^_.+0-9a-z-]+)", re.ASCII | re.IGNORECASE)
_NEEDED = frozenset({"content-type", "content-length", "transfer-encoding", "connection", "date", "location"})
SOCKETS = frozenset({"node-red", "n8n", "jupyterlab", "streamlit"})
"""Profiles of platforms whose pages do not work without their WebSockets."""
LARGE = 16 * 1024 * 1024
"""From here on an answer holds up a worker for longer than a person would not notice."""


def check(checking: Checking) -> None:
    schema = checking.schema
    for name, group in schema.route_groups.items():
        members = [route for route in schema.routes if route.group == name]
        by_rules = {each for route in members for rule in route.rules for each in rule.mask}
        _masks(checking, named(group.mask, f"{name}-mask"), by_rules, set())
    for route in schema.routes:
        every = on_route(route, schema)
        inherited = {name for name, _ in every[: len(every) - len(route.mask)]}
        _masks(checking, named(route.mask, "mask"), {name for rule in route.rules for name in rule.mask}, inherited)
        _answers(checking, route, masked=bool(every))


def _masks(checking: Checking, masks: list[tuple[str, Mask]], by_rules: set[str], taken: set[str]) -> None:
    """The masks of one place. `by_rules`: names that rules there use. `taken`: names of inherited masks."""
    seen = set(taken)
    for name, mask in masks:
        if name in seen:
            checking.problems.error(mask.at("name"), f"the mask name `{name}` is used twice")
        elif not NAME.fullmatch(name):
            checking.problems.error(mask.at("name"), f"`{name}` is no name", "lower-case letters, digits, `-` and `_`")
        seen.add(name)
        _mask(checking, mask, by_rule=name in by_rules)


def _mask(checking: Checking, mask: Mask, *, by_rule: bool) -> None:
    problems = checking.problems
    if not mask.fields and mask.complete("fields"):
        problems.error(mask.at("fields"), "`fields` is empty: nothing is masked", "paths such as `$..iban`")
    _fields(problems, mask)
    for key in ("unless", "only"):
        who = getattr(mask, key)
        if who is not None:
            _readers(checking, mask, key, who)
    if mask.value is not None and mask.with_ != "fixed":
        problems.error(mask.at("value"), f"`value` says nothing with `with: {mask.with_}`")
    if mask.only_by_rule and (mask.unless or mask.only):
        key = "unless" if mask.unless else "only"
        problems.error(mask.at(key), f"`{key}` says nothing with `only_by_rule`: where a rule names a mask it counts")
    if mask.only_by_rule and not by_rule:
        problems.error(mask.at("only_by_rule"), "no rule of the route names the mask: nothing is masked")
    for index, header in enumerate(mask.headers):
        if not _TOKEN.fullmatch(header):
            problems.error(mask.at("headers", index), f"`{header}` is no header name")
        elif header.lower() in _NEEDED:
            problems.error(mask.at("headers", index), f"an answer without `{header}` is none")


def _fields(problems: Collector, mask: Mask) -> None:
    seen: set[paths.Path] = set()
    for index, text in enumerate(mask.fields):
        try:
            path = paths.parse(text)
        except ValueError as error:
            problems.error(mask.at("fields", index), f"`{text}`: {error}")
            continue
        if path in seen:
            problems.warning(mask.at("fields", index), f"`{text}` is there twice")
        seen.add(path)


def _readers(checking: Checking, mask: Mask, key: str, who: Readers) -> None:
    problems = checking.problems
    lists: Mapping[str, list[str]] = {
        "groups": who.groups, "users": who.users, "roles": who.roles, "integrations": who.integrations
    }  # fmt: skip
    if not any(lists.values()) and not who.claims and who.when is None:
        if not who.damaged:
            nobody = "spares nobody" if key == "unless" else "masks nobody"
            problems.error(mask.at(key), f"`{key}` {nobody}: it is empty", "`groups`, `users`, `roles`, `when`, …")
        return
    for each, values in lists.items():
        for index, name in enumerate(values):
            if not name or name != name.strip() or "*" in name:
                problems.error(who.at(each, index), f"`{name}` fits nothing: names are compared exactly")
    known = checking.schema.integrations
    for index, name in enumerate(who.integrations):
        if name not in known and checking.schema.complete("integrations"):
            problems.error(who.at("integrations", index), f"`{name}` is no integration", hint=nearest(name, known))
    claims = known_claims(checking)
    for name, wanted in who.claims.items():
        if not wanted:
            problems.error(who.at("claims", name), f"`{name}` has no values and would never be met")
        if claims is not None and name not in claims:
            problems.error(
                who.at("claims", name),
                f"no provider hands on the claim `{name}`",
                f"`claims: [{name}]` at a provider",
                nearest(name, claims),
            )
    if who.when is not None and words(checking, who.when):
        sense(checking, who.when, checking.levels)


def _answers(checking: Checking, route: Route, *, masked: bool) -> None:
    problems, answers = checking.problems, route.answers
    if route.written("answers") and not masked and route.complete("mask"):
        problems.warning(route.at("answers"), "`answers` says nothing without `mask`")
    _types(problems, answers)
    checking.not_zero(answers)
    if answers.limit > LARGE:
        problems.warning(answers.at("limit"), "answers as large as that hold up a worker while they are looked into")
    if answers.uninspectable == "insecure_pass" and masked:
        problems.warning(answers.at("uninspectable"), "what cannot be looked into is let through unmasked")
    if answers.websocket == "pass" and masked:
        problems.warning(answers.at("websocket"), "nothing is masked in WebSockets")
    elif masked and route.profile in SOCKETS and not answers.written("websocket"):
        problems.warning(
            route.at("mask") if route.mask else route.start,
            f"the pages of `{route.profile}` open WebSockets, which are refused to whoever is masked",
            "`answers: {websocket: refuse}`, or `pass` where nothing in them needs a mask",
        )


def _types(problems: Collector, answers: Answers) -> None:
    for index, text in enumerate(answers.pass_types):
        at = answers.at("pass_types", index)
        if not _MEDIA.fullmatch(text):
            problems.error(at, f"`{text}` is no media type", "one such as `text/csv` or `image/*`")
        elif "json" in text.lower() or text.lower() == "application/*":
            problems.error(at, f"`{text}` is what masks are for: it cannot be let pass")
