"""Routes: hosts, paths, upstreams, and whether each can be reached."""

import re

from zt_proxy.config import names, session_presets
from zt_proxy.config.certificates import check_authorities, read_leaf, read_public_key
from zt_proxy.config.check import Checking
from zt_proxy.config.check_front import covered, validity
from zt_proxy.config.check_identity import NAME
from zt_proxy.config.problems import nearest
from zt_proxy.config.schema_routes import Route
from zt_proxy.config.templates import prefix_fault, template_fault
from zt_proxy.worker.identify.assertion import PORTAL_AUDIENCE
from zt_proxy.worker.settings import UpstreamSettings

RESERVED = "/.zt"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_TAKEN_HEADERS = re.compile(
    r"x-zt-.*|zt-.*|host|connection|content-length|transfer-encoding|te|trailer|upgrade|keep-alive|expect|cookie"
    r"|authorization|forwarded|x-forwarded-.*|x-request-id|remote-.*|x-auth-request-.*",
    re.IGNORECASE,
)


def check(checking: Checking) -> None:
    schema = checking.schema
    if not schema.routes and schema.complete("routes"):
        checking.problems.warning(schema.at("routes"), "`routes` is empty: nothing is reachable")
    seen: dict[str, Route] = {}
    for route in schema.routes:
        if route.name in seen:
            checking.problems.error(route.at("name"), f"the route name `{route.name}` is used twice")
        elif not NAME.fullmatch(route.name):
            checking.problems.error(
                route.at("name"), f"`{route.name}` is no name", "lower-case letters, digits, `-` and `_`"
            )
        seen[route.name] = route
        providers = schema.identity.providers
        if route.provider is not None and route.provider not in providers and schema.identity.complete("providers"):
            hint = nearest(route.provider, providers)
            checking.problems.error(route.at("provider"), f"`{route.provider}` is no provider", hint=hint)
        _path(checking, route)
        _upstream(checking, route)
        _session(checking, route)
        _cors(checking, route)
        _headers(checking, route)
        if route.audience is not None and not route.audience.strip():
            checking.problems.error(route.at("audience"), "`audience` is empty")
        if route.audience == PORTAL_AUDIENCE:
            checking.problems.error(route.at("audience"), f"`{PORTAL_AUDIENCE}` is the portal's own audience")
    _hosts(checking)


def _hosts(checking: Checking) -> None:
    """Where routes live, against the portal and each other."""
    ports: dict[str, tuple[int, Route]] = {}
    places: dict[tuple[str, int, str], list[Route]] = {}
    for route in checking.schema.routes:
        at = route.at("host")
        read = checking.attempt(at, names.public_host, route.host, checking.portal_port)
        if read is None:
            continue
        host, port = read
        if host == checking.portal_host:
            checking.problems.error(
                at, f"`{host}` is the portal's host; a platform there could act for it", "a host name of its own"
            )
        other_port, other = ports.setdefault(host, (port, route))
        if other_port != port and other_port and port:
            checking.problems.error(
                at,
                f"`{host}` is used on ports {other_port} and {port}: cookies do not separate ports",
                "another host name",
                _first(other, "host"),
            )
        covered(checking, host, at)
        _place(checking, places, route, (host, port, names.prefix(route.path)))


def _place(
    checking: Checking, places: dict[tuple[str, int, str], list[Route]], route: Route, place: tuple[str, int, str]
) -> None:
    """`places` is keyed by the path in lower case: what differs in case alone may be the same to a platform."""
    host, port, prefix = place
    here = places.setdefault((host, port, prefix.lower()), [])
    for other in here:
        if names.prefix(other.path) == prefix:
            checking.problems.error(
                route.at("path"),
                f"route `{route.name}` is never reached: `{other.name}` has the same host and path",
                hint=_first(other, "name"),
            )
            break
        if "insensitive" in {route.paths.case, other.paths.case}:
            checking.problems.error(
                route.at("path"),
                f"routes `{other.name}` and `{route.name}` differ in case alone, which one of them ignores",
            )
            break
    here.append(route)


def _first(route: Route, key: str) -> str:
    at = route.at(key)
    return f"first at line {at.line}" if at else ""


def _path(checking: Checking, route: Route) -> None:
    problems = checking.problems
    said = prefix_fault(route.path)
    if said:
        problems.error(route.at("path"), said)
    elif (route.path + "/").lower().startswith(RESERVED + "/"):
        problems.error(route.at("path"), f"`{route.path}` is reserved: the proxy answers everything below `{RESERVED}`")
    if route.strip_prefix and names.prefix(route.path) == "/":
        problems.warning(route.at("strip_prefix"), "`strip_prefix` has no effect with `path: /`")


def _upstream(checking: Checking, route: Route) -> None:
    chosen, problems = route.upstream, checking.problems
    at = chosen.at("url") or route.at("upstream")
    read = checking.attempt(at, names.upstream, chosen.url)
    checking.not_zero(chosen)
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if getattr(chosen, one) and not getattr(chosen, other) and not chosen.damaged:
            problems.error(chosen.at(one), f"`{one}` without `{other}`")
    if chosen.ca is not None:
        checking.attempt(chosen.at("ca"), check_authorities, checking.path(chosen.ca))
    if chosen.certificate and chosen.key:
        leaf = checking.attempt(chosen.at("certificate"), read_leaf, checking.path(chosen.certificate))
        public_key = checking.attempt(chosen.at("key"), read_public_key, checking.path(chosen.key))
        if leaf is not None:
            validity(checking, chosen.certificate, leaf, chosen.at("certificate"))
            if public_key is not None and public_key != leaf.public_key:
                problems.error(
                    chosen.at("key"), f"the key {chosen.key} does not belong to the certificate {chosen.certificate}"
                )
    if read is None:
        return
    if read.scheme != "https":
        for key in ("ca", "certificate", "server_name"):
            if chosen.written(key):
                problems.error(chosen.at(key), f"`{key}` has no effect: the upstream is not https")
    if _is_ourselves(checking, read):
        problems.error(at, f"`{chosen.url}` is the proxy's own listener: requests would go round in circles")


def _is_ourselves(checking: Checking, upstream: UpstreamSettings) -> bool:
    for host, port in checking.binds:
        if upstream.scheme == "unix" or port != upstream.port:
            continue
        near = names.is_loopback(upstream.host) or names.is_unspecified(upstream.host)
        if upstream.host == host or (near and (names.is_unspecified(host) or names.is_loopback(host))):
            return True
    return False


def _session(checking: Checking, route: Route) -> None:
    general, own = checking.schema.session, route.session
    checking.not_zero(own)
    for key, most in (("idle", session_presets.idle(general)), ("absolute", session_presets.absolute(general))):
        wanted = getattr(own, key)
        if wanted is not None and wanted > most:
            checking.problems.error(
                own.at(key), f"`{key}` is longer than the general session's; a route may only shorten it"
            )
    for index, template in enumerate(own.ignore):
        said = template_fault(template)
        if said:
            checking.problems.error(own.at("ignore", index), said)


def _cors(checking: Checking, route: Route) -> None:
    if route.cors is None:
        return
    if not route.cors.origins and route.cors.complete("origins"):
        checking.problems.error(route.cors.at("origins"), "`origins` is empty", "exact origins, or no `cors` at all")
    for index, text in enumerate(route.cors.origins):
        at = route.cors.at("origins", index)
        if text in {"*", "null"}:
            checking.problems.error(at, f"`{text}` would let every web page act for people", "exact origins")
            continue
        read = checking.attempt(at, names.origin, text, ("https", "http"))
        if read is not None and read[0] == "http" and not names.is_loopback(read[1]):
            checking.problems.error(at, f"`{text}` is not https: anyone on its network could write its scripts")
        elif read is not None and text != names.origin_text(*read):
            checking.problems.error(at, f"browsers spell `{text}` differently", f"`{names.origin_text(*read)}`")


def _headers(checking: Checking, route: Route) -> None:
    secret, problems = route.shared_secret, checking.problems
    if route.identity_headers != "assertion" and secret is None and not route.damaged:
        problems.warning(
            route.at("identity_headers"),
            f"whoever reaches the platform past the proxy can claim to be anyone by `{route.identity_headers}`",
            hint="add `shared_secret`, or let the platform verify the assertion",
        )
    if secret is None:
        return
    if not _TOKEN.fullmatch(secret.header):
        problems.error(secret.at("header"), "not a header name", "letters, digits and `-`")
    elif _TAKEN_HEADERS.fullmatch(secret.header):
        problems.error(
            secret.at("header"), f"`{secret.header}` has a meaning already", "a name such as `X-Proxy-Secret`"
        )
    value = checking.secret(secret.at("value"), secret.value, "the shared secret")
    if value is not None and (value != value.strip() or not all(" " <= letter <= "~" for letter in value)):
        problems.error(secret.at("value"), "the shared secret must be printable ASCII without spaces around it")
