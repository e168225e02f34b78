"""Many path templates at once: which of them fit a path, at a cost that hardly depends on how many there are.

Templates are kept under the whole segments with which they begin, so that a path is held against those alone that begin
as it does. What they say is a set of bits, one for each clause of the rules, as a Python integer.
"""

import re
from collections.abc import Callable, Iterable

from zt_proxy.policy.templates import compile_paths, literal_start

Pattern = Callable[[bytes], re.Match[bytes] | None]


class PathIndex:
    """Immutable: from a path to the bits of all templates that fit it."""

    __slots__ = ("_deepest", "_fold", "_patterns", "_trees", "_whole")

    def __init__(
        self, templates: Iterable[tuple[str, int]], *, case_insensitive: bool = False, decoded: bool = False
    ) -> None:
        """`templates`: (template, its bits). Raises ConfigurationError for one that cannot be read."""
        together: dict[str, int] = {}
        for template, bits in templates:
            together[template] = together.get(template, 0) | bits
        self._fold = case_insensitive
        self._whole: dict[bytes, int] = {}
        self._trees: dict[bytes, int] = {}
        self._patterns: dict[bytes, list[tuple[Pattern, int]]] = {}
        for template, bits in together.items():
            start, shape = literal_start(template, case_insensitive=case_insensitive, decoded=decoded)
            if shape == "pattern":
                fits = compile_paths((template,), case_insensitive=case_insensitive, decoded=decoded).fullmatch
                self._patterns.setdefault(start, []).append((fits, bits))
            else:
                into = self._trees if shape else self._whole
                into[start] = into.get(start, 0) | bits
        starts = [*self._trees, *self._patterns]
        self._deepest = max((start.count(b"/") for start in starts), default=-1)

    def bits(self, path: bytes) -> int:
        """Bits of the templates that fit."""
        if self._fold:
            path = path.lower()
        found = self._whole.get(path, 0)
        end = (
            0 if path[:1] in {b"/", b""} else len(path)
        )  # of the start that is looked up: as far as each slash, and all
        trees, patterns, length = self._trees, self._patterns, len(path)
        for _ in range(self._deepest + 1):
            start = path[:end]
            if start in trees:
                found |= trees[start]
            if start in patterns:
                for fits, bits in patterns[start]:
                    if fits(path) is not None:
                        found |= bits
            if end == length:
                break
            end = path.find(b"/", end + 1)
            if end < 0:
                end = length
        return found
