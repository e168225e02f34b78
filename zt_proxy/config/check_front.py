"""Listeners, certificates, the portal, limits: what stands before any route."""

from zt_proxy.config import names, session_presets
from zt_proxy.config.build import runtime_dir
from zt_proxy.config.certificates import Leaf, read_leaf, read_public_key
from zt_proxy.config.check import EXPIRY_WARNING, Checking
from zt_proxy.config.problems import Mark
from zt_proxy.config.schema import Listener

MAX_SOCKET_PATH = 107
"""Bytes of `sun_path`, less its terminator (unix(7))."""
LONGEST_SOCKET = "operator.sock"
MIN_RING = 64 * 1024
MAX_FORM = 8 * 1024 * 1024
"""A kept form has to fit into one message to a worker, beside others."""


def check(checking: Checking) -> None:
    schema, problems = checking.schema, checking.problems
    if not schema.listen and schema.complete("listen"):
        problems.error(schema.at("listen"), "`listen` is empty", "at least one listener")
    # A listener that was not understood at all is not in the list any more; its certificates are unknown.
    if not schema.complete("listen") and not any(listener.damaged for listener in schema.listen):
        checking.all_leaves_known = False
    seen: set[str] = set()
    for listener in schema.listen:
        if listener.name in seen:
            problems.error(listener.at("name"), f"the listener name `{listener.name}` is used twice")
        seen.add(listener.name)
        _listener(checking, listener)
    _portal(checking)
    checking.networks(schema, "trusted_proxies", schema.trusted_proxies)
    _bounds(checking)


def _listener(checking: Checking, listener: Listener) -> None:
    bind = checking.attempt(listener.at("address"), names.bind, listener.address)
    if bind is not None:
        if bind in checking.binds and bind[1]:
            checking.problems.error(listener.at("address"), f"`{listener.address}` is used by another listener")
        if not names.is_address(bind[0]) and not names.is_loopback(bind[0]):
            checking.problems.warning(
                listener.at("address"), f"`{bind[0]}` is resolved at start", hint="an address is more certain"
            )
        checking.binds.append(bind)
    if listener.proxy_protocol is not None:
        if not listener.proxy_protocol.from_ and listener.proxy_protocol.complete("from"):
            checking.problems.error(listener.proxy_protocol.at("from"), "`from` is empty", "the balancers' networks")
        checking.networks(listener.proxy_protocol, "from", listener.proxy_protocol.from_)
    _certificates(checking, listener)


def _certificates(checking: Checking, listener: Listener) -> None:
    tls = listener.tls
    problems = checking.problems
    if tls.damaged:
        checking.all_leaves_known = False
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if getattr(tls, one) and not getattr(tls, other) and not tls.damaged:
            problems.error(tls.at(one), f"`{one}` without `{other}`")
    if tls.certificate and tls.certificates:
        problems.error(tls.at("certificates"), "both `certificate` and `certificates`", "one of them")
    if not tls.certificate and not tls.key and not tls.certificates and not tls.damaged:
        problems.error(tls.start, f"listener `{listener.name}` has no certificate", "`certificate` and `key`")
    if tls.certificate:
        _pair(checking, tls.certificate, tls.key, (tls.at("certificate"), tls.at("key")))
    for single in tls.certificates:
        _pair(checking, single.certificate, single.key, (single.at("certificate"), single.at("key")))


def _pair(checking: Checking, chain: str, key: str | None, at: tuple[Mark | None, Mark | None]) -> None:
    leaf = checking.attempt(at[0], read_leaf, checking.path(chain))
    public_key = checking.attempt(at[1], read_public_key, checking.path(key)) if key else None
    if leaf is None:
        checking.all_leaves_known = False
        return
    checking.leaves.append(leaf)
    if public_key is not None and public_key != leaf.public_key:
        checking.problems.error(at[1], f"the key {key} does not belong to the certificate {chain}")
    validity(checking, chain, leaf, at[0])
    if not leaf.names and not leaf.addresses:
        checking.problems.error(at[0], f"{chain} names no host in its subject alternative names; browsers refuse it")


def validity(checking: Checking, name: str, leaf: Leaf, at: Mark | None) -> None:
    """Expired and not yet valid are errors, soon to expire is a warning."""
    if leaf.not_after < checking.now:
        checking.problems.error(at, f"{name} expired on {leaf.not_after:%Y-%m-%d %H:%M} UTC")
    elif leaf.not_before > checking.now:
        checking.problems.error(at, f"{name} is not valid before {leaf.not_before:%Y-%m-%d %H:%M} UTC")
    elif leaf.not_after - checking.now < EXPIRY_WARNING:
        checking.problems.warning(at, f"{name} expires on {leaf.not_after:%Y-%m-%d %H:%M} UTC")


def covered(checking: Checking, host: str, at: Mark | None) -> None:
    """A host that people open needs a certificate that names it."""
    if checking.all_leaves_known and checking.leaves and not any(leaf.covers(host) for leaf in checking.leaves):
        offered = sorted({name for leaf in checking.leaves for name in (*leaf.names, *leaf.addresses)})
        checking.problems.error(
            at, f"no certificate of a listener covers `{host}`", hint=f"covered: {', '.join(offered) or 'nothing'}"
        )


def _portal(checking: Checking) -> None:
    portal = checking.schema.portal
    if portal.damaged and not portal.url:
        return  # a stand-in: that it is missing has been told
    read = checking.attempt(portal.at("url"), names.origin, portal.url)
    if read is not None:
        _, checking.portal_host, checking.portal_port = read
        covered(checking, checking.portal_host, portal.at("url"))


def _bounds(checking: Checking) -> None:
    schema, problems = checking.schema, checking.problems
    for model in (schema.session, schema.assertion, schema.limits, schema.audit, schema.identity.login):
        checking.not_zero(model)
    if session_presets.idle(schema.session) > session_presets.absolute(schema.session):
        problems.error(schema.session.at("idle"), "`idle` is longer than `absolute`, so it would never end a session")
    if schema.session.form_limit > MAX_FORM:
        problems.error(schema.session.at("form_limit"), "`form_limit` is more than control keeps", "`8MiB` or less")
    if schema.assertion.overlap > schema.assertion.rotation:
        problems.error(schema.assertion.at("overlap"), "`overlap` is longer than `rotation`")
    if 0 < schema.audit.ring < MIN_RING:
        problems.error(schema.audit.at("ring"), "`ring` is too small for a burst of requests", "`64KiB` or more")
    if schema.metrics is not None:
        bind = checking.attempt(schema.metrics.at("address"), names.bind, schema.metrics.address)
        if bind is not None and bind in checking.binds and bind[1]:
            problems.error(schema.metrics.at("address"), f"`{schema.metrics.address}` is used by a listener")
        if bind is not None and names.is_unspecified(bind[0]):
            problems.warning(
                schema.metrics.at("address"), "metrics are served on every address, without TLS and without sign-in"
            )
    socket = runtime_dir(checking.base, schema) / LONGEST_SOCKET
    if len(bytes(socket.absolute())) > MAX_SOCKET_PATH:
        key = "runtime_dir" if schema.runtime_dir else "state_dir"
        problems.error(
            schema.at(key), f"{socket} is too long for a socket ({MAX_SOCKET_PATH} bytes)", "a shorter `runtime_dir`"
        )
