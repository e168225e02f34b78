"""Path templates as anchored patterns over bytes, in time linear in the path.

`*` is any part of one segment, also none; `**` is a whole segment and stands for any number of them, also none:
`/a/**` is `/a`, `/a/` and `/a/b/c`, never `/ab`. Everything else is literal. Each wild card between two literals is
matched at its first fit inside an atomic group: for globs that loses nothing, and no path can make it backtrack.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import unquote_to_bytes

from zt_proxy.core.errors import ConfigurationError

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_REWRITE = re.compile(rb"%[0-9A-Fa-f]{2}|[^!$&-;=@-Z_a-z~]")
_END = rb"(?=/|\Z)"
_DISGUISE = re.compile(rb"[%;]|//")
_PARAMETERS = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"/{2,}")


def compile_paths(
    templates: Sequence[str], *, case_insensitive: bool = False, decoded: bool = False
) -> re.Pattern[bytes]:
    """One pattern for `fullmatch` that fits what any of the templates fits; no template fits nothing.

    `case_insensitive` folds ASCII letters only. `decoded` makes it a pattern for percent-decoded paths. Raises
    ConfigurationError for a template without leading `/`, with `**` inside a segment, or with an empty or dot segment
    that no canonical path can have.
    """
    patterns = [_translate(template, decoded) for template in templates]
    body = b"|".join(patterns) if patterns else rb"(?!)"
    return re.compile(b"(?:" + body + b")", re.DOTALL | (re.IGNORECASE if case_insensitive else 0))


def literal_start(template: str, *, case_insensitive: bool = False, decoded: bool = False) -> tuple[bytes, str]:
    """The whole segments before the first wild card, as a path has them, and what follows: `""` nothing, `"**"` any
    number of segments, else a pattern. Raises ConfigurationError as `compile_paths` does."""
    segments = _segments(template)
    plain = next((index for index, segment in enumerate(segments) if "*" in segment), len(segments))
    start = b"".join(b"/" + _literal(segment, decoded) for segment in segments[:plain])
    rest = segments[plain:]
    shape = "" if not rest else "**" if all(segment == "**" for segment in rest) else "pattern"
    return start.lower() if case_insensitive else start, shape


def wildcards(patterns: Iterable[str]) -> Callable[[str], object]:
    """Whether a text is like one of the patterns; `*` is any run of characters, everything else itself."""
    # Each `*` between two literals takes the first fit and never tries another: no text can make it backtrack.
    bodies = []
    for pattern in patterns:
        first, *rest = (re.escape(part) for part in pattern.split("*"))
        middle = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
        bodies.append(first + middle + (f".*{rest[-1]}" if rest else ""))
    return re.compile("|".join(f"(?:{body})" for body in bodies), re.DOTALL).fullmatch


def plain_reading(path: bytes) -> bytes | None:
    """The path as a careless platform reads it: percent-decoded, without parameters, without empty segments, without
    what an encoded `?` or `#` hides; None if it can only be read one way."""
    if _DISGUISE.search(path) is None:
        return None
    decoded = unquote_to_bytes(path).partition(b"?")[0].partition(b"#")[0]
    return _SLASHES.sub(b"/", _PARAMETERS.sub(b"", decoded))


def _segments(template: str) -> list[str]:
    if template == "**":
        template = "/**"
    if not template.startswith("/"):
        raise ConfigurationError(f"path template {template!r} does not begin with /")
    segments = template[1:].split("/")
    if any("**" in segment and segment != "**" for segment in segments):
        raise ConfigurationError(f"path template {template!r}: ** must be a whole segment")
    if any(segment in {".", ".."} for segment in segments):
        raise ConfigurationError(f"path template {template!r} has a segment that no path can have")
    return segments


def _translate(template: str, decoded: bool) -> bytes:
    segments = _segments(template)
    chunks: list[bytes] = [b""]
    for index, segment in enumerate(segments):
        if segment != "**":
            chunks[-1] += b"/" + _segment(segment, decoded)
        elif index == 0 or segments[index - 1] != "**":
            chunks.append(b"")
    first, rest = chunks[0], chunks[1:]
    if not rest:
        return first
    middle = b"".join(b"(?>(?:/[^/]*+)*?" + chunk + _END + b")" for chunk in rest[:-1])
    return first + middle + (b"(?:/[^/]*+)*" + rest[-1] if rest[-1] else b"(?:/.*)?")


def _segment(segment: str, decoded: bool) -> bytes:
    first, *rest = (re.escape(_literal(part, decoded)) for part in segment.split("*"))
    if not rest:
        return first
    middle = b"".join(b"(?>[^/]*?" + part + b")" for part in rest[:-1] if part)
    return first + middle + (b"[^/]*" + rest[-1] + _END if rest[-1] else b"[^/]*+")


def _literal(text: str, decoded: bool) -> bytes:
    """Spelled as the canonical target spells it: see `core.http.Target`."""
    raw = text.encode()
    return unquote_to_bytes(raw) if decoded else _REWRITE.sub(_canonical, raw)


def _canonical(found: re.Match[bytes]) -> bytes:
    byte = int(found[0][1:], 16) if len(found[0]) == 3 else found[0][0]
    return bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte
