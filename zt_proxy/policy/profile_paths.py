"""Path templates with captures, and the index that finds the few that may fit a path.

`{name}` and `*` are a part of one segment, a named one never empty; `{name**}` and `**` are whole segments, any number
of them, once in a template. With one wild card in a segment no path can make the patterns backtrack far.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from zt_proxy.core.errors import ConfigurationError

T = TypeVar("T")

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_REWRITE = re.compile(rb"%[0-9A-Fa-f]{2}|[^!$&-;=@-Z_a-z~]")
_WILD = re.compile(r"\{([a-z][a-z0-9_]*)(\*\*)?\}|\*\*|\*")
_CAPTURE = re.compile(r"[a-z][a-z0-9_]*")

_DISGUISE = re.compile(rb"[%;A-Z]|//")
_PARAMETERS = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"/{2,}")

ANY_METHOD = b""
ANYTHING = ("/**",)
"""The templates of a matcher that names none."""


def fault(template: str) -> str:
    """Why a template can match nothing, or an empty string."""
    if not template.startswith("/"):
        return f"`{template}` does not begin with `/`"
    if any(character in template for character in "?#\\") or not template.isprintable():
        return f"`{template}` holds a character that no path may have"
    if template.count("**") > 1:
        return f"`{template}` has more than one `**`"
    names = [found[1] for found in _WILD.finditer(template) if found[1]]
    if len(names) != len(set(names)):
        return f"`{template}` uses one capture twice"
    segments = template.split("/")[1:]
    if "" in segments[:-1]:
        return f"`{template}` holds `//`"
    return next(filter(None, (_segment_fault(segment, template) for segment in segments)), "")


def _segment_fault(segment: str, template: str) -> str:
    if segment in {".", ".."}:
        return f"`{template}` holds a dot segment"
    wild = list(_WILD.finditer(segment))
    rest = _WILD.sub("", segment)
    if "{" in rest or "}" in rest:
        return f"`{template}`: `{segment}` is no capture; write `{{name}}` or `{{name**}}` with lower-case letters"
    if len(wild) > 1:
        return f"`{template}`: `{segment}` has more than one wild card"
    if any(found[0].endswith(("**", "**}")) and rest for found in wild):
        return f"`{template}`: `**` must be a whole segment"
    return ""


def captures(template: str) -> frozenset[str]:
    """The names a template gives to parts of the path."""
    return frozenset(found[1] for found in _WILD.finditer(template) if found[1])


def plain_template(template: str) -> str:
    """With `*` and `**` for captures, as templates of rules are written."""
    return _WILD.sub(lambda found: "**" if found[2] or found[0] == "**" else "*", template)


def is_general(template: str) -> bool:
    """It names nothing: any path, or any of a length, fits."""
    return not _WILD.sub("", template).strip("/")


def plain_reading(path: bytes) -> bytes | None:
    """The path as a careless platform would read it: decoded, without parameters, without empty segments, without what
    an encoded `?` or `#` hides. None: it is clean, and lower case, as it stands."""
    if _DISGUISE.search(path) is None:
        return None
    decoded = unquote_to_bytes(path).partition(b"?")[0].partition(b"#")[0]
    return trimmed(_SLASHES.sub(b"/", _PARAMETERS.sub(b"", decoded)))


def trimmed(path: bytes) -> bytes:
    """Without one `/` at the end; the root is empty."""
    return path[:-1] if path.endswith(b"/") else path


class Entry(Generic[T]):
    """One template of one matcher, ready to be held against a path."""

    __slots__ = ("matcher", "order", "pattern")

    def __init__(self, order: int, matcher: T, pattern: "re.Pattern[bytes] | None") -> None:
        self.order = order
        self.matcher = matcher
        self.pattern = pattern
        """None: being found is fitting."""


class _Node(Generic[T]):
    __slots__ = ("below", "closed", "found_inside", "found_last", "open")

    def __init__(self) -> None:
        self.below: dict[bytes, _Node[T]] = {}
        self.open: list[tuple[frozenset[bytes], Entry[T]]] = []
        self.closed: list[tuple[frozenset[bytes], Entry[T]]] = []
        self.found_inside: dict[bytes, tuple[Entry[T], ...]] = {}
        self.found_last: dict[bytes, tuple[Entry[T], ...]] = {}


class PathIndex(Generic[T]):
    """Templates by their literal beginning. `decoded`: for plain readings, which fold case as well."""

    def __init__(self, *, folded: bool, decoded: bool = False) -> None:
        self._folded = folded or decoded
        self._decoded = decoded
        self._root: _Node[T] = _Node()
        self._methods: set[bytes] = {ANY_METHOD}
        self._count = 0

    def add(self, template: str, methods: frozenset[bytes], matcher: T, order: int) -> None:
        """`methods` empty: any. Raises ConfigurationError for a template that cannot match."""
        said = fault(template)
        if said:
            raise ConfigurationError(said)
        segments = [segment for segment in template.split("/")[1:] if segment]
        node, literal = self._root, 0
        for segment in segments:
            if _WILD.search(segment):
                break
            literal += 1
            node = node.below.setdefault(self._literal(segment), _Node())
        self._methods |= methods
        if literal == len(segments):
            node.closed.append((methods, Entry(order, matcher, None)))
        else:
            bare = literal == len(segments) - 1 and segments[-1] == "**"
            node.open.append((methods, Entry(order, matcher, None if bare else self._pattern(segments))))

    def freeze(self) -> None:
        """After the last `add`: work out what a look-up finds."""
        self._freeze(self._root, [])

    def _freeze(self, node: _Node[T], above: Sequence[tuple[frozenset[bytes], Entry[T]]]) -> None:
        inside = [*above, *node.open]
        for method in self._methods:
            node.found_inside[method] = _chosen(inside, method)
            node.found_last[method] = _chosen([*inside, *node.closed], method)
        for child in node.below.values():
            self._freeze(child, inside)

    def find(self, method: bytes, path: bytes) -> tuple[Entry[T], ...]:
        """What may fit, in the order of the profile; `path` is trimmed."""
        node = self._root
        method = method if method in self._methods else ANY_METHOD
        if not path:
            return node.found_last[method]
        for segment in (path.lower() if self._folded else path).split(b"/")[1:]:
            following = node.below.get(segment)
            if following is None:
                return node.found_inside[method]
            node = following
        return node.found_last[method]

    def _literal(self, text: str) -> bytes:
        raw = text.encode()
        spelled = unquote_to_bytes(raw) if self._decoded else _REWRITE.sub(_canonical, raw)
        return spelled.lower() if self._folded else spelled

    def _pattern(self, segments: Iterable[str]) -> "re.Pattern[bytes]":
        text = b"".join(self._segment(segment) for segment in segments)
        return re.compile(text, re.DOTALL | (re.IGNORECASE if self._folded else 0))

    def _segment(self, segment: str) -> bytes:
        found = _WILD.search(segment)
        if found is None:
            return b"/" + re.escape(self._literal(segment))
        name = (found[1] or "").encode()
        if found[2] or found[0] == "**":
            return b"(?:/(?P<" + name + b">.*))?" if name else b"(?:/.*)?"
        wild = b"(?P<" + name + b">[^/]+)" if name else b"[^/]*"
        before, after = segment[: found.start()], segment[found.end() :]
        return b"/" + re.escape(self._literal(before)) + wild + re.escape(self._literal(after))


def _chosen(entries: Sequence[tuple[frozenset[bytes], Entry[T]]], method: bytes) -> tuple[Entry[T], ...]:
    fitting = [entry for methods, entry in entries if not methods or method in methods]
    return tuple(sorted(fitting, key=lambda entry: entry.order))


def _canonical(found: re.Match[bytes]) -> bytes:
    byte = int(found[0][1:], 16) if len(found[0]) == 3 else found[0][0]
    return bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte
