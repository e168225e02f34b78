"""Grants that nobody used, and the file without them: edits of its text, so that everything else stays as written.

Only what allows is ever taken back, never what denies; a rule is switched off, not deleted.
"""

import difflib
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec

from zt_proxy.config.check import check
from zt_proxy.config.load import load_text
from zt_proxy.config.problems import Mark, Severity
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_rules import Rule
from zt_proxy.core.session import Principal
from zt_proxy.policy.usage import Usage, Used

_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'|[^,\]}\s#][^,\]}#\n]*?(?=\s*(?:[,\]}]|\s#|$))")
Kind = Literal["rule", "action", "group", "user"]


class Suggestion(msgspec.Struct):
    """One grant that nobody used."""

    route: str
    rule: str
    kind: Kind
    name: str
    """Of the action, the group or the user; of a rule its id."""
    losers: tuple[str, ...]
    """Who of those that signed in would lose it."""
    patched: bool = True
    """It is in the patch; else it has to be done by hand."""


def suggestions(schema: Schema, usage: Usage) -> list[tuple[Suggestion, Mark]]:
    """What could be taken back, with its place in the file."""
    return [each for route in schema.routes for rule in route.rules for each in _of_rule(route, rule, usage)]


def _of_rule(route: Route, rule: Rule, usage: Usage) -> Iterator[tuple[Suggestion, Mark]]:
    if rule.allow is None or rule.mode == "off":
        return
    used = usage.rules.get((route.name, rule.id))
    people = list(usage.people.values())
    if used is None:
        losers = _names(who for who in people if _holds(rule, who))
        mark = rule.at("mode" if rule.written("mode") else "id")
        if mark is not None:
            yield Suggestion(route.name, rule.id, "rule", rule.id, losers), mark
        return
    to = rule.to
    if route.profile:
        yield from _actions(route, rule, used, people)
    if to is None:
        return
    for index, group in enumerate(to.groups):
        if group not in used.groups and not used.unknown and len(to.groups) + len(to.users) > 1:
            losers = _names(who for who in people if group in who.groups)
            mark = to.at("groups", index)
            if mark is not None:
                yield Suggestion(route.name, rule.id, "group", group, losers), mark
    for index, user in enumerate(to.users):
        bare = user.partition(":")[2] or user
        if not {user, bare} & used.users and len(to.groups) + len(to.users) > 1:
            losers = _names(who for who in people if {who.subject, who.email} & {user, bare})
            mark = to.at("users", index)
            if mark is not None:
                yield Suggestion(route.name, rule.id, "user", user, losers), mark


def _actions(route: Route, rule: Rule, used: Used, people: list[Principal]) -> Iterator[tuple[Suggestion, Mark]]:
    """Words of a list of actions that no request needed."""
    matches = rule.allow or []
    for index, match in enumerate(matches):
        words = match.acts
        if len(words) != 1 or match.paths or match.methods or match.objects or len(matches) < 2:
            continue
        if not any(fnmatchcase(action, words[0]) for action in used.actions):
            mark = rule.at("allow", index)
            if mark is not None:
                losers = _names(who for who in people if _holds(rule, who))
                yield Suggestion(route.name, rule.id, "action", words[0], losers), mark


def _holds(rule: Rule, who: Principal) -> bool:
    """By what the rule lists; roles and conditions are not looked at."""
    to = rule.to
    if to is None or to.word:
        return True
    named = {who.subject, f"{who.provider}:{who.subject}", who.email}
    return bool(set(to.groups) & who.groups or set(to.users) & named or set(to.roles) & who.roles)


def _names(people: Iterator[Principal]) -> tuple[str, ...]:
    return tuple(sorted({who.email or who.subject for who in people}))


def patch(path: Path, found: list[tuple[Suggestion, Mark]]) -> str:
    """A unified diff that takes all of it back, as far as the file stays one that `check` accepts.

    What cannot be done so is marked as not `patched`. Empty: nothing is left to be done.
    """
    before = path.read_text("utf-8")
    wrong = _errors(before, path)
    text = before
    for suggestion, mark in sorted(found, key=lambda each: (each[1].line, each[1].column), reverse=True):
        edited = _edited(text, suggestion, mark)
        if edited is None or _errors(edited, path) - wrong:
            suggestion.patched = False
        else:
            text = edited
    name = path.name
    return "".join(
        difflib.unified_diff(before.splitlines(keepends=True), text.splitlines(keepends=True), f"a/{name}", f"b/{name}")
    )


def _errors(text: str, path: Path) -> set[str]:
    return {each.message for each in check(load_text(text, path)) if each.severity is Severity.ERROR}


def _edited(text: str, suggestion: Suggestion, mark: Mark) -> str | None:
    """The text without the grant; None: it is written in a way that is not understood here."""
    lines = text.split("\n")
    line = lines[mark.line - 1]
    start = mark.column - 1
    token = _TOKEN.match(line, start)
    if token is None:
        return None
    before, after = line[:start], line[token.end() :]
    if suggestion.kind == "rule":
        if re.search(r"\bmode:\s*$", before):
            lines[mark.line - 1] = f"{before}off{after}"
        elif re.match(r"\s*[,}]", after):
            lines[mark.line - 1] = f"{line[: token.end()]}, mode: off{after}"
        else:
            place = line.rfind("id:", 0, start)
            lines.insert(mark.line, " " * place + "mode: off")
        return "\n".join(lines)
    if re.fullmatch(r"\s*-\s+", before):
        del lines[mark.line - 1]
    elif comma := re.match(r"\s*,\s*", after):
        lines[mark.line - 1] = before + after[comma.end() :]
    elif comma := re.search(r",\s*$", before):
        lines[mark.line - 1] = before[: comma.start()] + after
    else:
        return None
    return "\n".join(lines)
