"""Finds the values that paths name in a JSON document, by bytes, and cuts or replaces them where they stand.

Everything else stays as it is, byte for byte: numbers of any length, the order of members, blanks. The document must
have been found valid before; then the tokens of JSON can be told apart without looking further (RFC 8259 §2).
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from zt_proxy.worker.protect.mask.paths import Path
from zt_proxy.worker.protect.mask.ways import Way

STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
BLANK = rb"[ \t\n\r]*+"
SCALAR = rb'[^"{}\[\],: \t\n\r]++'
COLON = BLANK + rb":" + BLANK
MEMBER, MEMBER_OPENING, OPENING, CLOSING = 2, 3, 4, 5
"""What a token is: a member with a scalar, or with the bracket that its value begins with; a bracket; or an element."""
TOKENS = 100_000
"""Tokens that are looked at in a small document; a large one may have more, but not brackets alone (ZT-DOS-12)."""
OTHER = "\udfff"
"""Stands for all names that no path has; no text of JSON decodes to it."""
MAX_STATES = 1024
"""Sets of steps that are remembered; more are worked out anew each time."""

Target = tuple[Path, Way | None]
"""A path, and what becomes of the values it names; None: they are taken out."""

Steps = frozenset[tuple[int, int]]
"""Where in which paths a value stands: (target, steps done)."""


class Found:
    """A value that is named: from the start of its member or element, and of the value itself, to its end."""

    __slots__ = ("end", "start", "value", "way")

    def __init__(self, start: int, value: int, end: int, way: Way | None) -> None:
        self.start = start
        self.value = value
        self.end = end
        self.way = way


class State:
    """A set of steps, and where each name leads from here. `hit`: the first target whose path ends here, or None."""

    __slots__ = ("dead", "hit", "next", "steps")

    def __init__(self, steps: Steps, targets: Sequence[Target]) -> None:
        self.steps = steps
        self.dead = not steps
        self.next: dict[str | None, State] = {}
        done = [index for index, count in steps if count == len(targets[index][0])]
        self.hit: int | None = min(done) if done else None


class Scanner:
    """All targets of one reader, as one machine. Of several that name a value the first one counts."""

    def __init__(self, targets: Sequence[Target], *, folds: bool = False) -> None:
        """`folds`: ASCII letters of names match in either case."""
        self._targets = [(tuple(_folded(path) if folds else path), way) for path, way in targets]
        self._folds = folds
        self._names = {segment.name for path, _ in self._targets for segment in path if segment.name is not None}
        self._states: dict[Steps, State] = {}
        self._root = self._state(frozenset((index, 0) for index in range(len(self._targets))))
        self._tokens = re.compile(
            self._skipped()
            + rb"(?:(" + STRING + rb")" + COLON + rb"(?:(" + STRING + rb"|" + SCALAR + rb")|([{\[]))"
            + rb"|([{\[])|([}\]])|(" + STRING + rb"|" + SCALAR + rb"))",
            re.DOTALL,
        )  # fmt: skip

    def find(self, body: bytes) -> Iterator[Found]:
        """Every value that is named, in order; nothing inside another."""
        stack: list[tuple[State, bool]] = []
        here, array, child = self._root, True, self._root
        inside: tuple[int, Found] | None = None
        allowed = TOKENS + len(body) // 16
        for token in self._tokens.finditer(body):
            allowed -= 1
            if not allowed:
                raise ValueError("more brackets than content")
            kind = token.lastindex or 0
            if kind == CLOSING:
                here, array, child = self._left(stack)
                if inside is not None and inside[0] == len(stack):
                    inside[1].end = token.end()
                    yield inside[1]
                    inside = None
                continue
            start = value = token.start(kind)
            if kind <= MEMBER_OPENING:
                start = token.start(1)
                if inside is None:
                    child = self._step(here, token[1])
            found = None
            if inside is None and child.hit is not None:
                found = Found(start, value, token.end(), self._targets[child.hit][1])
            if kind not in (MEMBER_OPENING, OPENING):
                if found is not None:
                    yield found
                continue
            if found is not None:
                inside = len(stack), found
            stack.append((here, array))
            here, array = child, body[value] == 91
            if array and inside is None:
                child = self._follow(here, None)

    def _left(self, stack: list[tuple[State, bool]]) -> tuple[State, bool, State]:
        here, array = stack.pop()
        return here, array, (self._follow(here, None) if array and stack else here)

    def _step(self, here: State, token: bytes) -> State:
        if here.dead:
            return here
        name: str = msgspec.json.decode(token, type=str)
        if self._folds:
            name = _lower(name)
        return self._follow(here, name if name in self._names else OTHER)

    def _follow(self, here: State, name: str | None) -> State:
        """Where a member leads, or, with None, an element. `OTHER` stands for all names that no path has."""
        state = here.next.get(name)
        if state is None:
            state = self._state(frozenset(self._led(here.steps, name)))
            here.next[name] = state
        return state

    def _led(self, steps: Steps, name: str | None) -> Iterator[tuple[int, int]]:
        for index, count in steps:
            path = self._targets[index][0]
            if count < len(path):
                segment = path[count]
                if segment.deep:
                    yield index, count
                if segment.name is None or segment.name == name:
                    yield index, count + 1

    def _state(self, steps: Steps) -> State:
        state = self._states.get(steps)
        if state is None:
            if len(self._states) >= MAX_STATES:
                for each in self._states.values():
                    each.next.clear()
                self._states.clear()
            state = self._states[steps] = State(steps, self._targets)
        return state

    def _skipped(self) -> bytes:
        """A pattern for what no path can name: members with other names, and elements that hold no member."""
        blanks = rb"[ \t\n\r,]*+"
        if any(path[-1].name is None for path, _ in self._targets):
            return blanks
        names = b"|".join(re.escape(name.encode()) for name in sorted(self._names))
        flag = b"(?i:" if self._folds else b"(?:"
        scalar = rb'(?:"[^"\\]*+"|' + SCALAR + rb")"
        flat = rb"(?:" + scalar + rb"|\[(?:" + BLANK + scalar + BLANK + rb",?){0,64}\]|\{" + BLANK + rb"\})"
        member = rb'"(?!' + flag + names + rb')")[^"\\]*+"' + COLON + flat
        element = flat + rb"(?=" + BLANK + rb"[,\]])"
        # Not possessive, as Python 3.11.4 and before lose their place in such a group (gh-106052); and with a bound,
        # because each turn takes memory that is not given back before the end.
        return blanks + rb"(?:(?:" + member + rb"|" + element + rb")" + blanks + rb"){0,64}"


def _lower(name: str) -> str:
    """ASCII letters alone: other cases depend on the language."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def _folded(path: Path) -> Path:
    return tuple(each._replace(name=_lower(each.name)) if each.name is not None else each for each in path)


def splice(body: bytes, found: Iterator[Found]) -> tuple[bytes, int]:
    """The document with every value that was found replaced or taken out, and how many there were."""
    out: list[bytes] = []
    at = count = 0
    for each in found:
        count += 1
        if each.way is not None:
            out += body[at : each.value], each.way.call(body[each.value : each.end])
            at = each.end
            continue
        start, end = _cut(body, each.start, each.end, at)
        out.append(body[at:start])
        at = end
    if not count:
        return body, 0
    out.append(body[at:])
    return b"".join(out), count


def _cut(body: bytes, start: int, end: int, done: int) -> tuple[int, int]:
    """What to leave out so that one comma goes with a member: the one before it, or else the one behind.

    Up to `done` everything was left out or written already: what begins there comes first, even behind a comma.
    """
    before = start
    while before > done and body[before - 1] in b" \t\n\r":
        before -= 1
    if before > done and body[before - 1] == 44:
        return before - 1, end
    behind = end
    while body[behind] in b" \t\n\r":
        behind += 1
    return (start, behind + 1) if body[behind] == 44 else (start, end)
