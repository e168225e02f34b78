"""The profiles that routes name: whether they are there, and everything that is wrong in the operator's own."""

from pathlib import Path

from zt_proxy.config.check import Checking
from zt_proxy.config.problems import nearest
from zt_proxy.config.profiles import SHIPPED, find, known_profiles, read_file, read_profile
from zt_proxy.config.schema import Schema


def check(checking: Checking) -> None:
    """Tells what is wrong in a profile's file at its own place, once for all routes that name it."""
    read: set[Path] = set()
    for route in checking.schema.routes:
        if route.profile is None:
            continue
        path = find(route.profile, checking.base)
        if path is None or not path.is_file():
            known = known_profiles(checking.base)
            hint = nearest(route.profile, known) or f"known: {', '.join(sorted(known))}"
            checking.problems.error(route.at("profile"), f"`{route.profile}` is no profile", hint=hint)
        elif path not in read:
            read.add(path)
            problems = read_file(path, checking.base).problems
            checking.problems.take(problems)


def files(schema: Schema, base: Path) -> set[Path]:
    """The operator's own profiles that routes rest on: a change of any is a change of the configuration."""
    named = {route.profile for route in schema.routes if route.profile is not None}
    return {path for name in named for path in read_profile(name, base).files if SHIPPED not in path.parents}
