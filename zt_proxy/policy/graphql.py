"""Enough of GraphQL (October 2021) to know what a document asks for at its top: types, names, top-level fields.

Nothing below the top level is understood, only skipped in balance. What cannot be read is refused, never guessed at.
"""

import re
from collections.abc import Mapping

import msgspec

_TOKEN = re.compile(
    r'[\s,\ufeff]+|#[^\n\r]*|(?P<block>"""(?:[^"\\]|\\.|"(?!""))*""")|(?P<string>"(?:[^"\\\n\r]|\\.)*")'
    r"|(?P<name>[_A-Za-z][_0-9A-Za-z]*)|(?P<number>-?[0-9][0-9.eE+-]*)|(?P<mark>\.\.\.|[!$&()\[\]{}:=@|])",
    re.DOTALL,
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_TYPES = frozenset({"query", "mutation", "subscription"})
_MAX_FIELDS = 256
_MAX_DEPTH = 16
_MAX_TOKENS = 20_000
"""In all documents of a request, spaces and comments between them included: what they cost is some 30 ms at most."""


class Part(msgspec.Struct, frozen=True):
    """One top-level field of one operation."""

    type: str
    operation: str
    """The name the client gave; may be empty."""
    field: str
    """The name in the platform's schema, not the alias."""


class Unreadable(Exception):
    """Not a document this reader is sure about."""


class Budget:
    """The tokens that all documents of one request may have between them."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _MAX_TOKENS


def read(document: str, budget: Budget | None = None) -> tuple[Part, ...]:
    """Every top-level field of every operation of a document. Raises Unreadable.

    All operations count, whichever of them the platform is told to run.
    """
    return _Document(_tokens(document, budget or Budget())).parts()


def _tokens(text: str, budget: Budget) -> list[str]:
    tokens: list[str] = []
    position = 0
    while budget.left:
        if position >= len(text):
            return tokens
        budget.left -= 1
        found = _TOKEN.match(text, position)
        if found is None:
            raise Unreadable("a character that no GraphQL document has")
        position = found.end()
        if found.lastgroup in {"block", "string", "number"}:
            tokens.append('"')
        elif found.lastgroup is not None:
            tokens.append(found[0])
    if position >= len(text):
        return tokens
    raise Unreadable("a document of too many tokens")


Selection = list[tuple[str, str, "Selection"]]
"""("field", name, []), ("spread", fragment, []) or ("inline", "", what is in it)."""


class _Document:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def parts(self) -> tuple[Part, ...]:
        operations: list[tuple[str, str, Selection]] = []
        fragments: dict[str, Selection] = {}
        while self._at < len(self._tokens):
            word = self._next()
            if word == "{":
                operations.append(("query", "", self._selection(0)))
            elif word in _TYPES:
                name = self._next() if _is_name(self._peek()) else ""
                if self._peek() == "(":
                    self._skip()
                self._directives()
                self._expect("{")
                operations.append((word, name, self._selection(0)))
            elif word == "fragment":
                name = self._name()
                if name in fragments:
                    raise Unreadable("two fragments of one name")
                if self._name() != "on":
                    raise Unreadable("a fragment without a type")
                self._name()
                self._directives()
                self._expect("{")
                fragments[name] = self._selection(0)
            else:
                raise Unreadable("a definition that is neither an operation nor a fragment")
        found: dict[Part, None] = {}
        for kind, name, selection in operations:
            for field in _fields(selection, fragments, 0):
                found[Part(kind, name, field)] = None
                if len(found) > _MAX_FIELDS:
                    raise Unreadable("too many top-level fields")
        if not found:
            raise Unreadable("no operation")
        return tuple(found)

    def _selection(self, depth: int) -> Selection:
        """After `{`, up to and with its `}`."""
        if depth > _MAX_DEPTH:
            raise Unreadable("nested too deep")
        items: Selection = []
        while (word := self._next()) != "}":
            if word == "...":
                items.append(self._spread(depth))
                continue
            if not _is_name(word):
                raise Unreadable("a selection without a name")
            if self._peek() == ":":
                self._next()
                word = self._name()
            if self._peek() == "(":
                self._skip()
            self._directives()
            if self._peek() == "{":
                self._skip()
            items.append(("field", word, []))
        if not items:
            raise Unreadable("an empty selection")
        return items

    def _spread(self, depth: int) -> tuple[str, str, Selection]:
        following = self._peek()
        if _is_name(following) and following != "on":
            name = self._next()
            self._directives()
            return ("spread", name, [])
        if following == "on":
            self._next()
            self._name()
        self._directives()
        self._expect("{")
        return ("inline", "", self._selection(depth + 1))

    def _directives(self) -> None:
        while self._peek() == "@":
            self._next()
            self._name()
            if self._peek() == "(":
                self._skip()

    def _skip(self) -> None:
        """One bracket and all within it."""
        waiting: list[str] = []
        while True:
            word = self._next()
            if word in _CLOSING:
                waiting.append(_CLOSING[word])
            elif word in _CLOSING.values():
                if waiting.pop() != word:
                    raise Unreadable("brackets that do not pair")
                if not waiting:
                    return

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise Unreadable("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _name(self) -> str:
        word = self._next()
        if not _is_name(word):
            raise Unreadable("a name is missing")
        return word

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            raise Unreadable(f"`{mark}` is missing")


def _fields(selection: Selection, fragments: Mapping[str, Selection], depth: int) -> list[str]:
    if depth > _MAX_DEPTH:
        raise Unreadable("fragments that go round in circles")
    names: list[str] = []
    for kind, name, inside in selection:
        if kind == "field":
            names.append(name)
        elif kind == "inline":
            names += _fields(inside, fragments, depth + 1)
        elif name in fragments:
            names += _fields(fragments[name], fragments, depth + 1)
        else:
            raise Unreadable("a fragment that is not there")
        if len(names) > _MAX_FIELDS:
            raise Unreadable("too many top-level fields")
    return names


def _is_name(word: str) -> bool:
    return bool(word) and (word[0] == "_" or word[0].isalpha())
