"""Which values of a JSON document a path names: a part of JSONPath (RFC 9535).

    $.customer.iban      a member of a member           $..iban           a member of that name, at any depth
    $.items[*].salary    the same of every element      $["key with."]    a name in quotes, escapes as in JSON
    $.totals.*           every member or element

Indices, slices, filters and unions are refused: a mask that depends on where a value stands would miss it elsewhere.
"""

import re
from typing import NamedTuple

import msgspec

MAX_SEGMENTS = 16
MAX_TEXT = 512

_SEGMENT = re.compile(
    r"""
      (?P<dots> \.\.?) (?: (?P<star>\*) | (?P<name>[^\s.\[\]*"'$@?()]+) | (?= \[ ) )
    | \[ \s* (?: (?P<any>\*) | (?P<quoted> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' ) ) \s* \]
    """,
    re.VERBOSE,
)


class Segment(NamedTuple):
    """One step down. `name` None: every member and every element. `deep`: after any number of steps."""

    name: str | None
    deep: bool


Path = tuple[Segment, ...]


def parse(text: str) -> Path:
    """The steps of a path, one at least. Raises ValueError, with words for the operator, for what is none."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"longer than {MAX_TEXT} characters")
    if not text.startswith("$"):
        raise ValueError("a path begins with `$`, such as `$..iban`")
    segments: list[Segment] = []
    at, deep = 1, False
    while at < len(text):
        found = _SEGMENT.match(text, at)
        if found is None:
            raise ValueError(f"`{text[at:]}` is not understood at character {at + 1}")
        dots = found["dots"]
        if dots is not None and (found["star"] or found["name"]) is None:
            if dots == "." or deep:
                raise ValueError(f"a name is missing at character {at + 1}")
            deep = True
        else:
            segments.append(Segment(_name(found), deep or dots == ".."))
            deep = False
        at = found.end()
    if deep or not segments:
        raise ValueError("a path names a member, such as `$..iban`; to hide whole answers, write a rule that denies")
    if len(segments) > MAX_SEGMENTS:
        raise ValueError(f"more than {MAX_SEGMENTS} steps")
    return tuple(segments)


def _name(found: re.Match[str]) -> str | None:
    if found["quoted"] is None:
        return found["name"]
    inside = found["quoted"][1:-1]
    if found["quoted"][0] == "'":
        inside = inside.replace("\\'", "'").replace('"', '\\"')
    try:
        return msgspec.json.decode(f'"{inside}"', type=str)
    except msgspec.DecodeError:
        raise ValueError(f"{found['quoted']} is no text as JSON writes it") from None
