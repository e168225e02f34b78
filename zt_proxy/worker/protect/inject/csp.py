"""Lets the proxy's own script past a page's Content-Security-Policy, and nothing else (CSP Level 3).

Each policy of each header line is looked at by itself, those that only report too, because all of them hold at once.

| effective list for scripts                     | what is done                                                      |
|------------------------------------------------|-------------------------------------------------------------------|
| none, or with 'self', `*` or `https:`          | nothing                                                           |
| with 'strict-dynamic', where paths say nothing | a nonce for this one answer is added                              |
| the same, with 'unsafe-inline' in force        | nothing: a nonce would switch that off, so the script is blocked  |
| any other                                      | the path `https://HOST/.zt/` is added, 'none' dropped             |

The list is that of script-src-elem, else script-src, else a copy of default-src as a new script-src. `connect-src` gets
the path alike. What does not parse strictly is left as it is; a browser then blocks the script, which harms nobody.
"""

import re

POLICY = b"content-security-policy"
REPORT_ONLY = b"content-security-policy-report-only"

_WHITE = b" \t"
_DIRECTIVE = re.compile(rb"[ \t]*([A-Za-z0-9\-]+)(?:[ \t]+([!-+\-.-:<-~ \t]*))?")
"""A name, and a value of printable ASCII without `,` and `;` (§2.3)."""
_NONCE_OR_HASH = re.compile(rb"'(?:nonce|sha256|sha384|sha512)-[A-Za-z0-9+/_\-]+={0,2}'")
_NEEDED_IN_SANDBOX = frozenset((b"allow-scripts", b"allow-same-origin"))

Sources = list[bytes]


class Own:
    """What a page's policies have to let through: the places of the proxy at one origin."""

    __slots__ = ("covering", "path")

    def __init__(self, origin: bytes) -> None:
        """`origin` is the app's, such as `https://app.example.com`."""
        host = origin.removeprefix(b"https://")
        self.path = origin + b"/.zt/"
        self.covering = frozenset((b"'self'", b"*", b"https:", origin, host, origin + b"/", host + b"/", self.path))
        """Sources, in lower case, that let these places through as they are."""


def forbids(value: bytes) -> bool:
    """A policy in this header value puts the page into a sandbox in which the script could do nothing (§6.3.2)."""
    return any(_sandboxed(policy) for policy in value.split(b","))


def wants_nonce(value: bytes) -> bool:
    """A policy in this header value lets the script through by a nonce only."""
    return any(_takes_nonce(policy) for policy in map(_parse, value.split(b",")) if policy is not None)


def edited(value: bytes, own: Own, nonce: bytes) -> bytes:
    """A header value that lets the proxy's own places through, and what it let through before.

    `nonce` is the one on the tag; without one (empty) no policy is given any.
    """
    return b",".join(_edited(policy, own, nonce) for policy in value.split(b","))


# ---- one policy ----


class _Policy:
    """A policy, parsed: its directives as they stand, and the first of each name."""

    __slots__ = ("directives", "first")

    def __init__(self, directives: list[bytes], first: dict[bytes, tuple[int, Sources]]) -> None:
        self.directives = directives
        self.first = first
        """Name in lower case → place in `directives`, and the sources. Later ones of a name are ignored (§2.2.1)."""

    def sources(self, *names: bytes) -> tuple[bytes, Sources] | None:
        """Name and sources of the first of these directives that is there."""
        for name in names:
            found = self.first.get(name)
            if found is not None:
                return name, found[1]
        return None


def _parse(policy: bytes) -> _Policy | None:
    directives = policy.split(b";")
    first: dict[bytes, tuple[int, Sources]] = {}
    for number, directive in enumerate(directives):
        if not directive.strip(_WHITE):
            continue
        found = _DIRECTIVE.fullmatch(directive)
        if found is None:
            return None
        first.setdefault(found[1].lower(), (number, (found[2] or b"").split()))
    return _Policy(directives, first)


def _sandboxed(raw: bytes) -> bool:
    for directive in raw.split(b";"):
        words = directive.lower().split()
        if words and words[0] == b"sandbox":
            return not _NEEDED_IN_SANDBOX.issubset(words[1:])
    return False


def _script_sources(policy: _Policy) -> tuple[bytes, Sources] | None:
    return policy.sources(b"script-src-elem", b"script-src", b"default-src")


def _takes_nonce(policy: _Policy) -> bool:
    found = _script_sources(policy)
    if found is None:
        return False
    lower = [source.lower() for source in found[1]]
    if b"'strict-dynamic'" not in lower:
        return False
    # One nonce or hash in the list, and 'unsafe-inline' is without effect already (§6.7.3.2).
    return b"'unsafe-inline'" not in lower or any(map(_is_nonce_or_hash, found[1]))


def _is_nonce_or_hash(source: bytes) -> bool:
    name, dash, rest = source.partition(b"-")
    return _NONCE_OR_HASH.fullmatch(name.lower() + dash + rest) is not None


def _edited(raw: bytes, own: Own, nonce: bytes) -> bytes:
    policy = _parse(raw)
    if policy is None or not policy.first:
        return raw
    added: list[bytes] = []
    changed = False
    found = _script_sources(policy)
    if found is not None and (source := _needed(policy, found[1], own, nonce)):
        changed = True
        _allow(policy, found, b"script-src", source, added)
    found = policy.sources(b"connect-src", b"default-src")
    if found is not None and not _covered(found[1], own):
        changed = True
        _allow(policy, found, b"connect-src", own.path, added)
    if not changed:
        return raw
    directives = policy.directives
    while added and not directives[-1].strip(_WHITE):
        directives.pop()
    return b";".join(directives + added)


def _needed(policy: _Policy, sources: Sources, own: Own, nonce: bytes) -> bytes:
    """What the script needs to be loaded under these sources: nothing, a nonce, or the path."""
    if b"'strict-dynamic'" in (source.lower() for source in sources):
        return b"'nonce-%b'" % nonce if nonce and _takes_nonce(policy) else b""
    return b"" if _covered(sources, own) else own.path


def _covered(sources: Sources, own: Own) -> bool:
    return not own.covering.isdisjoint(source.lower() for source in sources)


def _allow(policy: _Policy, found: tuple[bytes, Sources], name: bytes, source: bytes, added: list[bytes]) -> None:
    """Add a source to the directive that was found; where that is default-src, to a copy of it under `name`."""
    held, sources = found
    kept = [each for each in sources if each.lower() != b"'none'"]
    if held == b"default-src":
        added.append(b" " + b" ".join((name, *kept, source)))
        return
    number = policy.first[held][0]
    spelled = policy.directives[number].split(None, 1)[0]
    space = b" " if policy.directives[number].startswith((b" ", b"\t")) else b""
    policy.directives[number] = space + b" ".join((spelled, *kept, source))
