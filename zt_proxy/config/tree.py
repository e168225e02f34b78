"""YAML text to plain values that know where they stood.

The text is composed to nodes by ruamel.yaml (YAML 1.2) and turned into values here, so that every key keeps its place,
duplicate keys are seen, and what a configuration never needs (tags, merge keys, alias bombs) is refused.
"""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from zt_proxy.config.problems import START, Collector, Mark

MAX_BYTES = 4 * 1024 * 1024
MAX_VALUES = 200_000
MAX_DEPTH = 24
_PARSER_FAULTS = (
    YAMLError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)
_CORE = "tag:yaml.org,2002:"
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class Mapping(dict[str, Any]):
    """A mapping with the places of its keys and values. Its repr tells nothing: the values may be secret."""

    __slots__ = ("at", "damaged", "keys_at", "values_at")

    def __init__(self, at: Mark) -> None:
        super().__init__()
        self.at = at
        self.keys_at: dict[str, Mark] = {}
        self.values_at: dict[str, Mark] = {}
        self.damaged = False
        """Something below was wrong and has been taken out: silence about what is missing."""

    def __repr__(self) -> str:
        return f"Mapping({', '.join(self)})"


class Sequence(list[Any]):
    """A list with the places of its items."""

    __slots__ = ("at", "damaged", "items_at")

    def __init__(self, at: Mark) -> None:
        super().__init__()
        self.at = at
        self.items_at: list[Mark] = []
        self.damaged = False

    def __repr__(self) -> str:
        return f"Sequence({len(self)} items)"


class _TooMuch(Exception):
    """The file expands to more than a configuration can need."""

    def __init__(self, message: str, at: Mark) -> None:
        super().__init__(message)
        self.at = at


def parse(text: str, problems: Collector) -> Mapping | None:
    """The top-level mapping, or None when there is none to speak of. Never raises for bad text."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        problems.error(START, "the file is larger than 4 MiB")
        return None
    try:
        node = YAML(typ="rt", pure=True).compose(text)
        if node is None:
            problems.error(START, "the file is empty", "a mapping that begins with `version: 1`")
            return None
        tree = _Reader(problems).value(node, 0)
    except _TooMuch as error:
        problems.error(error.at, str(error))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ": ".join(str(part) for part in (error.context, error.problem) if part)
        # The parser quotes what it stumbled over, which may be a secret written without quotes.
        message = _QUOTED.sub(_harmless, said.splitlines()[0] if said else "cannot be parsed")
        begun = _mark(error.context_mark) if error.context_mark and error.problem_mark else None
        hint = f"begun at line {begun.line}, column {begun.column}" if begun else ""
        problems.error(_mark(mark) if mark else START, f"not valid YAML: {message}", hint=hint)
    except RecursionError:
        problems.error(START, f"nested deeper than {MAX_DEPTH} levels")
    except _PARSER_FAULTS as error:
        # ruamel raises these on some malformed escapes and directives; their text is not fit to print.
        problems.error(_reader_mark(text, error), f"not valid YAML ({type(error).__name__})")
    else:
        if isinstance(tree, Mapping):
            return tree
        problems.error(_mark(node.start_mark), "the file is not a mapping", "a mapping that begins with `version: 1`")
    return None


def read_text(path: Path, problems: Collector) -> str | None:
    """The file as UTF-8 text; None, with the problem told, when it cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        problems.error(START, f"cannot be read: {error.strerror or type(error).__name__}")
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        at = Mark(before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        problems.error(at, "not UTF-8 text")
        return None


def _harmless(quoted: re.Match[str]) -> str:
    """Single characters and the parser's own `<token names>` stay; anything else might be a secret."""
    inside = quoted[0][1:-1]
    return quoted[0] if len(inside) <= 1 or (inside.startswith("<") and inside.endswith(">")) else "…"


class _Reader:
    """Turns nodes into values, telling problems on the way."""

    def __init__(self, problems: Collector) -> None:
        self._problems = problems
        self._count = 0

    def value(self, node: Node, depth: int) -> Any:
        self._count += 1
        at = _mark(node.start_mark)
        if self._count > MAX_VALUES:
            raise _TooMuch(f"aliases expand the file to more than {MAX_VALUES} values", at)
        if depth > MAX_DEPTH:
            raise _TooMuch(f"nested deeper than {MAX_DEPTH} levels", at)
        if isinstance(node, MappingNode):
            return self._mapping(node, at, depth)
        if isinstance(node, SequenceNode):
            return self._sequence(node, at, depth)
        assert isinstance(node, ScalarNode)
        return self._scalar(node, at)

    def _mapping(self, node: MappingNode, at: Mark, depth: int) -> Mapping:
        self._refuse_tag(node, at, "map")
        mapping = Mapping(at)
        for key_node, value_node in node.value:
            key_at = _mark(key_node.start_mark)
            if not isinstance(key_node, ScalarNode):
                self._problems.error(key_at, "a key must be a word, not a list or a mapping")
                mapping.damaged = True
                continue
            key = str(key_node.value)
            if key == "<<" and not key_node.style:
                self._problems.error(key_at, "merge keys (`<<`) are not supported", "the keys written out")
                mapping.damaged = True
                continue
            if key in mapping:
                first = mapping.keys_at[key]
                self._problems.error(
                    key_at, f"the key `{key}` is repeated", hint=f"first at line {first.line}, column {first.column}"
                )
                continue
            mapping[key] = self.value(value_node, depth + 1)
            mapping.keys_at[key] = key_at
            mapping.values_at[key] = _mark(value_node.start_mark)
            if mapping[key] is None:
                self._problems.error(key_at, f"nothing is written after `{key}:`", hint="leave the key out instead")
        return mapping

    def _sequence(self, node: SequenceNode, at: Mark, depth: int) -> Sequence:
        self._refuse_tag(node, at, "seq")
        sequence = Sequence(at)
        for item_node in node.value:
            item = self.value(item_node, depth + 1)
            item_at = _mark(item_node.start_mark)
            if item is None:
                self._problems.error(item_at, "an empty item in a list")
            sequence.append(item)
            sequence.items_at.append(item_at)
        return sequence

    def _scalar(self, node: ScalarNode, at: Mark) -> Any:
        tag, text = str(node.tag).removeprefix(_CORE), str(node.value)
        if node.style:  # quoted or a block: a string, unless a tag insists on something else
            self._refuse_tag(node, at, "str")
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        if tag in {"int", "float"}:
            return _number(text)
        if tag not in {"str", "timestamp", "value", "merge"}:
            self._refuse_tag(node, at, "str")
        return text

    def _refuse_tag(self, node: Node, at: Mark, allowed: str) -> None:
        if str(node.tag) not in {_CORE + allowed, "!"}:
            self._problems.error(at, "YAML tags (`!…`) are not supported")


def _number(text: str) -> int | float | str:
    for read in (lambda: int(text), lambda: int(text, 0), lambda: float(text)):
        try:
            number: int | float = read()
        except (ValueError, OverflowError):
            continue
        return number
    return text


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _reader_mark(text: str, error: Exception) -> Mark:
    """Where a ReaderError (a character YAML does not allow) stands."""
    position = getattr(error, "position", None)
    if not isinstance(position, int):
        return START
    before = text[:position]
    return Mark(before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)
