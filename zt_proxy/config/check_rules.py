"""Rules: whether each can decide anything, and whether any decides too much."""

from zt_proxy.config import session_presets
from zt_proxy.config.check import Checking
from zt_proxy.config.check_identity import NAME
from zt_proxy.config.people import people_of
from zt_proxy.config.problems import nearest
from zt_proxy.config.requirements import Needs, applies, needs, needs_of, spelled
from zt_proxy.config.schema_routes import Match, Require, Route, Rule, To
from zt_proxy.config.templates import covers, template_fault
from zt_proxy.core.errors import ConfigurationError
from zt_proxy.policy.templates import compile_paths

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_EVERYWHERE = (b"/", b"/zt-any", b"/zt-any/", b"/zt-any/zt-any", b"/zt-any/zt-any/zt-any.zt")
"""Paths that only a template for all of them fits all of."""
_CLAIMS_IN_PRINCIPAL = frozenset({"sub", "email", "groups", "name", "roles"})


def check(checking: Checking) -> None:
    floor = session_presets.floor(checking.schema)
    _require(checking, floor, ())
    for_machines = {scope.route for one in checking.schema.integrations.values() for scope in one.allow}
    for route in checking.schema.routes:
        if not route.rules and not route.damaged and route.name not in for_machines:
            checking.problems.warning(route.at("rules"), f"route `{route.name}` has no rules: it denies everything")
        _require(checking, route.require, (("top level", floor),))
        seen: dict[str, Rule] = {}
        for rule in route.rules:
            first = seen.setdefault(rule.id, rule)
            if first is not rule:
                at = first.at("id")
                checking.problems.error(
                    rule.at("id"),
                    f"the rule id `{rule.id}` is used twice",
                    hint=f"first at line {at.line}" if at else "",
                )
            elif not NAME.fullmatch(rule.id):
                checking.problems.error(
                    rule.at("id"), f"`{rule.id}` is no name", "lower-case letters, digits, `-` and `_`"
                )
            _rule(checking, route, rule)
        _reach(checking, route)


def _rule(checking: Checking, route: Route, rule: Rule) -> None:
    problems = checking.problems
    if rule.allow is not None and rule.deny is not None:
        problems.error(rule.at("deny"), f"rule `{rule.id}` both allows and denies", "one of them")
    if rule.allow is None and rule.deny is None and not rule.damaged:
        problems.error(rule.start, f"rule `{rule.id}` neither allows nor denies", "`allow` or `deny`")
    for key, matches in (("allow", rule.allow), ("deny", rule.deny)):
        if matches == [] and rule.complete(key):
            problems.error(rule.at(key), f"`{key}` is empty and would match nothing", "a list of matches, or `all`")
        for match in matches or ():
            check_match(checking, route, match)
    _subject(checking, route, rule)
    if rule.require.mfa is not None or rule.require.reauth is not None:
        if rule.deny is not None:
            problems.error(rule.at("require"), "`require` has no meaning on a rule that denies")
        if rule.to is not None and rule.to.word == "public":
            problems.error(rule.at("require"), "`require` on a rule for `public`: strangers have proven nothing")
        if rule.to is not None and rule.to.integrations:
            problems.error(
                rule.at("require"), "`require` on a rule for integrations: only people prove themselves again"
            )
    floors = (("top level", session_presets.floor(checking.schema)), ("route", route.require)) if applies(rule) else ()
    _require(checking, rule.require, floors)
    _too_much(checking, route, rule)


def _require(checking: Checking, require: Require, floors: tuple[tuple[str, Require], ...]) -> None:
    """What is asked for may tighten what is asked above it, and never loosen it."""
    checking.not_zero(require)
    level, age, once = needs(require)
    for place, above in floors:
        least = needs(above)
        if require.mfa is not None and level < least.level:
            checking.problems.error(
                require.at("mfa"), f"`{level.word}` is less than the {place} asks", f"`{least.level.word}` or stronger"
            )
        if require.reauth is None:
            continue
        if (least.once and not once) or (age is not None and least.reauth is not None and age > least.reauth):
            said = spelled(least.reauth, least.once)
            checking.problems.error(
                require.at("reauth"),
                f"`{spelled(age, once)}` is less than the {place} asks",
                f"`{said}`" if least.once else f"`{said}` or shorter",
            )


def check_match(checking: Checking, route: Route, match: Match) -> None:
    """Methods and paths of one match, as they have to be on this route."""
    problems = checking.problems
    for key, items in (("methods", match.methods), ("paths", match.paths)):
        if items == [] and match.complete(key):
            problems.error(match.at(key), f"`{key}` is empty and would match nothing", hint="leave it out to mean any")
    for index, method in enumerate(match.methods or ()):
        at = match.at("methods", index)
        if method.upper() in {"CONNECT", "TRACE"}:
            problems.error(at, f"`{method}` is refused by the proxy and cannot be ruled on")
        elif method != method.upper():
            problems.error(at, f"`{method}`: methods are upper case", f"`{method.upper()}`")
        elif not method.isascii() or not method.replace("-", "").isalpha():
            problems.error(at, f"`{method}` is not a method", hint="leave `methods` out to mean any")
        elif method not in METHODS and (hint := nearest(method, METHODS)):
            problems.warning(at, f"`{method}` is an unusual method", hint=hint)
    for index, template in enumerate(match.paths or ()):
        said = template_fault(
            template,
            parameters=route.paths.parameters == "allow" or not route.complete("paths"),
            double_slash=route.paths.double_slash == "allow" or not route.complete("paths"),
        )
        if said:
            problems.error(match.at("paths", index), said)
        elif route.path.startswith("/") and route.path != "/" and not _may_lie_below(template, route.path):
            problems.warning(
                match.at("paths", index), f"`{template}` is outside the route's `path: {route.path}`", "the full path"
            )


def _may_lie_below(template: str, prefix: str) -> bool:
    """Whether a template can match a path below a prefix; True when in doubt."""
    for part, wanted in zip(template.split("/")[1:], prefix.strip("/").split("/"), strict=False):
        if "*" in part:
            return True
        if part.lower() != wanted.lower():
            return False
    return len(template.split("/")) > prefix.rstrip("/").count("/")


def _subject(checking: Checking, route: Route, rule: Rule) -> None:
    problems, to = checking.problems, rule.to
    if to is None:
        if rule.allow is not None and not rule.damaged:
            problems.error(rule.start, f"rule `{rule.id}` does not say for whom", "`to`")
        return
    if to.word or to.damaged:
        return
    people = (("groups", to.groups), ("users", to.users), ("claims", to.claims), ("providers", to.providers))
    for key, values in (*people, ("integrations", to.integrations)):
        if not values and to.written(key):
            problems.error(to.at(key), f"`{key}` is empty and would match nobody", hint="leave it out")
    if not any(to.written(key) for key in ("groups", "users", "claims", "providers", "integrations")):
        problems.error(
            rule.at("to"), "`to` names nobody", "`groups`, `users`, `claims`, `integrations`, or `anyone-signed-in`"
        )
    for index, name in enumerate(to.integrations):
        machines = checking.schema.integrations
        if name not in machines and checking.schema.complete("integrations"):
            problems.error(to.at("integrations", index), f"`{name}` is no integration", hint=nearest(name, machines))
    for key, names in (("groups", to.groups), ("users", to.users)):
        for index, name in enumerate(names):
            if not name or name != name.strip() or "*" in name:
                problems.error(to.at(key, index), f"`{name}` can be nobody: names are compared exactly")
    _whose(checking, route, to)
    providers = checking.schema.identity.providers.values()
    known = {claim for provider in providers for claim in provider.claims}
    for claim, values in to.claims.items():
        if not values:
            problems.error(to.at("claims", claim), f"`{claim}` has no values and would match nobody")
        if claim in _CLAIMS_IN_PRINCIPAL:
            problems.error(to.at("claims", claim), f"`{claim}` is no further claim", "`users` or `groups`")
        elif claim not in known and checking.schema.identity.complete("providers"):
            problems.error(
                to.at("claims", claim),
                f"no provider hands on the claim `{claim}`",
                f"`claims: [{claim}]` at a provider",
            )


def _whose(checking: Checking, route: Route, to: To) -> None:
    """With several providers, whose people are meant has to be said: subjects and groups are names within one."""
    problems, providers = checking.problems, checking.schema.identity.providers
    for index, name in enumerate(to.providers):
        if name not in providers and checking.schema.identity.complete("providers"):
            problems.error(to.at("providers", index), f"`{name}` is no provider", hint=nearest(name, providers))
        elif route.provider is not None and name != route.provider:
            problems.error(to.at("providers", index), f"the route knows people of `{route.provider}` alone")
    for index in people_of(to, route, checking.schema).unclear:
        problems.error(
            to.at("users", index),
            f"`{to.users[index]}`: two providers can call different people so",
            "`PROVIDER:SUBJECT`, a verified address, or `providers` beside it",
        )
    if to.groups and len(providers) > 1 and not to.providers and route.provider is None:
        problems.warning(to.at("groups"), "groups of every provider count here", "`providers` beside it")


def _is_all(matches: list[Match]) -> bool:
    """Whether reading and changing are allowed at every kind of path, however that is spelled."""
    try:
        fits = [(match.methods, compile_paths(match.paths or ["/**"]).fullmatch) for match in matches]
    except ConfigurationError:
        return False  # a template that cannot be read has been told
    return all(
        any((methods is None or method in methods) and on_path(path) for methods, on_path in fits)
        for method in ("GET", "POST")
        for path in _EVERYWHERE
    )


def _too_much(checking: Checking, route: Route, rule: Rule) -> None:
    if rule.allow is None or rule.to is None or rule.mode == "off" or not rule.complete("allow"):
        return
    everything = _is_all(rule.allow)
    if everything and rule.to.word == "public":
        if not rule.insecure_allow_everyone:
            checking.problems.error(
                rule.at("allow"),
                f"rule `{rule.id}` allows everyone everything, without a sign-in",
                "narrower matches, or `insecure_allow_everyone: true`",
            )
        else:
            checking.problems.warning(
                rule.at("insecure_allow_everyone"), f"rule `{rule.id}` allows everyone everything, without a sign-in"
            )
    elif rule.insecure_allow_everyone:
        checking.problems.warning(
            rule.at("insecure_allow_everyone"), "`insecure_allow_everyone` is not needed on this rule"
        )
    elif everything and rule.to.word == "anyone-signed-in" and not _needs(checking, route, rule).asks:
        checking.problems.warning(rule.at("allow"), f"rule `{rule.id}` allows whoever can sign in everything")


def _reach(checking: Checking, route: Route) -> None:
    """Rules that never decide, because another always decides before them (`policy.engine`: deny beats allow, and an
    allow that asks for nothing beats one that asks for a fresh proof)."""
    folds = route.paths.case == "insensitive"
    live = [rule for rule in route.rules if rule.mode == "enforce" and not rule.damaged]
    for rule in route.rules:
        if rule.mode == "off" or rule.damaged or rule.allow is None or rule.deny is not None:
            continue
        for other in live:
            if other is rule or not _speaks_for(other, rule) or not _fits_all(other, rule, folds):
                continue
            if other.deny is not None and other.allow is None:
                checking.problems.error(
                    rule.at("id"), f"rule `{rule.id}` can never allow: `{other.id}` denies all it is about"
                )
                break
            mine, theirs = _needs(checking, route, rule), _needs(checking, route, other)
            if mine != theirs and mine.covers(theirs):
                asks, less = ("its", "a lesser one") if theirs.asks else ("a fresh", "none")
                checking.problems.error(
                    rule.at("require"),
                    f"rule `{rule.id}` can never ask for {asks} proof: `{other.id}` allows the same with {less}",
                )
                break
            if mine == theirs and route.rules.index(other) < route.rules.index(rule):
                checking.problems.warning(
                    rule.at("id"), f"rule `{rule.id}` adds nothing: `{other.id}` allows all of it already"
                )
                break


def _needs(checking: Checking, route: Route, rule: Rule) -> Needs:
    return needs_of(rule, route, session_presets.floor(checking.schema))


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
    if narrow.to.word or wide.to.claims or not (narrow.to.groups or narrow.to.users or narrow.to.integrations):
        return False
    return set(narrow.to.groups) <= set(wide.to.groups) and set(narrow.to.users) <= set(wide.to.users)


def _fits_all(wide: Rule, narrow: Rule, folds: bool) -> bool:
    if any(match.methods == [] or match.paths == [] for match in narrow.allow or ()):
        return False  # matches nothing, which has been told
    return bool(narrow.allow) and all(
        any(_match_covers(one, match, folds) for one in wide.deny or wide.allow or ()) for match in narrow.allow or ()
    )


def _match_covers(wide: Match, narrow: Match, folds: bool) -> bool:
    if wide.methods is not None and (narrow.methods is None or not set(narrow.methods) <= set(wide.methods)):
        return False
    if wide.paths is None:
        return True
    fold = str.lower if folds else str
    return all(
        any(covers(fold(one), fold(path)) for one in wide.paths if one.startswith("/"))
        for path in (narrow.paths if narrow.paths is not None else ["/**"])
    )
