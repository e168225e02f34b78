"""Everything that can be wrong beyond a single key. Reads files, changes nothing.

One function per part of the file, each telling all it finds to the collector; none stops another.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec

from zt_proxy.config import names
from zt_proxy.config.certificates import Leaf
from zt_proxy.config.load import Loaded
from zt_proxy.config.problems import Collector, Mark, Problem
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_base import Model
from zt_proxy.config.schema_when import When
from zt_proxy.config.secrets import SecretReference, resolve
from zt_proxy.core.clock import Clock, SystemClock

T = TypeVar("T")

MAY_BE_ZERO = frozenset(
    {"learn", "request_timeout", "rate_grace", "drain", "minimum_rate", "max_age", "form_limit", "max_changed"}
)
EXPIRY_WARNING = timedelta(days=14)


class Checking(msgspec.Struct):
    """What the parts share."""

    problems: Collector
    schema: Schema
    base: Path
    now: datetime
    portal_host: str = ""
    """Empty if the portal's URL could not be read."""
    portal_port: int = 0
    """0 if it could not be read."""
    leaves: list[Leaf] = []
    all_leaves_known: bool = True
    binds: list[tuple[str, int]] = []
    levels: dict[str, When] = {}
    """Access levels that can be built; those with a problem, and those that rest on them, are not here."""
    unclear: set[int] = set()
    """`id` of rules whose `when` has a problem."""

    def attempt(self, at: Mark | None, read: Callable[..., T], *arguments: object) -> T | None:
        """What `read` gives; None, with its ValueError told as an error, when it refuses."""
        try:
            return read(*arguments)
        except ValueError as error:
            self.problems.error(at, str(error))
            return None

    def path(self, text: str) -> Path:
        return self.base / Path(text).expanduser()

    def secret(self, at: Mark | None, reference: SecretReference, what: str) -> str | None:
        """The value, with what is wrong about it told."""
        if reference.literal is not None:
            self.problems.warning(at, f"{what} is written into the file", "`${env:NAME}` or `${file:PATH}`")
        try:
            return resolve(reference, self.base).reveal()
        except LookupError as error:
            self.problems.error(at, f"{what}: {error.args[0]}")
            return None

    def networks(self, model: Model, key: str, items: list[str]) -> None:
        """Each must be a network, and together they may not be everyone."""
        known = [self.attempt(model.at(key, index), names.network, item) for index, item in enumerate(items)]
        version = names.everyone([network for network in known if network is not None])
        if version:
            self.problems.error(
                model.at(key), f"`{key}` covers every {version} address: anyone could name any client address"
            )

    def not_zero(self, model: Model) -> None:
        """Durations, sizes and counts of 0 mean nothing, with named exceptions."""
        for name in type(model).model_fields:
            value = getattr(model, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and value == 0 and name not in MAY_BE_ZERO and model.written(name):
                self.problems.error(model.at(name), f"`{name}` is zero", "more than zero")


def check(loaded: Loaded, clock: Clock | None = None) -> list[Problem]:
    """Every problem of the file, those of `load` included, in the order of the file."""
    from zt_proxy.config import (
        check_front,
        check_guard,
        check_identity,
        check_machines,
        check_mask,
        check_mfa,
        check_policy,
        check_profile,
        check_risk,
        check_routes,
        check_rules,
        check_session,
        check_watch,
    )

    problems = Collector(loaded.path, loaded.problems)
    if loaded.schema is not None:
        now = datetime.fromtimestamp((clock or SystemClock()).now(), UTC)
        checking = Checking(problems, loaded.schema, loaded.base, now)
        parts = (
            check_front,
            check_session,
            check_identity,
            check_mfa,
            check_routes,
            check_profile,
            check_policy,
            check_risk,
            check_rules,
            check_machines,
            check_mask,
            check_watch,
            check_guard,
        )
        for part in parts:
            part.check(checking)
    return problems.sorted()
