"""A configuration as questions are put to it: what each route would decide, without a listener, a secret or a socket.

For `explain`, `who-can`, `test`, `diff` and their like. They run where the proxy does not, on a desk or in a pipeline:
certificates and secrets need not be there, but everything about rules, roles, profiles and masks has to be right.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from zt_proxy.config import (
    build_machines,
    build_mask,
    build_policy,
    build_risk,
    check_mask,
    check_policy,
    check_profile,
    check_risk,
    check_rules,
    names,
)
from zt_proxy.config.check import Checking
from zt_proxy.config.load import load
from zt_proxy.config.problems import Collector, ConfigurationProblems, Problem, Severity
from zt_proxy.config.profiles import load_profile
from zt_proxy.config.schema import Schema
from zt_proxy.config.schema_routes import Route
from zt_proxy.core.clock import Clock, SystemClock
from zt_proxy.core.types import NO_ACT, Act, Decision, Effect, Facts
from zt_proxy.policy.actions import NeedsBody, Profile
from zt_proxy.policy.bodies import HeaderOf
from zt_proxy.policy.compile import compile_machines, compile_rules
from zt_proxy.policy.conditions import Vocabulary
from zt_proxy.policy.explain import Trace
from zt_proxy.policy.geo import Origins
from zt_proxy.policy.profile_spec import ProfileSpec
from zt_proxy.policy.risk import RiskSettings
from zt_proxy.policy.spec import RouteRules, RuleSpec
from zt_proxy.worker.protect.mask.masking import Mask
from zt_proxy.worker.settings import MaskSpec, PathSettings

UNREAD = Act(refused=True)
"""What a request means whose meaning stands in a body that is not there."""
_PARTS = (check_profile, check_policy, check_risk, check_rules, check_mask)


class RouteWorld:
    """One route, compiled as a worker compiles it."""

    def __init__(
        self,
        route: Route,
        rules: RouteRules,
        masks: tuple[MaskSpec, ...] = (),
        profile: ProfileSpec | None = None,
        host: str = "",
        places: Mapping[str, int] | None = None,
    ) -> None:
        self.name = route.name
        self.host = host
        """As in the Host header, with the port unless 443."""
        self.prefix = names.prefix(route.path).encode("ascii")
        self.paths = PathSettings(
            encoded_slash=route.paths.encoded_slash == "allow",
            double_slash=route.paths.double_slash == "allow",
            parameters=route.paths.parameters == "allow",
            encoded_delimiters=route.paths.encoded_delimiters == "allow",
            case_insensitive=route.paths.case == "insensitive",
        )
        self.rules = rules
        self.profile_spec = profile
        self.profile = Profile(profile, self.prefix) if profile is not None else None
        self.policy = compile_rules(rules)
        self.machines = compile_machines(rules)
        self.masks = masks
        self.places = dict(places or {})
        """Id of a rule → its line in the file; what an integration's own `allow` makes has none."""
        words = Vocabulary(rules)
        self._masks = tuple(Mask(spec, words, bytes(32)) for spec in masks)  # nothing is hashed with this key

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Of every mask that may apply on the route."""
        return tuple(mask.name for mask in self.masks)

    def decide(self, facts: Facts) -> Decision:
        """What the rules say, for an integration those that are for it."""
        who = facts.principal
        if who is not None and who.integration:
            return self.machines.decide(who.integration, facts)
        return self.policy.decide(facts)

    def explain(self, facts: Facts) -> Trace:
        """The same decision with its reasons."""
        who = facts.principal
        if who is not None and who.integration:
            return self.machines.explain(who.integration, facts)
        return self.policy.explain(facts)

    def classify(
        self,
        method: bytes,
        path: bytes,
        query: bytes | None,
        header: HeaderOf,
        websocket: bool,
        body: bytes | None = None,
    ) -> Act:
        """What a request means. One whose meaning stands in a body that is not given is refused: see `needs_body`.

        Raises ClientError(BODY_NOT_INSPECTABLE) for a body that cannot be read.
        """
        if self.profile is None:
            return NO_ACT
        found = self.profile.classify(method, path, query, header, websocket)
        if not isinstance(found, NeedsBody):
            return found
        if body is None:
            return UNREAD
        return self.profile.classify_body(method, path, query, header, websocket, body)

    def needs_body(self, method: bytes, path: bytes, query: bytes | None, header: HeaderOf, websocket: bool) -> bool:
        """What the request means stands in its body."""
        return self.profile is not None and isinstance(
            self.profile.classify(method, path, query, header, websocket), NeedsBody
        )

    def masks_for(self, facts: Facts, decision: Decision) -> tuple[str, ...]:
        """Names of the masks that the answer goes through: what the rule names, and what applies by itself."""
        if decision.effect is not Effect.ALLOW:
            return ()
        named = decision.obligations.masks if decision.obligations is not None else ()
        return tuple(mask.name for mask in self._masks if mask.name in named or mask.concerns(facts))


class Estate(msgspec.Struct, frozen=True):
    """All routes of a file, and what they share."""

    path: Path
    schema: Schema
    routes: Mapping[str, RouteWorld]
    origins: Origins
    risk: RiskSettings
    warnings: tuple[Problem, ...] = ()


def worlds(path: Path) -> dict[str, RouteWorld]:
    """Route by name → what it would decide. Raises ConfigurationProblems with all that is wrong in the policy."""
    return dict(estate(path).routes)


def estate(path: Path, clock: Clock | None = None) -> Estate:
    """The same with what routes share. Raises ConfigurationProblems."""
    loaded = load(path)
    problems = Collector(loaded.path, loaded.problems)
    schema, base = loaded.schema, loaded.base
    if schema is not None:
        checking = Checking(problems, schema, base, datetime.fromtimestamp((clock or SystemClock()).now(), UTC))
        for part in _PARTS:
            part.check(checking)
    found = tuple(problems.sorted())
    if schema is None or problems.has_errors():
        raise ConfigurationProblems(found)

    def folder(text: str) -> Path:
        return base / Path(text).expanduser()

    scopes = build_machines.scopes(schema.integrations.items())
    routes = {route.name: _world(route, schema, base, tuple(scopes.get(route.name, ()))) for route in schema.routes}
    warnings = tuple(problem for problem in found if problem.severity is Severity.WARNING)
    return Estate(
        path, schema, routes, Origins(build_policy.origins(schema, folder)), build_risk.risk(schema), warnings
    )


def _world(route: Route, schema: Schema, base: Path, scopes: tuple[RuleSpec, ...]) -> RouteWorld:
    rules = build_policy.route_rules(route, schema, scopes)
    places = {rule.id: mark.line for _, rule in build_policy.rules_on(route, schema) if (mark := rule.at("id"))}
    return RouteWorld(
        route,
        rules,
        build_mask.masks(route, schema),
        load_profile(route.profile, base) if route.profile else None,
        _host(route, schema),
        places,
    )


def _host(route: Route, schema: Schema) -> str:
    """As the proxy would be asked for it; as it is written, if portal or route cannot be read."""
    try:
        _, _, port = names.origin(schema.portal.url)
        return names.join(*names.public_host(route.host, port))
    except ValueError:
        return route.host
