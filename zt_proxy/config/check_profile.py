"""The profiles that routes name: whether they are there, what is wrong in them, and rules that miss what they know."""

from fnmatch import fnmatchcase
from pathlib import Path

from zt_proxy.config.check import Checking
from zt_proxy.config.problems import nearest
from zt_proxy.config.profiles import SHIPPED, LoadedProfile, find, known_profiles, read_file, read_profile
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.schema_rules import Match
from zt_proxy.policy.profile_spec import ProfileSpec


def check(checking: Checking) -> None:
    """Tells what is wrong in a profile's file at its own place, once for all routes that name it."""
    read: dict[Path, LoadedProfile] = {}
    for route in checking.schema.routes:
        if route.profile is None:
            continue
        path = find(route.profile, checking.base)
        if path is None or not path.is_file():
            known = known_profiles(checking.base)
            hint = nearest(route.profile, known) or f"known: {', '.join(sorted(known))}"
            checking.problems.error(route.at("profile"), f"`{route.profile}` is no profile", hint=hint)
            continue
        if path not in read:
            read[path] = read_file(path, checking.base)
            checking.problems.take(read[path].problems)
        spec = read[path].spec
        if spec is not None:
            _rules(checking, route, spec)


def files(schema: Schema, base: Path) -> set[Path]:
    """The operator's own profiles that routes rest on: a change of any is a change of the configuration."""
    named = {route.profile for route in schema.routes if route.profile is not None}
    return {path for name in named for path in read_profile(name, base).files if SHIPPED not in path.parents}


def _rules(checking: Checking, route: Route, spec: ProfileSpec) -> None:
    """Rules of the route that speak past its profile."""
    objects = [*(each.object for each in spec.matchers), *(each.object for each in spec.messages)]
    kinds = {each.kind for each in objects if each is not None}
    denied_paths = None
    for rule in route.rules:
        for match in (*(rule.allow or ()), *(rule.deny or ())):
            _kinds(checking, match, spec, kinds)
        denied_paths = denied_paths or next((match.at("paths") for match in rule.deny or () if match.paths), None)
    if denied_paths is not None and spec.case_insensitive and route.paths.case == "sensitive":
        checking.problems.warning(
            denied_paths,
            f"{spec.title} folds the case of paths, and this rule does not: it can be passed by another spelling",
            "`paths: {case: insensitive}` on the route",
        )


def _kinds(checking: Checking, match: Match, spec: ProfileSpec, kinds: set[str]) -> None:
    for index, name in enumerate(match.objects or ()):
        kind, colon, _ = name.partition(":")
        if colon and not any(fnmatchcase(known, kind) for known in kinds):
            checking.problems.warning(
                match.at("objects", index),
                f"the profile `{spec.name}` knows no object of the kind `{kind}`",
                hint=nearest(kind, kinds) or f"known: {', '.join(sorted(kinds)) or 'none'}",
            )
