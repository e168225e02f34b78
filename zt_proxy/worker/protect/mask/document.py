"""One JSON document, or one on each line, with what a reader may not see replaced. No IO.

The document is found valid first, in C, and then changed in place. Names that are masked at any depth (`$..iban`) are
looked for as bytes: in a valid document `"iban"` with no backslash before it is that name or that text and nothing
else, since between two texts there is always one of `,:[]{}`. All other paths go through the scanner.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from zt_proxy.worker.protect.mask.paths import Path, Segment
from zt_proxy.worker.protect.mask.scan import COLON, SCALAR, STRING, Found, Scanner, Target, splice
from zt_proxy.worker.protect.mask.ways import LEAST, Way

BOM = b"\xef\xbb\xbf"
PARSED = 256 * 1024
"""Larger documents are never parsed as a whole: objects take up to forty times their text."""
UNSEEN = re.compile(r'[^,:\[\]{}"\\/\x00-\x1f]+')
"""Names that are found as bytes."""
ASCII_ESCAPED = re.compile(rb"\\u00[2-7]")

_VALUE = re.compile(COLON + rb"(" + STRING + rb"|" + SCALAR + rb")", re.DOTALL)
_COLON = re.compile(COLON)
_raw = msgspec.json.Decoder(msgspec.Raw)


class Unreadable(ValueError):
    """Not JSON, or not as everybody would read it. Its text quotes nothing of the document."""


class Editor:
    """Everything that one reader may not see, ready for use on any number of documents."""

    def __init__(self, targets: Sequence[Target], folding: Sequence[Target] = ()) -> None:
        """`folding` are targets whose names match in either case (ASCII). Earlier ones count where two name a value."""
        ends = [_end(path) for path, _ in (*targets, *folding)]
        alone = {path for path, _ in targets if None not in ends and ends.count(_end(path)) == 1}
        quick = [target for target in targets if target[0] in alone and _by_bytes(target[0]) and len(target[0]) == 1]
        rest = [target for target in targets if target not in quick]
        known = all(path in alone and _by_bytes(path) and not any(each.deep for each in path) for path, _ in rest)
        self._rooted = [(path, _Name(path[-1].name or "", way)) for path, way in rest] if known and not folding else []
        self._quick = [_Name(path[-1].name or "", way) for path, way in quick]
        self._scanners = [Scanner(each, folds=folds) for each, folds in ((rest, False), (list(folding), True)) if each]

    def edit(self, body: bytes, *, lines: bool = False) -> tuple[bytes, int]:
        """The document without what may not be seen, and how many values were masked. `lines`: one on each line.

        Raises Unreadable for what is no JSON in UTF-8, also where escapes stand for halves of characters.
        """
        mark = BOM if body.startswith(BOM) else b""
        if mark:
            body = body[len(mark) :]
        validate(body, lines=lines)
        escapes = b"\\" in body
        plain = not escapes and body.isascii()
        count = 0
        for name in self._quick:
            body, masked = name.edit(body, escapes=escapes, plain=plain)
            count += masked
        if self._rooted and plain and not lines and self._wherever_named(body):
            for _, name in self._rooted:
                body, masked = name.edit(body, escapes=False, plain=True)
                count += masked
            return mark + body if mark else body, count
        for scanner in self._scanners:
            try:
                body, masked = splice(body, scanner.find(body))
            except ValueError as error:
                raise Unreadable(str(error)) from None
            count += masked
        return mark + body if mark else body, count

    def _wherever_named(self, body: bytes) -> bool:
        """Each path from the root names every place of its last name: they can be found as bytes, too.

        Each value in the parsed document stands somewhere in the text, and of names that are repeated the parser keeps
        one: with equal numbers there is no place that the path does not name.
        """
        counts = [body.count(name.token) for _, name in self._rooted]
        if not any(counts):
            return True
        if len(body) > PARSED:
            return False
        try:
            root = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):  # such as a number beyond what Python has
            return False
        return all(named(root, path) == count for (path, _), count in zip(self._rooted, counts, strict=True))


def named(root: object, path: Path) -> int:
    """How many values a path without `..` names in a parsed document."""
    level = [root]
    for segment in path[:-1]:
        if segment.name is None:
            level = [each for node in level for each in _children(node)]
        else:
            level = [node[segment.name] for node in level if isinstance(node, dict) and segment.name in node]
    last = path[-1].name
    return sum(1 for node in level if isinstance(node, dict) and last in node)


def _children(node: object) -> Iterable[object]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def validate(body: bytes, *, lines: bool = False) -> None:
    """Raises Unreadable for what is not valid, or nested too deep. With `lines` blank ones are let pass."""
    try:
        if not body.isascii():
            str(body, "utf-8")  # the decoder checks only texts that it makes
        if not lines:
            _raw.decode(body)
            return
        for line in body.split(b"\n"):
            if line.strip(b" \t\r"):
                _raw.decode(line)
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable("nested too deep" if isinstance(error, RecursionError) else "not valid JSON") from None


class _Name:
    """One name that is masked wherever it stands."""

    def __init__(self, name: str, way: Way | None) -> None:
        self._way = way
        self.token = b'"%b"' % name.encode()
        self._ascii = name.isascii()
        self._scanner = Scanner([((_anywhere(name),), way)])

    def edit(self, body: bytes, *, escapes: bool, plain: bool) -> tuple[bytes, int]:
        """`escapes`: there are backslashes. `plain`: there is nothing but ASCII, nor are there any."""
        if escapes and b"\\u" in body and (not self._ascii or ASCII_ESCAPED.search(body)):
            return splice(body, self._scanner.find(body))  # the name may be spelled with escapes
        way = self._way
        if way is None:
            done = self._cut(body)
        else:
            parts = body.split(self.token)
            if len(parts) == 1:
                return body, 0
            done = self._replace_plain(parts, way) if plain else self._replace(parts, way, escapes)
        return splice(body, self._scanner.find(body)) if done is None else done

    def _replace_plain(self, parts: list[bytes], way: Way) -> tuple[bytes, int] | None:
        """As `_replace`, for documents as programs write them: the time of a request is spent here."""
        rest = iter(parts)
        out = [next(rest)]
        add, call, shows, slow = out.append, way.call, way.shows, self._part
        count = len(parts) - 1
        for part in rest:
            if part[:2] == b':"':
                end = part.find(b'"', 2)
                if shows is not None:
                    add(b':"****' + part[end - shows :] if end >= LEAST + 2 else b':"****' + part[end:])
                else:
                    add(b":" + call(part[1 : end + 1]) + part[end + 1 :])
                continue
            end = part.find(b",")
            digits = part[1:end]
            if digits.isdigit() and part[:1] == b":":
                add(b":" + call(digits) + part[end:])
                continue
            changed = slow(part, call)
            if changed is None:
                return None
            if changed is part:
                count -= 1
            add(changed)
        return self.token.join(out), count

    def _replace(self, parts: list[bytes], way: Way, escapes: bool) -> tuple[bytes, int] | None:
        """What stands behind each place of the name, changed; None: see `_part`."""
        out, count = parts[:1], 0
        for before, part in itertools.pairwise(parts):
            if escapes and before.endswith(b"\\"):
                out.append(part)  # the end of a longer text
                continue
            changed = self._part(part, way.call)
            if changed is None:
                return None
            count += changed is not part
            out.append(changed)
        return self.token.join(out), count

    def _part(self, part: bytes, call: Callable[[bytes], bytes]) -> bytes | None:
        """What follows the name, with its value replaced; `part` itself: it is a text, not a name.

        None: an object or an array stands under the name, whose end takes a scanner to find.
        """
        found = _VALUE.match(part)
        if found is None:
            return None if _COLON.match(part) else part
        start, end = found.span(1)
        return part[:start] + call(part[start:end]) + part[end:]

    def _cut(self, body: bytes) -> tuple[bytes, int] | None:
        found = list(self._members(body))
        return None if None in found else splice(body, iter([each for each in found if each is not None]))

    def _members(self, body: bytes) -> Iterator[Found | None]:
        token = self.token
        at = body.find(token)
        while at >= 0:
            end = at + len(token)
            if body[at - 1] != 92:
                value = _VALUE.match(body, end)
                if value is not None:
                    yield Found(at, value.start(1), value.end(), None)
                elif _COLON.match(body, end):
                    yield None
                    return
            at = body.find(token, end)


def _anywhere(name: str) -> Segment:
    return Segment(name, deep=True)


def _by_bytes(path: Path) -> bool:
    """The last name can be looked for as bytes; if nothing else counts, the path names it wherever it stands."""
    name = path[-1].name
    return name is not None and UNSEEN.fullmatch(name) is not None and (len(path) > 1 or path[0].deep)


def _end(path: Path) -> str | None:
    name = path[-1].name
    return None if name is None else name.lower()
