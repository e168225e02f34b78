"""Path templates of rules: which can match anything, and which cover which.

What they mean is `policy.templates`; this only finds mistakes.
"""

import re
import string
from functools import lru_cache

_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")
_PLAIN = _UNRESERVED | frozenset("!$&'()+,=:@;/")  # pchar of RFC 3986 §3.3 without the wild card
_MANY = 64
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")


def template_fault(template: str, *, parameters: bool = True, double_slash: bool = True) -> str:
    """Why a template can match no path that gets through, or an empty string."""
    if not template.startswith("/"):
        return f"`{template}` does not begin with `/`"
    for character in ("?", "#"):
        if character in template:
            return f"`{template}` holds `{character}`: rules look at the path, which ends before it"
    if "\\" in template or any(ord(character) < 32 or ord(character) == 127 for character in template):
        return f"{template!r} holds a character that no path may have"
    if any(match[1] is None for match in _ESCAPE.finditer(template)):
        return f"`{template}` holds a `%` that is no escape such as `%20`"
    segments = template.split("/")[1:]
    if any(segment in {".", ".."} for segment in segments):
        return f"`{template}` holds a dot segment; paths are compared without them"
    if any("**" in segment and segment != "**" for segment in segments):
        return f"`{template}`: `**` must be a whole segment, such as `/a/**`"
    if not double_slash and "" in segments[:-1]:
        return f"`{template}` holds `//`, which the route refuses unless `paths: {{double_slash: allow}}`"
    if not parameters and ";" in template:
        return f"`{template}` holds `;`, which the route refuses unless `paths: {{parameters: allow}}`"
    return ""


def prefix_fault(prefix: str) -> str:
    """Why a route's `path` is no canonical prefix, or an empty string; with the right spelling where there is one."""
    if "*" in prefix:
        return f"`{prefix}` holds `*`; a route's path is a plain prefix, wild cards belong in its rules"
    said = template_fault(prefix, double_slash=False)
    if said:
        return said
    for match in _ESCAPE.finditer(prefix):
        character = chr(int(match[1], 16))
        right = character if character in _UNRESERVED else match[0].upper()
        if match[0] != right:
            return f"`{prefix}`: write `{right}` for `{match[0]}`"
    for character in prefix:
        if character not in _PLAIN and character != "%":
            escaped = "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))
            return f"`{prefix}`: write `{escaped}` for `{character}`"
    return ""


def covers(wide: str, narrow: str) -> bool:
    """Whether every path that `narrow` matches is matched by `wide`. True is certain, False is not."""
    left, right = wide.split("/")[1:], narrow.split("/")[1:]
    if len(left) > _MANY or len(right) > _MANY:
        return wide == narrow

    @lru_cache(None)
    def rest(i: int, j: int) -> bool:
        if i == len(left):
            return j == len(right)
        if left[i] == "**":
            return rest(i + 1, j) or (j < len(right) and rest(i, j + 1))
        if j == len(right) or right[j] == "**":
            return False
        return _segment_covers(left[i], right[j]) and rest(i + 1, j + 1)

    return rest(0, 0)


def _segment_covers(wide: str, narrow: str) -> bool:
    # A `*` of `narrow` is a character that only a `*` of `wide` takes: then it takes whatever that stands for.
    if wide.count("*") > 3:
        return wide == narrow  # enough of them would make the search slow
    return re.fullmatch("[^/]*".join(re.escape(part) for part in wide.split("*")), narrow) is not None
