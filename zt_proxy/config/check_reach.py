"""Rules that never decide, because another always decides before them.

`policy.engine`: deny beats allow, and of several allows the one that asks least counts. Only what is certain is told.
"""

from collections.abc import Sequence

from zt_proxy.config import build_when, logic
from zt_proxy.config.build_policy import rules_on
from zt_proxy.config.check import Checking
from zt_proxy.config.requirements import Needs, floors_of, needs_of
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_rules import Match, Rule, To
from zt_proxy.config.templates import covers


def check(checking: Checking, route: Route) -> None:
    """The rules of one route, once the words of all have been checked."""
    folds, levels = route.paths.case == "insensitive", checking.levels
    readable = (rule for _, rule in rules_on(route, checking.schema) if id(rule) not in checking.unclear)
    everything = [rule for rule in readable if not rule.damaged]
    live = [rule for rule in everything if rule.mode == "enforce"]
    conditions = {
        id(rule): logic.conjuncts(build_when.condition(rule.when, levels) if rule.when is not None else None)
        for rule in everything
    }
    for rule in route.rules:
        if rule.mode == "off" or rule.allow is None or rule.deny is not None or id(rule) not in conditions:
            continue
        for other in live:
            narrower = conditions[id(other)] <= conditions[id(rule)]
            if other is rule or not narrower or not _speaks_for(other, rule) or not _fits_all(other, rule, folds):
                continue
            if _tell(checking, route, rule, other):
                break
    _strangers(checking, live, folds)


def _strangers(checking: Checking, live: Sequence[Rule], folds: bool) -> None:
    """A rule that denies some people what is open to strangers: they need only sign out."""
    public = [rule for rule in live if rule.allow is not None and rule.to is not None and rule.to.word == "public"]
    for rule in live:
        to = rule.to
        if rule.deny is None or to is None or to.word == "public" or (to.integrations and not _people(to)):
            continue
        for other in public:
            if any(_opens(one, match, folds) for match in rule.deny for one in other.allow or ()):
                checking.problems.warning(
                    rule.at("to"),
                    f"rule `{rule.id}` stops nobody who signs out: `{other.id}` lets strangers through there",
                    hint="without `to` it is for everybody",
                )
                break


def _opens(wide: Match, narrow: Match, folds: bool) -> bool:
    """Some method of all that `narrow` is about."""
    if wide.methods is not None and narrow.methods is not None and not set(wide.methods) & set(narrow.methods):
        return False
    return _match_covers(wide.model_copy(update={"methods": None}), narrow, folds)


def _people(to: To) -> bool:
    return bool(to.word or to.users or to.groups or to.roles or to.claims or to.providers)


def _tell(checking: Checking, route: Route, rule: Rule, other: Rule) -> bool:
    """`other` is about everything that `rule` is about: whether that leaves nothing to the rule."""
    problems = checking.problems
    if other.deny is not None and other.allow is None:
        problems.error(rule.at("id"), f"rule `{rule.id}` can never allow: `{other.id}` denies all it is about")
        return True
    floors = floors_of(checking.schema, route)
    mine, theirs = needs_of(rule, floors), needs_of(other, floors)
    if mine != theirs:
        if not mine.covers(theirs):
            return False
        problems.error(rule.at("require"), _asks_in_vain(rule, other, mine, theirs))
        return True
    more = [
        key for key in ("mask", "limit", "notify") if getattr(rule, key) and getattr(rule, key) != getattr(other, key)
    ]
    if more and not _comes_with(other):
        problems.error(
            rule.at(more[0]), f"`{more[0]}` of rule `{rule.id}` never counts: `{other.id}` allows the same without"
        )
        return True
    if not more and not _comes_with(other) and _index(route, rule) > _index(route, other):
        problems.warning(rule.at("id"), f"rule `{rule.id}` adds nothing: `{other.id}` allows all of it already")
        return True
    return False


def _asks_in_vain(rule: Rule, other: Rule, mine: Needs, theirs: Needs) -> str:
    if mine.proof == theirs.proof:
        what = "approval" if mine.approve != theirs.approve else "justification"
        return f"rule `{rule.id}` can never ask for {what}: `{other.id}` allows the same without"
    asks, less = ("its", "a lesser one") if theirs.asks else ("a fresh", "none")
    return f"rule `{rule.id}` can never ask for {asks} proof: `{other.id}` allows the same with {less}"


def _comes_with(rule: Rule) -> bool:
    """Something besides the answer."""
    return bool(rule.mask or rule.limit or rule.notify)


def _index(route: Route, rule: Rule) -> int:
    return next(place for place, one in enumerate(route.rules) if one is rule)


def _speaks_for(wide: Rule, narrow: Rule) -> bool:
    """Whether everyone `narrow` is for is one `wide` is for. True is certain."""
    if wide.to is None:
        return wide.deny is not None
    if narrow.to is None:
        return False
    if not set(narrow.to.integrations) <= set(wide.to.integrations):
        return wide.to.word == "public"
    if wide.to.word:
        return wide.to.word == "public" or narrow.to.word != "public"
    if wide.to.providers and set(wide.to.providers) != set(narrow.to.providers):
        return False
    lists = ("groups", "users", "roles", "integrations")
    if narrow.to.word or wide.to.claims or not any(getattr(narrow.to, key) for key in lists):
        return False
    return all(set(getattr(narrow.to, key)) <= set(getattr(wide.to, key)) for key in lists[:3])


def _fits_all(wide: Rule, narrow: Rule, folds: bool) -> bool:
    if any(match.methods == [] or match.paths == [] for match in narrow.allow or ()):
        return False  # matches nothing, which has been told
    return bool(narrow.allow) and all(
        any(_match_covers(one, match, folds) for one in wide.deny or wide.allow or ()) for match in narrow.allow or ()
    )


def _match_covers(wide: Match, narrow: Match, folds: bool) -> bool:
    if wide.methods is not None and (narrow.methods is None or not set(narrow.methods) <= set(wide.methods)):
        return False
    if wide.acts and not (narrow.acts and set(narrow.acts) <= set(wide.acts)):
        return False
    if wide.objects is not None and not _objects_cover(wide.objects, narrow.objects):
        return False
    if wide.paths is None:
        return True
    fold = str.lower if folds else str
    return all(
        any(covers(fold(one), fold(path)) for one in wide.paths if one.startswith("/"))
        for path in (narrow.paths if narrow.paths is not None else ["/**"])
    )


def _objects_cover(wide: Sequence[str], narrow: Sequence[str] | None) -> bool:
    """The same pattern, or a plain name that begins as a pattern with its `*` at the end does."""
    return bool(narrow) and all(
        any(one == name or (one.count("*") == 1 and one.endswith("*") and name.startswith(one[:-1])) for one in wide)
        for name in narrow or ()
    )
